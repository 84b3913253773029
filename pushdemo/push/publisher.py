"""The publisher: runs each feed that somebody watches, on its own beat.

The beats of a feed lie on a grid, origin + n * interval, so they do not drift however long a
computation takes or however late a thread wakes; those that were missed are missed, and are not
made up for. A feed that nobody watches rests. When somebody comes back it goes on with its old
grid if its last value is still good, and otherwise begins a new one at once, so that nobody waits
for the beat to see the first value.

One thread keeps the time and does all the publishing, and so the order of events is its order. It
never computes: each computation has a thread of its own, and reports back. While one is under way
past the next beat, that beat sends the last value again; a function slower than its beat is
never run twice at once. One that fails, or takes longer than its timeout, is tried again after
ever longer pauses, and its last value is sent on every beat meanwhile.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from pushdemo.push.channel import Channel
from pushdemo.push.event import Value
from pushdemo.push.executor import step_back
from pushdemo.push.feed import SECOND, Feed

log = logging.getLogger(__name__)

Task = Callable[[], None]

# Threads of one feed that may hang at a time, before it is not run any more until one comes back.
MOST_ABANDONED = 4
LONGEST_PAUSE = 60 * SECOND  # between two tries of a feed that fails


def _in_a_thread(task: Task) -> None:
    def run() -> None:
        step_back()
        task()

    threading.Thread(target=run, name="pushdemo-feed", daemon=True).start()


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
        """Publish nothing more. A computation under way in a thread is left to itself."""
        with self._lock:
            self._closed = True
        self._timetable.close()
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
    random: from 0 to 1, for the jitter of retries.
    """

    def __init__(
        self,
        *,
        execute: Callable[[Task], None],
        wake: Task,
        clock: Callable[[], int] = time.monotonic_ns,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._random = random
        self._execute = execute
        self._wake = wake
        self._clock = clock
        self._beats: list[_Beat] = []

    def close(self) -> None:
        """End what the feeds have running elsewhere."""
        for beat in self._beats:
            beat.close()

    def add(self, feed: Feed, channel: Channel) -> None:
        """Run `feed` into `channel` whenever it is watched."""
        self._beats.append(
            _Beat(feed, channel, self._clock, self._execute, self._wake, self._random)
        )

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
        random: Callable[[], float],
    ) -> None:
        self._random = random
        self._feed = feed
        self._channel = channel
        self._clock = clock
        self._execute = execute
        self._wake = wake
        self._origin = 0
        self._due: int | None = None  # None: resting
        self._computation: _Computation | None = None
        # Threads that were given up and have not come back.
        self._abandoned: list[_Computation] = []
        self._slow = False
        self._failures = 0  # in a row
        self._retry = 0  # when to try again after them

    def close(self) -> None:
        self._feed.close()

    def step(self) -> int | None:
        """Do what is due; returns when more will be, None for never."""
        now = self._clock()
        self._look_at_computation(now)
        if not self._channel.watched:
            self._due = None
        else:
            if self._due is None:
                self._start(now)
            if self._due is not None and now >= self._due:
                beat = self._grid(now)
                self._due = beat + self._feed.interval
                self._run(beat, now)
        deadline = None if self._computation is None else self._computation.deadline
        return min((due for due in (self._due, deadline) if due is not None), default=None)

    def _start(self, now: int) -> None:
        if self._channel.newest is None:
            self._origin = self._due = now
            if now < self._retry:  # who has just come is to know, and to come again later
                self._channel.report(time.time())
        else:
            self._due = self._grid(now) + self._feed.interval

    def _grid(self, now: int) -> int:
        """The last beat that is not after `now`."""
        return now - (now - self._origin) % self._feed.interval

    def _run(self, beat: int, now: int) -> None:
        if self._computation is not None:
            self._report_slow()
        elif now >= self._retry and not self._too_many_abandoned():
            self._computation = computation = _Computation(beat, now + self._feed.timeout)
            self._execute(lambda: self._compute(computation))
            return
        self._repeat()

    def _compute(self, computation: _Computation) -> None:
        """In whatever thread the computation was given."""
        try:
            computation.outcome = self._feed.value(computation.beat)
        except BaseException as error:  # SystemExit too: nothing a feed does ends the publisher
            computation.outcome = error
        self._wake()

    def _look_at_computation(self, now: int) -> None:
        self._abandoned = [one for one in self._abandoned if one.outcome is None]
        computation = self._computation
        if computation is None:
            return
        if computation.outcome is not None:
            self._computation = None
            if isinstance(computation.outcome, Value):
                self._succeed(computation.outcome)
            else:
                self._fail(computation.outcome, computation.beat)
        elif now >= computation.deadline:
            self._computation = None
            self._abandoned.append(computation)
            self._feed.abandon()
            seconds = self._feed.timeout / SECOND
            self._fail(TimeoutError(f"it took longer than its timeout of {seconds:g} s"), now)

    def _too_many_abandoned(self) -> bool:
        return len(self._abandoned) >= MOST_ABANDONED

    def _succeed(self, value: Value) -> None:
        newest = self._channel.newest
        changed = newest is None or newest.value.payload != value.payload
        if self._failures:
            log.info("feed %s works again, after %d failures", self._feed.name, self._failures)
            self._failures = self._retry = 0
            self._channel.report(None)
            changed = True
        if self._feed.repeat or changed:
            self._channel.publish(value)
        else:
            self._channel.renew(value)

    def _fail(self, error: BaseException, beat: int) -> None:
        self._failures += 1
        if self._failures == 1:  # once a streak, not once a beat
            traceback = None if isinstance(error, TimeoutError) else error
            log.error("feed %s failed, and sends its last value meanwhile: %s", self._feed.name,
                      error, exc_info=traceback)  # fmt: skip
            self._channel.report(time.time())
        if len(self._abandoned) == MOST_ABANDONED and isinstance(error, TimeoutError):
            log.error("feed %s hangs in %d threads: it is not run before one comes back",
                      self._feed.name, MOST_ABANDONED)  # fmt: skip
        # After the first failure it is tried on the next beat, then on ever later ones; and the
        # feeds of a database that is down do not all try at the same moment.
        pause = min(LONGEST_PAUSE, self._feed.interval * 2 ** min(self._failures - 1, 16))
        self._retry = beat + round(pause * (1 + self._random()) / 2)
        self._repeat()

    def _report_slow(self) -> None:
        if not self._slow:
            self._slow = True
            log.warning(
                "feed %s takes longer than its interval of %g s: beats send its last value",
                self._feed.name,
                self._feed.interval / SECOND,
            )

    def _repeat(self) -> None:
        if self._feed.repeat and (newest := self._channel.newest) is not None:
            self._channel.publish(newest.value)


class _Computation:
    """One run of a feed's function.

    beat: which beat it is for, and
    deadline: when it is given up, in the clock's nanoseconds.
    outcome: the value, or why there is none; None until its thread has written it.
    """

    def __init__(self, beat: int, deadline: int) -> None:
        self.beat = beat
        self.deadline = deadline
        self.outcome: Value | BaseException | None = None
