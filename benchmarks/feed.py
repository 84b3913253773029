"""The feed that is measured: each value says when it was computed, and how many were before it."""

from __future__ import annotations

import itertools
import os
import time

# The variable with which whoever starts the server says how long a value is to be, in bytes.
PAYLOAD = "PUSHDEMO_BENCH_PAYLOAD"

_number = itertools.count(1)


def stamp() -> str:
    """`NANOSECONDS NUMBER xxx…`, the nanoseconds of the monotonic clock, which on one machine is
    the same for all processes. A call that was one too many shows as a number left out."""
    text = f"{time.monotonic_ns()} {next(_number)} "
    return text.ljust(int(os.environ.get(PAYLOAD, "0")), "x")
