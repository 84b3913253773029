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
from collections.abc import Callable

from pushdemo.handover import guardian, readiness

log = logging.getLogger(__name__)

VARIABLE = guardian.VARIABLE


# What it is where nobody says from whom.
WHOEVER = ""


def take_over_asked() -> str | None:
    """Whether this process was started to take over from another, and if so, at which address that
    one listens; WHOEVER where that is not said. It is told once: its own children are not."""
    return os.environ.pop(VARIABLE, None)


def is_reload() -> bool:
    """Whether another process has started this one to be its successor."""
    return bool(os.environ.get(VARIABLE))


class Reload:
    """The successor of this process, one at a time.

    address: where it takes over from this one.
    """

    def __init__(self, address: str) -> None:
        # As it was started: the application may change its directory.
        self._command = [sys.executable, *sys.orig_argv[1:]]
        self._directory = os.getcwd()
        self._has_terminal = _has_terminal()
        self._address = address
        self._why_not = ""
        self._asked = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._stopped = False

    def cannot(self, why: str) -> None:
        """There can be no successor: SIGHUP has this logged."""
        self._why_not = why

    def await_signal(self) -> None:
        """Have SIGHUP ask for a successor, which is started when this process serves. In the main
        thread; in another one it does nothing."""
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, lambda *_: self._asked.set())

    def serves(self, stop: Callable[[], None]) -> None:
        """This process can be taken over from now on.

        stop: called where the signal means that the terminal of this process has gone.
        """
        # A thread starts the successor: a handler runs between any two instructions of another.
        threading.Thread(
            target=self._run, args=(stop,), name="pushdemo-reload", daemon=True
        ).start()

    def noting(self, stop: Callable[[], None]) -> Callable[[], None]:
        """The same function, for the signals that end this process: a successor of its own is ended
        with it."""

        def note() -> None:
            self._stopped = True
            stop()

        return note

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
        if self._stopped:
            os.kill(child.pid, signal.SIGTERM)
        again = "1" if self._asked.is_set() else "0"
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os.chdir(self._directory)
        program = [sys.executable, "-I", "-S", guardian.__file__]
        arguments = [str(child.pid), again, self._address, *self._command]
        os.execv(sys.executable, [*program, *arguments])

    def _run(self, stop: Callable[[], None]) -> None:
        while not self._ended:
            self._asked.wait()
            self._asked.clear()
            try:
                self._act(stop)
            except Exception as error:
                self._report(f"no new process can be started: {error}")

    def _act(self, stop: Callable[[], None]) -> None:
        if self._has_terminal and not _has_terminal():
            log.info("the terminal has gone")
            stop()
        elif self._why_not:
            self._report(self._why_not)
        else:
            self._start()

    def _start(self) -> None:
        environ = {**os.environ, VARIABLE: self._address}
        child = subprocess.Popen(self._command, cwd=self._directory, env=environ)
        self._child = child
        log.info("process %d is to take over", child.pid)
        code = child.wait()
        if not self._ended:
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            self._report(f"the new process ended ({how})")

    def _report(self, why: str) -> None:
        if not self._ended:
            log.error("nothing was reloaded, and this process goes on: %s", why)
            with contextlib.suppress(OSError):
                readiness.say_not_reloaded()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
