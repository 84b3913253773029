"""A thread that does something again and again, and survives any error in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pushdemo.push.loop import Loop


class Every:
    """Calls `do` each so many seconds, from `begin` to `stop`."""

    def __init__(self, name: str, seconds: float, do: Callable[[], object]) -> None:
        self._seconds = seconds
        self._do = do
        self._ended = threading.Event()
        self._loop = Loop(name, self._turn)

    def begin(self) -> None:
        """More than once is no error. Raises OSError where the system has no thread to give."""
        self._loop.ensure()

    def stop(self) -> None:
        """Returns within a second; a call under way is left to itself."""
        thread = self._loop.stop()
        self._ended.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(1)

    def _turn(self) -> None:
        if not self._ended.wait(self._seconds):
            self._do()
