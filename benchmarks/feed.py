"""The feed that is measured: each value says when it was computed, and how many were before it."""

from __future__ import annotations

import itertools
import os
import random
import time

# The variable with which whoever starts the server says how long a value is to be, in bytes.
PAYLOAD = "PUSHDEMO_BENCH_PAYLOAD"

_number = itertools.count(1)
# Such as a table of prices has it: some of it repeats, much does not. A megabyte.
_random = random.Random(0)
_FILLER = "".join(
    f"{_random.choice('ABCDEFGH')}{_random.choice('XYZ')} {_random.randrange(10**6) / 100:.2f} "
    f"{_random.randrange(100)}00, "
    for _ in range(64 * 1024)
)


def busy() -> str:
    """Two seconds of pure Python."""
    began = time.thread_time()
    while time.thread_time() - began < 2:
        pass
    return "done"


def stamp() -> str:
    """`NANOSECONDS NUMBER …`, the nanoseconds of the monotonic clock, which on one machine is
    the same for all processes. A call that was one too many shows as a number left out."""
    text = f"{time.monotonic_ns()} {next(_number)} "
    return text + _FILLER[: max(0, int(os.environ.get(PAYLOAD, "0")) - len(text))]
