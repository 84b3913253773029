"""SIGHUP: a server starts its successor, which loads the application anew and takes over.

The successor is the same program, with the same arguments and PUSHDEMO_TAKE_OVER in its
environment. Where it cannot start, or does not come to take over, this process goes on as if
nothing had been.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from pushdemo.handover import guardian, readiness

log = logging.getLogger(__name__)

VARIABLE = guardian.VARIABLE


def take_over_asked() -> bool:
    """Whether this process was started to take over from another. It is told once: its own children
    are not."""
    return os.environ.pop(VARIABLE, "") == "1"


class Reload:
    """The successor of this process, one at a time."""

    def __init__(self) -> None:
        # As it was started: the application may change its directory.
        self._command = [sys.executable, *sys.orig_argv[1:]]
        self._directory = os.getcwd()
        self._asked = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = False

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """Have SIGHUP start a successor. In the main thread."""
        if not hasattr(signal, "SIGHUP"):
            yield
            return
        # A thread starts it: a handler runs between any two instructions of this one.
        threading.Thread(target=self._run, name="pushdemo-reload", daemon=True).start()
        signal.signal(signal.SIGHUP, lambda *_: self._asked.set())
        yield

    def guard(self, successor: int | None) -> None:
        """When this process has nothing more to do: stay, as its guardian, if the successor is its
        own. Returns if it is not."""
        self._ended = True
        child = self._child
        if child is None or successor != child.pid:
            return
        log.info("process %d serves now, and this one passes signals on to it", child.pid)
        for number in guardian.PASSED:
            signal.signal(number, lambda number, _: os.kill(child.pid, number))
        signal.pthread_sigmask(signal.SIG_BLOCK, guardian.AWAITED)
        again = "1" if self._asked.is_set() else "0"
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os.chdir(self._directory)
        program = [sys.executable, "-I", "-S", guardian.__file__]
        os.execv(sys.executable, [*program, str(child.pid), again, *self._command])

    def _run(self) -> None:
        while not self._ended:
            self._asked.wait()
            self._asked.clear()
            try:
                self._start_one()
            except Exception as error:
                log.error("no new process can be started, and this one goes on: %s", error)

    def _start_one(self) -> None:
        environ = {**os.environ, VARIABLE: "1"}
        environ.pop(readiness.VARIABLE, None)  # who waits for that knows this process
        child = subprocess.Popen(self._command, cwd=self._directory, env=environ)
        self._child = child
        log.info("process %d is to take over", child.pid)
        code = child.wait()
        if not self._ended:
            log.error("the new process ended (%s), and this one goes on",
                      f"exit code {code}" if code >= 0 else f"signal {-code}")  # fmt: skip
