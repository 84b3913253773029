"""The publisher: runs each feed that has subscribers, on its own beat.

The beats of a feed lie on a grid, origin + n * interval, so they do not drift however long a
computation takes or however late a thread wakes; those that were missed are missed, and are not
made up for. A feed without subscribers rests. When there is one again, it goes on with its old
grid if its last value is still good, and otherwise begins a new one at once, so that nobody waits
for the beat to see the first value.

One thread keeps the time and does all the publishing, and so the order of events is its order. It
never computes: each computation has a thread to itself, and reports back. What it reports is a
value or a failure, both of which are plain data: nothing that a feed's function, its result or its
exception does reaches this thread.

Every beat sends something. While a value is still good, a beat sends it again. Otherwise the beat
starts a computation, and the new value is sent as soon as it is there. If that is known or found to
take longer than a moment (see PATIENCE), the beat sends the last value again without waiting for
the new one. So a page that watches a slow feed sees that the server is there, and sees each new
value when it comes, not a beat later. A function is never run twice at once. One that fails, or
takes longer than its timeout, is tried again after ever longer pauses, and its last value is sent
on every beat meanwhile.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

from pushdemo.push.broker.cluster import Cluster
from pushdemo.push.broker.leading import Alone, Leader
from pushdemo.push.channel import Channel
from pushdemo.push.compute.feed import SECOND, Feed
from pushdemo.push.compute.threads import Task, Threads
from pushdemo.push.counting import Counts, FeedCounts
from pushdemo.push.event import Value
from pushdemo.push.failure import Failure, failure_of
from pushdemo.push.gate import Gate, Gone
from pushdemo.push.loop import Health, Loop
from pushdemo.push.snapshot.state import BeatState
from pushdemo.push.wakeup import Wakeup

log = logging.getLogger(__name__)

# Threads of one feed that may hang at a time, before it is not run any more until one comes back.
MOST_ABANDONED = 4
LONGEST_PAUSE = 60 * SECOND  # between two tries of a feed that fails
# How long a beat waits for the value whose computation it started, before it sends the last one
# again: half of the interval, and no longer than this. Without it, each beat of a quick feed would
# send two events.
PATIENCE = 1 * SECOND
# Failures in a row from which on another process, if one wants to, may try before this one.
TRIES = 2
LAST_ERRANDS = 1.0  # seconds for what is still to be sent to the broker

MakeLeader = Callable[[Feed, Channel, Task], Leader]


class Publisher:
    """The timetable's thread, which sleeps until the next beat or until it is woken.

    gate: all that it publishes goes through it.
    counts: what is counted.
    """

    def __init__(self, gate: Gate | None = None, counts: Counts | None = None) -> None:
        self._gate = gate or Gate()
        self._threads = Threads()
        self._errands = Threads(name="pushdemo-errand", steps_back=False)
        self._timetable = Timetable(execute=self._threads.run, wake=self._wake, counts=counts)
        self._wakeup = Wakeup()
        self._loop = Loop("pushdemo-publisher", self._turn)

    @property
    def health(self) -> Health:
        """Any thread."""
        return self._loop.health

    def add(self, feed: Feed, channel: Channel, cluster: Cluster | None = None) -> None:
        """Run `feed` into `channel` whenever it is watched. The channel's `subscribe` raises
        OSError then, where the system has no thread to give.

        cluster: of processes, one of which runs it.
        """
        self._timetable.add(feed, channel, self._elected(cluster))

    def _elected(self, cluster: Cluster | None) -> MakeLeader | None:
        if cluster is None:
            return None
        return lambda feed, channel, call: cluster.leader(
            channel, feed.interval, call, self._errands.run
        )

    def close(self, *, give_back: bool = True) -> None:
        """Publish nothing more. A computation under way in a thread is left to itself.

        give_back: another process of the cluster may go on at once; otherwise a successor does, by
            its `restore`.
        """
        thread = self._loop.stop()
        self._wakeup.set()
        if thread is not None:
            thread.join(1)
        self._timetable.close(give_back=give_back)
        self._threads.close()
        self._errands.close(LAST_ERRANDS)

    def _wake(self) -> None:
        """A feed is watched now, or a value is there. Any thread."""
        self._wakeup.set()
        # Started by the first watcher and not before: a server may fork between.
        self._loop.ensure()

    def _turn(self) -> None:
        try:
            with self._gate:
                idle = self._timetable.step()
        except Gone:  # until `close`
            idle = None
        except BaseException:  # it may have ended between two feeds
            self._timetable.call_all()
            raise
        self._wakeup.wait(idle)

    # To another process, with the gate shut

    def snapshot(self) -> tuple[BeatState, ...]:
        """Where its feeds are in time."""
        return self._timetable.snapshot()

    def restore(self, states: Iterable[BeatState]) -> None:
        """Go on with another process's. Feeds that are not here any more are left out."""
        self._timetable.restore(states)


class Timetable:
    """What is due when: the publisher without its thread.

    A feed is looked at when it is due, or was called: it is watched now, or has come to a result.
    So a turn costs as much as there is to do, however many feeds there are.

    execute: starts a task elsewhere, or at once.
    wake: called when a feed was called, in whatever thread did that.
    clock: monotonic nanoseconds.
    random: from 0 to 1, for the jitter of retries.
    counts: what is counted.
    """

    def __init__(
        self,
        *,
        execute: Callable[[Task], None],
        wake: Task,
        clock: Callable[[], int] = time.monotonic_ns,
        random: Callable[[], float] = random.random,
        counts: Counts | None = None,
    ) -> None:
        self._counts = counts or Counts()
        self._random = random
        self._execute = execute
        self._wake = wake
        self._clock = clock
        self._beats: list[_Beat] = []
        self._called: deque[_Beat] = deque()
        self._dues: dict[_Beat, int] = {}  # of those that will be due by themselves

    def close(self, *, give_back: bool = True) -> None:
        """End what the feeds have running elsewhere."""
        for beat in self._beats:
            beat.close(give_back=give_back)

    def add(self, feed: Feed, channel: Channel, make_leader: MakeLeader | None = None) -> None:
        """Run `feed` into `channel` whenever it is watched.

        make_leader: makes what decides whether this process is the one that runs it; by default
            there is no other.
        """
        counts = self._counts.feed(feed.name)
        beat = _Beat(feed, channel, self._execute, self._call, self._random, counts, make_leader)
        self._beats.append(beat)
        channel.on_watched = beat.leader.begin
        if channel.watched:
            beat.leader.begin()

    def call_all(self) -> None:
        """Look at all feeds in the next step."""
        self._called.extend(self._beats)

    def _call(self, beat: _Beat) -> None:
        """Any thread."""
        self._called.append(beat)
        self._wake()

    def snapshot(self) -> tuple[BeatState, ...]:
        """Where its feeds are in time."""
        return tuple(beat.snapshot() for beat in self._beats)

    def restore(self, states: Iterable[BeatState]) -> None:
        """Go on with another process's."""
        state_of = {state.name: state for state in states}
        for beat in self._beats:
            if beat.name in state_of:
                beat.restore(state_of[beat.name], self._clock())
        self.call_all()

    def step(self) -> float | None:
        """Do what is due; returns the seconds until more will be, None if nothing ever."""
        now = self._clock()
        due = [beat for beat, due in self._dues.items() if due <= now]
        while self._called:
            beat = self._called.popleft()
            if beat not in due:
                due.append(beat)
        for beat in due:
            next_due = self._step(beat, now)
            if next_due is not None:
                self._dues[beat] = next_due
            else:
                self._dues.pop(beat, None)
        if not self._dues:
            return None
        return max(0, min(self._dues.values()) - self._clock()) / SECOND

    def _step(self, beat: _Beat, now: int) -> int | None:
        try:
            return beat.step(now)
        except Exception as error:  # one feed must not stop the others
            log.error("feed %s goes on after an error that it should not have had: %s",
                      beat.name, failure_of(error))  # fmt: skip
            return now + SECOND


class _Beat:
    """One feed's place in time: resting, waiting for `due`, or with a computation under way.

    call: has it looked at soon.
    due: the next beat; None while the feed rests.
    owed: when the last value is sent for the beat that started a computation, unless the new value
        is there before; None where nothing is owed.
    took: how long the last computation took, in nanoseconds.
    failing_since: when it failed first, in seconds since the epoch; None while it works.
    retry: when it is tried again after failures.
    """

    def __init__(
        self,
        feed: Feed,
        channel: Channel,
        execute: Callable[[Task], None],
        call: Callable[[_Beat], None],
        random: Callable[[], float],
        counts: FeedCounts,
        make_leader: MakeLeader | None = None,
    ) -> None:
        self._counts = counts
        self._random = random
        self._feed = feed
        self._channel = channel
        self._execute = execute
        self._call = call
        self.leader: Leader
        if make_leader is None:
            self.leader = Alone(channel, lambda: call(self))
        else:
            self.leader = make_leader(feed, channel, lambda: call(self))
        self._origin = 0
        self._beat = 0  # the one under way
        self._due: int | None = None
        self._owed: int | None = None
        self._took = 0
        self._failing_since: float | None = None
        self._computation: _Computation | None = None
        # Threads that were given up and have not come back.
        self._abandoned: list[_Computation] = []
        self._slow = False
        self._failures = 0  # in a row
        self._retry = 0

    @property
    def name(self) -> str:
        return self._feed.name

    def close(self, *, give_back: bool) -> None:
        self.leader.close(give_back=give_back)
        self._feed.close()

    def snapshot(self) -> BeatState:
        """What another process needs to go on with it. A computation under way stays here."""
        computation = self._computation
        return BeatState(
            name=self.name,
            origin=self._origin,
            due=self._due if self._due is None or computation is None else computation.beat,
            owed=self._owed,
            took=self._took,
            failing_since=self._failing_since,
            failures=self._failures,
            kept=self.leader.keep(),
        )

    def restore(self, state: BeatState, now: int) -> None:
        """Go on with another process's, whose function and options may have been others."""
        self._origin = state.origin
        self._due = self._owed = None
        self.leader.restore(state.kept)
        if state.due is not None:
            # A feed that failed is tried at once: it may have been mended.
            latest = now if state.failures else now + self._feed.interval
            self._due = min(state.due, latest)
            self._owed = state.owed
        self._took = state.took
        self._failing_since = state.failing_since
        self._failures = state.failures

    def step(self, now: int) -> int | None:
        """Do what is due; returns when more will be, None for never."""
        if self._abandoned:
            self._abandoned = [one for one in self._abandoned if one.outcome is None]
        if self._computation is not None:
            self._look_at(self._computation, now)
        standing = self.leader.look(
            now, watched=self._channel.watched, busy=self._computation is not None
        )
        if standing.anew or not standing.leads:
            self._due = self._owed = None
        if standing.leads:
            if self._due is None:
                self._due = self._start(now)
            if now >= self._due:
                beat = self._grid(now)
                self._due = beat + self._feed.interval
                self._run(beat, now)
            if self._owed is not None and now >= self._owed:
                self._repeat()
        deadline = None if self._computation is None else self._computation.deadline
        dues = (self._due, self._owed, deadline, standing.due)
        return min((due for due in dues if due is not None), default=None)

    def _start(self, now: int) -> int:
        """Beats are this process's again, because somebody watches; returns when the first is."""
        fresh = self._channel.is_fresh(now + self.leader.slack)
        rests = fresh or now < self._retry
        self._origin = self.leader.origin(now, self._origin if rests else None)
        beat = self._grid(now)
        if rests or self.leader.has(beat):
            if not fresh and now < self._retry:
                self._tell_failure()
            return beat + self._feed.interval
        if (unsent := self.leader.unsent(now)) is not None:
            self._beat = beat
            self.leader.publish(unsent, beat)
            return beat + self._feed.interval
        return beat

    def _grid(self, now: int) -> int:
        """The last beat that is not after `now`."""
        return now - (now - self._origin) % self._feed.interval

    def _run(self, beat: int, now: int) -> None:
        self._beat = beat
        if self._computation is not None:
            if now - self._computation.began >= self._feed.interval:
                self._report_slow()
            self._repeat()
        elif self._channel.is_fresh(beat + self.leader.slack) or now < self._retry:
            self._repeat()
        elif len(self._abandoned) >= MOST_ABANDONED:
            self._retry = now + self._feed.interval
            self._tell_failure()
            self._repeat()
        elif self._failures < TRIES or not self.leader.step_aside(now, self._failures):
            self._begin(beat, now)

    def _begin(self, beat: int, now: int) -> None:
        """Start a computation."""
        patience = min(self._feed.interval // 2, PATIENCE)
        self._owed = now if self._took > patience else now + patience
        self._computation = computation = _Computation(beat, now, now + self._feed.timeout)
        try:
            self._execute(lambda: self._compute(computation))
        except Exception as error:  # the system has no thread to give
            self._computation = None
            self._fail(failure_of(error), beat)

    def _compute(self, computation: _Computation) -> None:
        """In whatever thread the computation was given."""
        try:
            computation.outcome = self._feed.compute(computation.beat)
        except BaseException as error:  # SystemExit too: nothing a feed does ends the publisher
            computation.outcome = failure_of(error)
        self._call(self)

    def _look_at(self, computation: _Computation, now: int) -> None:
        if computation.outcome is not None:
            self._end(now - computation.began)
            if isinstance(computation.outcome, Value):
                self._succeed(computation.outcome, computation.beat)
            else:
                self._fail(computation.outcome, computation.beat)
        elif now >= computation.deadline:
            self._end(now - computation.began)
            self._abandoned.append(computation)
            self._feed.abandon()
            self._fail(self._timed_out(), now)

    def _end(self, took: int) -> None:
        """The computation under way is not any more."""
        self._computation = None
        self._took = took
        self._counts.computations += 1
        self._counts.seconds += took / SECOND

    def _timed_out(self) -> Failure:
        seconds = self._feed.timeout / SECOND
        said = f"it took longer than its timeout of {seconds:g} s"
        if len(self._abandoned) == MOST_ABANDONED:
            said += f", now in {MOST_ABANDONED} threads: it is not run before one comes back"
        return Failure(said)

    def _succeed(self, value: Value, beat: int) -> None:
        recovered = self._failures > 0
        if recovered:
            log.info("feed %s works again, after %d failures", self._feed.name, self._failures)
            self._failures = self._retry = 0
            self._failing_since = None
            self.leader.recover()
        self._owed = None
        if self._feed.repeat or recovered or self._is_new(value):
            self.leader.publish(value, beat)
        else:
            self.leader.renew(value, beat)

    def _is_new(self, value: Value) -> bool:
        newest = self._channel.newest
        return newest is None or newest.value.payload != value.payload

    def _fail(self, failure: Failure, beat: int) -> None:
        self._failures += 1
        self._counts.failures += 1
        if self._failing_since is None:
            self._failing_since = time.time()
        # After the first failure it is tried on the next beat, then on ever later ones; and the
        # feeds of a database that is down do not all try at the same moment.
        pause = min(LONGEST_PAUSE, self._feed.interval * 2 ** min(self._failures - 1, 16))
        self._retry = beat + round(pause * (1 + self._random()) / 2)
        last = self._channel.last
        if last is not None and self._channel.outdated:
            self._owed = None
            # Also without `repeat`: no client has seen it yet.
            self.leader.publish(last.value, self._beat)
        elif self._owed is not None:
            self._repeat()
        self._tell_failure()
        if self._failures == 1 or len(self._abandoned) == MOST_ABANDONED:
            # Once a streak, not once a beat.
            meanwhile = "has no value to send" if last is None else "sends its last value meanwhile"
            log.error("feed %s failed, and %s: %s", self._feed.name, meanwhile, failure)

    def _tell_failure(self) -> None:
        """Tell the watchers, as far as it is news to them."""
        if self._failing_since is not None:
            self.leader.fail(self._failing_since, self._retry)

    def _report_slow(self) -> None:
        if not self._slow:
            self._slow = True
            log.warning(
                "feed %s takes longer than its interval of %g s: beats send its last value",
                self._feed.name,
                self._feed.interval / SECOND,
            )

    def _repeat(self) -> None:
        """Send the last value again, if the feed repeats and has one."""
        self._owed = None
        if self._feed.repeat and (newest := self._channel.newest) is not None:
            self.leader.publish(newest.value, self._beat)


class _Computation:
    """One run of a feed's function.

    beat: which beat it is for,
    began: when it was started, and
    deadline: when it is given up, in the clock's nanoseconds.
    outcome: the value, or why there is none; None until its thread has written it.
    """

    def __init__(self, beat: int, began: int, deadline: int) -> None:
        self.beat = beat
        self.began = began
        self.deadline = deadline
        self.outcome: Value | Failure | None = None
