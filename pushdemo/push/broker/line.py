"""How an engine is, as the log says it: once when it goes, and once when it is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Line:
    """Each kind of question to the engine, for each feed, fails or works by itself: a full one
    still answers. The engine counts as away while one kind fails. Any thread.

    address: for the log.
    changed: called when it goes, and when it is back; with whether it is away.
    clock: seconds.
    """

    def __init__(
        self,
        address: str,
        changed: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}
        self._since = 0.0

    @property
    def failing(self) -> str:
        """Why it is away; empty where it is not."""
        return next(iter(self._failing.values()), "")

    def fails(self, kind: str, why: str) -> None:
        with self._lock:
            first = not self._failing
            self._failing.setdefault(kind, why)
            if first:
                self._since = self._clock()
        if first:
            log.warning("the broker is away, and open pages keep their last values: %s", why)
            self._changed(True)

    def works(self, kind: str) -> None:
        if kind not in self._failing:
            return
        with self._lock:
            known = self._failing.pop(kind, None)
            back = known is not None and not self._failing
            seconds = self._clock() - self._since
        if back:
            log.info("the broker %s is back, after %.1f s", self._address, seconds)
            self._changed(False)
