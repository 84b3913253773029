"""What every contestant does in the same way: its options, its limits, its beat."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.clients import raise_descriptor_limit
from benchmarks.feed import keep_busy

HOST = "127.0.0.1"
PATH = "/feed"
# Connections that may wait to be accepted: as many as Linux allows unless it is told otherwise.
BACKLOG = 4096
HEADERS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]


# The same options for an application, whose server has the command line.
_INTERVAL, _SIZE, _BUSY = "CONTEST_INTERVAL", "CONTEST_SIZE", "CONTEST_BUSY"


class Options(NamedTuple):
    """interval: seconds from one value to the next.
    size: of a value, in bytes.
    busy: to compute all the time.
    """

    interval: float
    size: int
    busy: bool

    def environment(self) -> dict[str, str]:
        """For `of_environment`."""
        return {_INTERVAL: str(self.interval), _SIZE: str(self.size), _BUSY: "1" * self.busy}


def of_environment() -> Options:
    """The options of an application."""
    interval, size, busy = (os.environ[name] for name in (_INTERVAL, _SIZE, _BUSY))
    return Options(float(interval), int(size), bool(busy))


def begin() -> Options:
    """Read the arguments, raise the limit of descriptors and, if asked to, keep computing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two values")
    parser.add_argument("--size", type=int, default=250, help="bytes of a value")
    parser.add_argument(
        "--busy", action="store_true", help="with a thread that computes in pure Python"
    )
    arguments = parser.parse_args()
    raise_descriptor_limit()
    if arguments.busy:
        keep_busy()
    return Options(arguments.interval, arguments.size, arguments.busy)


def listening(port: int) -> None:
    """Tell whoever started this program where it is."""
    print(f"serving on http://{HOST}:{port}{PATH}", flush=True)


def pauses(interval: float) -> Iterator[float]:
    """How many seconds to sleep before each next value, so that the beat does not drift.

    A beat that has passed by then is left out: a server that is late anyway is not also given a
    pile of values at once.
    """
    due = time.monotonic()
    while True:
        missed = math.ceil((time.monotonic() - due) / interval)
        due += interval * max(1, missed)
        yield max(0.0, due - time.monotonic())


def event(value: str) -> bytes:
    """`value`, which is one line, as an event, for servers that have no word for one."""
    return f"data: {value}\n\n".encode()
