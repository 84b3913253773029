"""The publisher: runs each feed that somebody watches, on its own beat.

The beats of a feed lie on a grid, origin + n * interval, so they do not drift however long a
computation takes or however late a thread wakes; those that were missed are missed, and are not
made up for. A feed that nobody watches rests. When somebody comes back it goes on with its old
grid if its last value is still good, and otherwise begins a new one at once, so that nobody waits
for the beat to see the first value.

One thread keeps the time and does all the publishing, and so the order of events is its order. It
never computes: each computation has a thread of its own, and reports back. While one is under way
past the next beat, that beat sends the last value again; a function slower than its beat is
never run twice at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from pushdemo.push.channel import Channel
from pushdemo.push.event import Value
from pushdemo.push.feed import SECOND, Feed

log = logging.getLogger(__name__)

Task = Callable[[], None]


def _in_a_thread(task: Task) -> None:
    threading.Thread(target=task, name="pushdemo-feed", daemon=True).start()


class Publisher:
    """The timetable's thread, which sleeps until the next beat or until it is woken."""

    def __init__(self) -> None:
        self._timetable = Timetable(execute=_in_a_thread, wake=self.wake)
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, feed: Feed, channel: Channel) -> None:
        """Run `feed` into `channel` whenever it is watched. Before the first wake."""
        self._timetable.add(feed, channel)

    def wake(self) -> None:
        """Look at once: a feed is watched now, or a value is there. Any thread."""
        with self._lock:
            # Started by the first watcher and not before: a server may fork between.
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="pushdemo-publisher", daemon=True
                )
                self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """Publish nothing more. A computation under way is left to itself."""
        with self._lock:
            self._closed = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(1)

    def _run(self) -> None:
        while not self._closed:
            self._woken.clear()
            self._woken.wait(self._timetable.step())


class Timetable:
    """What is due when: the publisher without its thread.

    execute: starts a task elsewhere, or at once.
    wake: called when a task is done, in whatever thread that ran in.
    clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        *,
        execute: Callable[[Task], None],
        wake: Task,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._execute = execute
        self._wake = wake
        self._clock = clock
        self._beats: list[_Beat] = []

    def add(self, feed: Feed, channel: Channel) -> None:
        """Run `feed` into `channel` whenever it is watched."""
        self._beats.append(_Beat(feed, channel, self._clock, self._execute, self._wake))

    def step(self) -> float | None:
        """Do what is due; returns the seconds until more will be, None if nothing ever."""
        dues = [beat.step() for beat in self._beats]
        due = min((due for due in dues if due is not None), default=None)
        return None if due is None else max(0, due - self._clock()) / SECOND


class _Beat:
    """One feed's place in time: resting, waiting for `due`, or with a computation under way."""

    def __init__(
        self,
        feed: Feed,
        channel: Channel,
        clock: Callable[[], int],
        execute: Callable[[Task], None],
        wake: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._channel = channel
        self._clock = clock
        self._execute = execute
        self._wake = wake
        self._origin = 0
        self._due: int | None = None  # None: resting
        self._computing = False
        self._outcome: Value | BaseException | None = None  # written by the computing thread
        self._slow = False
        self._failing = False

    def step(self) -> int | None:
        if self._outcome is not None:
            self._finish()
        if not self._channel.watched:
            self._due = None
            return None
        now = self._clock()
        if self._due is None:
            self._start(now)
        if self._due is not None and now >= self._due:
            beat = self._grid(now)
            self._due = beat + self._feed.interval
            self._run(beat)
        return self._due

    def _start(self, now: int) -> None:
        if self._channel.newest is None:
            self._origin = self._due = now
        else:
            self._due = self._grid(now) + self._feed.interval

    def _grid(self, now: int) -> int:
        """The last beat that is not after `now`."""
        return now - (now - self._origin) % self._feed.interval

    def _run(self, beat: int) -> None:
        if self._computing:
            if not self._slow:
                self._slow = True
                log.warning(
                    "feed %s takes longer than its interval of %g s: beats send its last value",
                    self._feed.name,
                    self._feed.interval / SECOND,
                )
            self._repeat()
            return
        self._computing = True
        self._execute(lambda: self._compute(beat))

    def _compute(self, beat: int) -> None:
        try:
            self._outcome = self._feed.value(beat)
        except BaseException as error:  # SystemExit too: nothing a feed does ends the publisher
            self._outcome = error
        self._wake()

    def _finish(self) -> None:
        outcome, self._outcome, self._computing = self._outcome, None, False
        if isinstance(outcome, Value):
            if self._failing:
                self._failing = False
                log.info("feed %s works again", self._feed.name)
            newest = self._channel.newest
            if self._feed.repeat or newest is None or newest.value.payload != outcome.payload:
                self._channel.publish(outcome)
        else:
            if not self._failing:  # once a streak, not once a beat
                self._failing = True
                log.error("feed %s failed; it is tried at each beat", self._feed.name,
                          exc_info=outcome)  # fmt: skip
            self._repeat()

    def _repeat(self) -> None:
        if self._feed.repeat and (newest := self._channel.newest) is not None:
            self._channel.publish(newest.value)
