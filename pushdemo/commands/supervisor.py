"""A supervisor: starts the broadcaster, then the server, and ends both when one has ended.

Signals are blocked and waited for, and not handled: so a signal is seen together with its sender.
What the kernel sends comes from the terminal (Ctrl-C, its window, its end), and the server, which
is in the same process group, has got it as well: it is not passed on a second time. The broadcaster
is in a session of its own, and gets only what the supervisor sends it, after the server has ended.

Where the supervisor is killed, the kernel sends SIGTERM to both (PR_SET_PDEATHSIG, in Linux). A
pipe that is closed then would tell the broadcaster only: a server does not know of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from signal import Signals
from typing import Any, NamedTuple

from pushdemo.handover import readiness

log = logging.getLogger(__name__)

# For the server. What these do is its own decision; that it has ended is seen afterwards.
PASSED_ON = {
    Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGHUP, Signals.SIGUSR1,
    Signals.SIGUSR2, Signals.SIGWINCH, Signals.SIGTTIN, Signals.SIGTTOU,
}  # fmt: skip
ENDING = {Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGHUP}  # before it is there
HURRYING = {Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT}  # afterwards
AWAITED = PASSED_ON | {Signals.SIGCHLD}

LOOK = 0.05  # seconds between two looks whether the broadcaster is ready
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes, as shells have them
_PR_SET_PDEATHSIG = 1
LONGEST_LOOK = 1.0
LONGEST_RELOAD = 60.0  # seconds for an application to load

Process = subprocess.Popen[bytes]


class Command(NamedTuple):
    """What to start, and its environment."""

    arguments: Sequence[str]
    environ: Mapping[str, str]

    def start(self, **options: Any) -> Process:
        """Raises OSError."""
        return subprocess.Popen(self.arguments, env=self.environ, **options)


class Supervisor:
    """Runs two commands, each with its environment.

    ready: a datagram socket that does not block; something arrives when the broadcaster is ready.
    grace: seconds for one to end after the other has, before it is killed.
    """

    def __init__(
        self,
        broadcaster: Command,
        server: Command,
        *,
        ready: socket.socket,
        grace: float,
    ) -> None:
        self._broadcaster = broadcaster
        self._server = server
        self._ready = ready
        self._grace = grace

    def run(self) -> int:
        """Returns the exit code: the server's, 128 + N where signal N ended it; 1 where the
        broadcaster ended first, whatever the server's."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
        try:
            return self._supervise(_dying_with_parent(before))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _supervise(self, in_child: Callable[[], None]) -> int:
        broadcaster = self._broadcaster.start(
            preexec_fn=in_child, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            code = self._wait_until_ready(broadcaster)
            return self._serve(broadcaster, in_child) if code is None else code
        finally:
            self._end(broadcaster)

    def _serve(self, broadcaster: Process, in_child: Callable[[], None]) -> int:
        try:
            server = self._server.start(preexec_fn=in_child)
        except OSError as error:
            log.error("cannot start %s: %s", self._server.arguments[0], error.strerror)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        try:
            while server.poll() is None:
                if broadcaster.poll() is not None:
                    log.error("the broadcaster has ended (%d), and so the server is stopped",
                              _exit_code(broadcaster))  # fmt: skip
                    return 1
                received = signal.sigwaitinfo(AWAITED)
                if not _asks_for_reload(received):
                    self._pass_on(received, server)
                    continue
                while self._reload(broadcaster, server):
                    pass
            return _exit_code(server)
        finally:
            self._end(server)

    def _reload(self, broadcaster: Process, server: Process) -> bool:
        """Have the broadcaster load the application anew, and then the server. An application that
        does not load any more is left to neither. Returns whether that was asked for again."""
        again = False
        broadcaster.send_signal(Signals.SIGHUP)
        deadline = time.monotonic() + LONGEST_RELOAD
        while broadcaster.poll() is None and server.poll() is None:
            with contextlib.suppress(BlockingIOError):
                if self._ready.recv(1024) != readiness.NOT_RELOADED:
                    server.send_signal(Signals.SIGHUP)
                return again
            if time.monotonic() >= deadline:
                log.error("the broadcaster was not reloaded in %g s, nor is the server",
                          LONGEST_RELOAD)  # fmt: skip
                return again
            received = signal.sigtimedwait(AWAITED, LOOK)
            if received is not None and _asks_for_reload(received):
                again = True
            elif received is not None:
                self._pass_on(received, server)
        return False

    def _wait_until_ready(self, broadcaster: Process) -> int | None:
        """An exit code, where it comes to nothing."""
        while True:
            with contextlib.suppress(BlockingIOError):
                self._ready.recv(1024)
                return None
            if broadcaster.poll() is not None:
                return _exit_code(broadcaster) or 1  # it has said why
            received = signal.sigtimedwait(AWAITED, LOOK)
            if received is not None and received.si_signo in ENDING:
                return 128 + received.si_signo

    @staticmethod
    def _pass_on(received: signal.struct_siginfo, server: Process) -> None:
        """Give the server a signal that it has not got from the terminal itself."""
        if received.si_signo in PASSED_ON and received.si_code <= 0:  # a process has sent it
            server.send_signal(received.si_signo)

    def _end(self, process: Process) -> None:
        """Have it end, after its grace by force. A second signal to end takes the grace away."""
        if process.poll() is None:
            process.terminate()
        deadline = time.monotonic() + self._grace
        while process.poll() is None:
            left = deadline - time.monotonic()
            received = signal.sigtimedwait(AWAITED, min(left, LONGEST_LOOK)) if left > 0 else None
            if left <= 0 or (received is not None and received.si_signo in HURRYING):
                process.kill()
                process.wait()


def _asks_for_reload(received: signal.struct_siginfo) -> bool:
    return received.si_signo == Signals.SIGHUP and received.si_code <= 0  # a process has sent it


def _exit_code(process: Process) -> int:
    """As a shell has it."""
    code = process.returncode
    return 128 - code if code < 0 else code


def _dying_with_parent(signals: set[signal.Signals | int]) -> Callable[[], None]:
    """What a child does before its command: it has the signals blocked that its parent had, and
    ends when that ends."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it has ended already
                os._exit(1)

    return prepare
