"""The feed that is measured: each value says when it was computed, and how many were before it."""

from __future__ import annotations

import itertools
import random
import threading
import time

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


def keep_busy() -> None:
    """Compute from now on, in a thread of this process, as a feed would that takes long."""

    def compute() -> None:
        while True:
            busy()

    threading.Thread(target=compute, daemon=True).start()


def stamp(size: int | str = 0) -> str:
    """`~NANOSECONDS NUMBER …~`, the nanoseconds of the monotonic clock, which on one machine is
    the same for all processes. A call that was one too many shows as a number left out.

    size: of the value in bytes, at least that of the stamp.
    """
    text = f"~{time.monotonic_ns()} {next(_number)} "
    return f"{text}{_FILLER[: max(0, int(size) - len(text) - 1)]}~"
