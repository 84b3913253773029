"""The workers: threads that run one task after another."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Task = Callable[[], None]


class Workers:
    """So many threads. One that ends, by whatever it is, is replaced, and no task is lost by it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tasks: deque[Task] = deque()
        # A token for each task. A thread that was woken by one and ended before it took its task
        # (by an exception from another thread) puts one back, so there may be more of them than
        # tasks.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._short = False
        self._fill()

    def add(self, task: Task) -> None:
        """Have a worker run `task`, soon. What it raises is logged. Any thread."""
        self._tasks.append(task)
        self._tokens.put(None)
        if len(self._threads) < self._count:
            self._fill()

    def _fill(self) -> None:
        with self._lock:
            while len(self._threads) < self._count:
                if not self._start_one():
                    return
            self._short = False

    def _start_one(self) -> bool:
        thread = threading.Thread(target=self._run, name="pushdemo-worker", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread to give; the next task tries again
            self._threads.discard(thread)
            if not self._short:  # once, not once a request
                self._short = True
                log.exception("only %d of %d workers can run", len(self._threads), self._count)
            return False
        return True

    def _run(self) -> None:
        try:
            while True:
                self._tokens.get()
                if self._tasks:
                    self._work()
        except BaseException:
            log.exception("a worker that was ended is replaced")
        finally:
            self._tokens.put(None)
            self._threads.discard(threading.current_thread())
            self._fill()

    def _work(self) -> None:
        try:
            task = self._tasks.popleft()
        except IndexError:  # another one was faster
            return
        try:
            task()
        except BaseException:  # SystemExit, too: it would end this thread with the next task's
            log.exception("a worker goes on after an error that it should not have had")
