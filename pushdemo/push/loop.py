"""A loop: a thread that takes one turn after another, for ever, and is watched over.

Two threads of a server serve everybody: the publisher's and the broadcaster's. Whatever goes wrong
in one of their turns must not end them:

- An exception ends the turn and nothing else. It is logged, and the next turn begins after a pause
  that grows while one turn after another fails.
- That holds for SystemExit and for exceptions that another thread raises in this one, too.
- A thread that ends all the same (the logging of its error failed, say) starts its own replacement.
  Should even that fail, the next call of `ensure` does it.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.001  # seconds, after the first bad turn
LONGEST_PAUSE = 1.0


class Health(NamedTuple):
    """How a loop is.

    alive: it takes turns, or has not been needed yet.
    errors: the turns that ended with an exception.
    restarts: how often its thread was replaced.
    last_error: what the last of these was, in one line; empty where there was none.
    """

    alive: bool
    errors: int
    restarts: int
    last_error: str


class Loop:
    """See the module.

    name: the thread's.
    turn: waits until there is something to do, and does it. It returns when `stop` was called and
        the caller of that woke it.
    farewell: called once, in the thread, after the last turn.
    pause: waits for some seconds.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], object],
        *,
        farewell: Callable[[], object] = lambda: None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._name = name
        self._turn = turn
        self._farewell = farewell
        self._pause = pause
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running = False  # as it is seen without the lock
        self._stopped = False
        self._streak = 0
        self._errors = 0
        self._restarts = 0
        self._last_error = ""

    @property
    def health(self) -> Health:
        """Any thread."""
        thread = self._thread
        alive = thread is None or thread.is_alive()
        return Health(alive and not self._stopped, self._errors, self._restarts, self._last_error)

    def ensure(self) -> None:
        """Start the thread, if it does not run. Any thread; after `stop`, nothing happens.

        Raises OSError (EAGAIN) where the system has no thread to give.
        """
        if self._running:
            return
        with self._lock:
            thread = self._thread
            if not self._stopped and (thread is None or not thread.is_alive()):
                self._start()

    def stop(self) -> threading.Thread | None:
        """Let the turn under way be the last. Returns the thread, to be woken and joined."""
        with self._lock:
            self._stopped = True
            return self._thread

    def _start(self) -> None:
        """With the lock."""
        first = self._thread is None
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"{self._name}: {error}") from None
        self._thread = thread
        if not first:
            self._restarts += 1
            log.error("the thread %s had ended, and was started again", self._name)

    def _run(self) -> None:
        try:
            self._running = True
            while not self._stopped:
                try:
                    self._turn()
                except BaseException as error:  # see the module
                    self._note(error)
                else:
                    self._streak = 0
            self._farewell()
        finally:
            self._running = False
            if not self._stopped:
                self._replace()

    def _note(self, error: BaseException) -> None:
        failure = failure_of(error)
        self._errors += 1
        self._streak += 1
        self._last_error = failure.summary
        if self._streak & (self._streak - 1) == 0:  # the 1st, 2nd, 4th, … in a row
            log.error(
                "%s goes on after an error that it should not have had: %s", self._name, failure
            )
        self._pause(min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._streak - 1, 16)))

    def _replace(self) -> None:
        with self._lock:
            if not self._stopped and self._thread is threading.current_thread():
                self._start()
