"""A board: where the worker processes of one server leave their reports for each other.

A server with several workers, and without a broadcaster, asks any one of them for status and
metrics. Each worker writes its report into a file once a second, and whoever is asked reads them
all. What a worker has counted stays on the board when it ends, so that no sum goes back; the board
ends with the server.

It is a directory of this user alone. A report that cannot be read, or is of another release, is
left out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pushdemo.push.every import Every
from pushdemo.push.private import make_private, users_directory
from pushdemo.push.status import VERSION

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two reports
MOST = 64 * 1024 * 1024  # bytes of one


class Board:
    """See the module.

    report: makes this process's.
    server: the id of the process that has started the workers.
    """

    def __init__(
        self, report: Callable[[], dict[str, Any]], server: int, base: Path | None = None
    ) -> None:
        self._report = report
        self._users = base or users_directory()
        self._base = self._users / "boards"
        self._directory = self._base / _name_of(server)
        self._file = self._directory / _name_of(os.getpid())
        self._posted = b""
        self._lock = threading.Lock()
        self._every = Every("pushdemo-board", INTERVAL, self.post)

    def begin(self) -> None:
        """Post from now on. Raises OSError."""
        make_private(self._users)
        self._directory.mkdir(0o700, parents=True, exist_ok=True)
        self._remove_old()
        self.post()
        self._every.begin()

    def close(self) -> None:
        """With a last report."""
        self._every.stop()
        with contextlib.suppress(OSError):
            self.post()

    def post(self) -> dict[str, Any]:
        """Write the report, if it is another one; returns it. Raises OSError."""
        report = self._report()
        posted = json.dumps(report, separators=(",", ":")).encode()
        with self._lock:
            if posted != self._posted:
                new = self._file.with_suffix(".new")
                new.write_bytes(posted)
                new.replace(self._file)
                self._posted = posted
        return report

    def all(self) -> list[dict[str, Any]]:
        """This worker's report and those of the others. Who is told a number by this worker, and
        then asks another one, is told no smaller one: nothing is said that was not posted before.
        Raises OSError."""
        return [self.post(), *self.others()]

    def others(self) -> Iterator[dict[str, Any]]:
        """The reports of the other workers; that of one that has ended has `gone`, true."""
        try:
            files = sorted(self._directory.iterdir())
        except OSError:
            return
        for file in files:
            if file == self._file or file.suffix:
                continue
            try:
                if file.stat().st_size > MOST:
                    continue
                report = json.loads(file.read_bytes())
            except (OSError, ValueError) as error:
                log.debug("the report %s is left out: %s", file, error)
                continue
            if isinstance(report, dict) and report.get("version") == VERSION:
                yield report if _lives(file.name) else {**report, "gone": True}

    def _remove_old(self) -> None:
        """The boards of servers that have ended."""
        for directory in self._base.iterdir():
            if not _lives(directory.name):
                shutil.rmtree(directory, ignore_errors=True)


def _name_of(process: int) -> str:
    """Of a process, and of no other that gets its number later."""
    return f"{process}-{_started(process)}"


def _lives(name: str) -> bool:
    number = name.partition("-")[0]
    return number.isdigit() and name == _name_of(int(number))


def _started(process: int) -> str:
    """When, in the system's own unit; empty where there is no such process."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except OSError:
            pass
        return "running"  # a system without /proc
    # A zombie has ended, although it has its number still.
    return "" if fields[0] in "ZX" else fields[19]
