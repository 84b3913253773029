"""Threads for computations: kept for the next one, so that a feed that is computed each second does
not cost a new thread each second.

There is no bound: a function that hangs keeps its thread, and must not keep another feed's waiting.
The publisher bounds how many each feed may have.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from pushdemo.push.compute.executor import step_back
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

Task = Callable[[], None]

KEEP = 300.0  # seconds for which a thread waits for something to do


class Threads:
    """See the module.

    keep: seconds for which a thread waits for something to do.
    name: of each thread.
    steps_back: whether what they do may wait for delivery.
    """

    def __init__(
        self, keep: float = KEEP, *, name: str = "pushdemo-feed", steps_back: bool = True
    ) -> None:
        self.name = name
        self.steps_back = steps_back
        self._keep = keep
        self._busy: set[_Thread] = set()
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []  # the last one is the first to be used: the others may end

    def run(self, task: Task) -> None:
        """Run a task in a thread that has nothing else to do. Raises RuntimeError where one is
        needed and the system has none."""
        with self._lock:
            thread = self._idle.pop() if self._idle else _Thread(self)
            self._busy.add(thread)
        thread.tasks.put(task)
        if thread.ident is None:
            try:
                thread.start()
            except BaseException:
                with self._lock:
                    self._busy.discard(thread)
                raise

    def close(self, patience: float = 0.0) -> None:
        """End those that have nothing to do. The others end when they have done it, which is waited
        for, so many seconds at most."""
        with self._lock:
            self._keep = 0.0
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for thread in idle:
            thread.tasks.put(None)
        deadline = time.monotonic() + patience
        for thread in busy:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    # For the threads

    def wait(self, thread: _Thread) -> Task | None:
        """The next task for a thread; None where it is to end."""
        with self._lock:
            keep = self._keep
            self._busy.discard(thread)
            if keep:
                self._idle.append(thread)
        if not keep:
            return None
        try:
            return thread.tasks.get(timeout=keep)
        except queue.Empty:
            pass
        with self._lock:
            if thread in self._idle:
                self._idle.remove(thread)
                return None
        return thread.tasks.get()  # it was chosen in this moment


class _Thread(threading.Thread):
    """tasks: what it is to do, one at a time; None to end."""

    def __init__(self, threads: Threads) -> None:
        super().__init__(name=threads.name, daemon=True)
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads = threads

    def run(self) -> None:
        if self._threads.steps_back:
            step_back()
        task = self.tasks.get()
        while task is not None:
            try:
                task()
            except BaseException as error:  # its own: the feed's are results
                log.error("a computation's thread goes on after an error: %s", failure_of(error))
            del task  # and what it holds, while nothing is done
            task = self._threads.wait(self)
