"""The publisher's timetable, with a clock that the test turns; and its thread, once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.push.channel import Channel
from pushdemo.push.compute.executor import InThread
from pushdemo.push.compute.feed import SECOND, Feed
from pushdemo.push.compute.payload import Text
from pushdemo.push.compute.publisher import PATIENCE, Publisher, Timetable
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Event, Value

FRAMING = Multipart("test")


class World:
    """A timetable, one feed, and time that passes only in `advance`."""

    def __init__(
        self,
        function: Callable[[], object] | None = None,
        *,
        interval: float = 5,
        duration: float = 15,
        repeat: bool = True,
        timeout: float = 300,
    ) -> None:
        self.now = 1_000_000_007  # no multiple of anything
        self.start = self.now
        self.computed: list[float] = []  # seconds after the start
        self.tasks: list[Callable[[], None]] = []
        self.begun: list[float] = []  # when each of them was
        self.inline = True
        self.published: list[tuple[float, str]] = []
        self.reached = 0
        self._function = function or (lambda: f"value {len(self.computed)}")
        self.feed = Feed(
            "x",
            InThread("x", self._compute),
            interval=interval,
            duration=duration,
            repeat=repeat,
            timeout=timeout,
            wall=lambda: 0.0,
        )
        self.timetable = Timetable(
            execute=self._execute, wake=self._wake, clock=lambda: self.now, random=lambda: 1.0
        )
        self.channel = Channel("x", clock=lambda: self.now)
        self.timetable.add(self.feed, self.channel)
        self._woken = False

    @property
    def seconds(self) -> float:
        return (self.now - self.start) / SECOND

    def watch(self) -> None:
        self.channel.subscribe(self._listen, FRAMING)

    def leave(self) -> None:
        self.channel.unsubscribe(self._listen)

    def step(self) -> float | None:
        due = self.timetable.step()
        while self._woken:  # as the publisher's thread does, which is woken by what finishes
            self._woken = False
            due = self.timetable.step()
        return due

    def advance(self, seconds: float, late: float = 0) -> None:
        """Let time pass, stepping whenever the timetable asked to be, `late` seconds after."""
        end = self.now + round(seconds * SECOND)
        while (due := self.step()) is not None:
            wake = self.now + round((due + late) * SECOND)
            if wake > end:
                break
            self.now = wake
        self.now = end
        self.step()

    def finish(self) -> None:
        """Run what was started."""
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task()
        self.step()

    def _execute(self, task: Callable[[], None]) -> None:
        if self.inline:
            task()
        else:
            self.begun.append(self.seconds)
            self.tasks.append(task)

    def _wake(self) -> None:
        self._woken = True

    def _compute(self) -> object:
        self.computed.append(self.seconds)
        return self._function()

    def _listen(self) -> None:
        newest = self.channel.newest
        if newest is None or newest.sequence == self.reached:
            return  # told of a status
        self.reached = newest.sequence
        payload = newest.value.payload
        self.published.append((self.seconds, payload.text if isinstance(payload, Text) else "?"))


def test_a_feed_that_nobody_watches_rests() -> None:
    world = World()
    assert world.step() is None
    world.advance(60)
    assert world.computed == []


def test_the_first_watcher_has_its_value_at_once_and_then_on_every_beat() -> None:
    world = World()
    world.watch()
    world.advance(16)
    assert world.published == [
        (0, "value 1"), (5, "value 1"), (10, "value 1"), (15, "value 2")
    ]  # fmt: skip
    assert world.computed == [0, 15]


def test_a_value_good_for_three_beats_is_sent_on_three_though_every_beat_runs_late() -> None:
    world = World()
    world.watch()
    world.advance(61, late=0.3)
    assert [text for _, text in world.published[:9]] == [
        "value 1", "value 1", "value 1",
        "value 2", "value 2", "value 2",
        "value 3", "value 3", "value 3",
    ]  # fmt: skip


def test_beats_that_run_late_do_not_drift() -> None:
    world = World(interval=1, duration=1)
    world.watch()
    world.advance(3599.5, late=0.25)
    assert world.published[-1][0] == pytest.approx(3599.25)
    assert len(world.published) == 3600


def test_beats_that_were_slept_through_are_not_made_up_for() -> None:
    world = World(interval=1, duration=1)
    world.watch()
    world.step()
    world.now += 100 * SECOND + SECOND // 2  # the machine was asleep
    world.advance(1)
    assert [when for when, _ in world.published] == [0, 100.5, 101]


def test_it_rests_when_the_last_watcher_has_left() -> None:
    world = World()
    world.watch()
    world.advance(7)
    world.leave()
    world.advance(600)
    assert world.computed == [0]


def test_a_watcher_who_is_back_while_the_value_is_good_finds_the_old_beat() -> None:
    world = World()
    world.watch()
    world.advance(6)
    world.leave()
    world.advance(6)
    world.watch()
    world.advance(4)
    assert [when for when, _ in world.published] == [0, 5, 15]
    assert world.computed == [0, 15]


def test_a_watcher_who_is_back_too_late_for_the_value_has_a_new_one_at_once() -> None:
    world = World()
    world.watch()
    world.advance(6)
    world.leave()
    world.advance(11)
    world.watch()
    world.advance(6)
    assert [when for when, _ in world.published] == [0, 5, 17, 22]
    assert world.computed == [0, 17]


def test_without_a_duration_every_beat_computes() -> None:
    world = World(interval=2, duration=0)
    world.watch()
    world.advance(6)
    assert world.computed == [0, 2, 4, 6]


def test_beats_go_on_while_a_slow_function_runs_and_it_runs_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(interval=5, duration=5)
    world.watch()
    world.advance(1)
    world.inline = False
    world.advance(16)  # beats at 5, 10, 15: the computation of 5 is still under way
    assert len(world.tasks) == 1
    # A second after the beat that started it, for it could have been quick.
    assert world.published == [(when, "value 1") for when in (0, 6, 10, 15)]
    assert [r.getMessage() for r in caplog.records] == [
        "feed x takes longer than its interval of 5 s: beats send its last value"
    ]
    world.finish()
    assert world.published[-1] == (17, "value 2")
    world.advance(4)
    # It is known to be slow now: the beat at 20 does not wait for it.
    assert world.published[-1] == (20, "value 2")
    world.finish()
    assert world.published[-1] == (21, "value 3")


def test_a_function_slower_than_its_beat_leaves_no_beat_empty() -> None:
    """Three seconds of work at an interval of two: an old value on the beat, a new one at once."""
    world = World(interval=2, duration=2)
    world.watch()
    world.inline = False
    for _ in range(40):
        world.advance(0.5)
        if world.tasks and world.seconds >= world.begun[-1] + 3:
            world.finish()
    times = [when for when, _ in world.published]
    gaps = [b - a for a, b in pairwise(times)]
    assert max(gaps) <= 2
    assert times[:8] == [3, 4, 6, 7, 8, 10, 11, 12]
    assert len({text for _, text in world.published}) == 5


@given(
    interval=st.integers(1, 40).map(lambda tenths: tenths / 10),
    took=st.lists(st.floats(0.001, 8), min_size=1, max_size=30),
)
def test_no_gap_is_longer_than_the_interval_and_a_moment(
    interval: float, took: list[float]
) -> None:
    """However long each computation takes."""
    world = World(interval=interval, duration=0, timeout=1000)
    world.watch()
    world.step()  # the first value
    world.inline = False
    for seconds in took:
        while not world.tasks:
            world.advance(interval / 4)
        world.advance(seconds)
        world.finish()
    times = [when for when, _ in world.published]
    gaps = [b - a for a, b in pairwise(times)]
    moment = min(interval / 2, PATIENCE / SECOND)
    assert all(gap <= interval + moment + 1e-6 for gap in gaps)


def test_a_quick_feed_sends_one_event_a_beat_however_slow_its_thread_is_to_start() -> None:
    world = World(interval=2, duration=2)
    world.watch()
    world.inline = False
    world.step()
    for _ in range(10):
        world.advance(0.9)
        world.finish()
        world.advance(1.1)
    assert len(world.published) == 10
    assert len({text for _, text in world.published}) == 10


def test_who_comes_back_while_a_value_is_computed_does_not_make_the_feed_slow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(interval=5, duration=5)
    world.inline = False
    for _ in range(3):
        world.watch()
        world.advance(1)
        world.leave()
        world.advance(0.1)
    assert len(world.tasks) == 1
    assert not caplog.records


def test_a_slow_first_value_comes_as_soon_as_it_is_there() -> None:
    world = World()
    world.inline = False
    world.watch()
    world.advance(3)
    assert world.published == []
    world.finish()
    assert world.published == [(3, "value 1")]


def test_a_failing_function_leaves_the_last_value_on_every_beat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: list[object] = ["good", ZeroDivisionError("no"), SystemExit(3), "better"]

    def function() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    caplog.set_level(logging.INFO)
    world = World(function, interval=5, duration=5)
    world.watch()
    world.advance(20)
    assert world.published == [
        (0, "good"), (5, "good"), (10, "good"), (15, "good"), (20, "better")
    ]  # fmt: skip
    assert world.computed == [0, 5, 10, 20]
    said = [(r.levelname, r.getMessage().splitlines()) for r in caplog.records]
    assert [(level, lines[0]) for level, lines in said] == [
        ("ERROR", "feed x failed, and sends its last value meanwhile: ZeroDivisionError: no"),
        ("INFO", "feed x works again, after 2 failures"),
    ]
    assert said[0][1][1] == "Traceback (most recent call last):"


def test_a_failing_function_is_tried_after_ever_longer_pauses() -> None:
    world = World(lambda: [][0], interval=5, duration=5)
    world.watch()
    world.advance(400)
    assert world.computed == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


def test_who_comes_back_to_a_failing_feed_does_not_make_it_try_more_often() -> None:
    world = World(lambda: [][0], interval=5, duration=5)
    for _ in range(100):
        world.watch()
        world.advance(0.5)
        world.leave()
        world.advance(0.5)
    assert len(world.computed) < 10


def test_failures_are_reported_once_a_streak_and_so_is_their_end() -> None:
    outcomes = iter(["a", None, None, "a", "a", None, "a"])

    def function() -> str:
        outcome = next(outcomes)
        assert outcome is not None
        return outcome

    world = World(function, interval=5, duration=5, repeat=False)
    world.watch()
    seen: list[bool] = []
    for _ in range(39):
        world.advance(1)
        seen += [
            one.failing_since is None for one in world.channel.statuses() if one.number > len(seen)
        ]
    assert seen == [False, True, False, True]
    # Sent though it had not changed: somebody waits to hear that it is right again.
    assert [text for _, text in world.published] == ["a", "a", "a"]


def test_a_function_that_hangs_is_given_up_and_tried_again() -> None:
    world = World(interval=5, duration=5, timeout=12)
    world.watch()
    world.advance(1)
    world.inline = False
    world.advance(15.5)  # begun at 5, given up at 17
    assert world.channel.statuses() == []
    world.advance(1)
    assert [one.failing_since is None for one in world.channel.statuses()] == [False]
    hanging, world.tasks, world.inline = world.tasks, [], True
    world.advance(8)  # tried again on the beat at 25
    assert world.published[-1][1] == "value 2"
    for task in hanging:  # back at last: nobody wants its value
        task()
    world.step()
    assert world.published[-1][1] == "value 2"


def test_no_more_than_a_few_hang_at_a_time() -> None:
    world = World(interval=1, duration=1, timeout=2)
    world.inline = False
    world.watch()
    world.advance(1000)
    assert len(world.tasks) == 4
    world.tasks.pop()()  # one has come back
    world.advance(100)
    assert len(world.tasks) == 4


def test_a_function_that_never_worked_sends_nothing_and_is_tried_again() -> None:
    outcomes: list[str] = []

    def function() -> object:
        return outcomes[0]  # IndexError until there is one

    world = World(function)
    world.watch()
    world.advance(14)
    assert (world.published, world.computed) == ([], [0, 5])
    outcomes.append("late")
    world.advance(1)
    assert world.published == [(15, "late")]


def test_who_comes_back_to_a_feed_that_fails_has_its_last_value_at_once() -> None:
    outcomes = ["good"]
    world = World(lambda: outcomes[0], interval=5, duration=5)
    world.watch()
    world.advance(1)
    world.leave()
    world.advance(3600)
    outcomes.clear()
    world.watch()
    world.step()
    assert world.computed == [0, 3601]
    assert world.published == [(0, "good"), (3601, "good")]
    assert world.channel.failing
    world.leave()
    world.advance(3600)
    # It is known to fail: what is there is shown before it is tried again.
    assert world.channel.newest is not None
    world.watch()
    world.step()
    assert world.computed == [0, 3601, 7201]


@pytest.mark.parametrize("repeat", [True, False])
def test_an_outdated_value_is_news_when_the_feed_fails(repeat: bool) -> None:
    outcomes = ["good"]
    world = World(lambda: outcomes[0], interval=5, duration=5, repeat=repeat)
    world.watch()
    world.advance(1)
    world.leave()
    world.advance(3600)
    outcomes.clear()
    world.inline = False
    world.watch()
    world.advance(30)  # it takes long to fail, and nothing outdated is shown meanwhile
    assert len(world.published) == 1
    world.finish()
    assert world.published[1:] == [(3631, "good")]
    world.inline = True
    outcomes.append("better")
    world.advance(30)
    assert world.published[-1][1] == "better"
    assert not world.channel.failing


def test_who_waits_for_a_first_value_is_told_of_each_failure() -> None:
    world = World(lambda: [][0], interval=5, duration=5)
    told: list[int] = []
    for seconds in (0, 1, 6):  # at 1 it is not tried, and who comes is told all the same
        world.advance(seconds - world.seconds)
        world.watch()
        world.step()
        told.append(world.channel.statuses()[0].number)
        world.leave()
    assert told == [1, 2, 3]
    assert world.computed == [0, 6]


def test_without_a_value_the_log_does_not_say_that_one_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(lambda: [][0])
    world.watch()
    world.advance(60)
    (record,) = caplog.records
    first = record.getMessage().splitlines()[0]
    assert first == "feed x failed, and has no value to send: IndexError: list index out of range"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise self

    __repr__ = __str__


class Silent(BaseException):
    """Its traceback and its cause are no better than its text."""

    def __getattribute__(self, name: str) -> object:
        raise SystemExit(name)


def recurse(depth: int = 0) -> object:
    return recurse(depth + 1)


def deep() -> object:
    data: list[object] = []
    for _ in range(100_000):
        data = [data]
    raise ValueError(data)


def large() -> object:
    raise ValueError("x" * 50_000_000)


def raising(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


def chained() -> object:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


HOSTILE = [
    deep,
    recurse,
    large,
    chained,
    *map(raising, (Unprintable(), Silent(), SystemExit(), KeyboardInterrupt(), StopIteration())),
]


@pytest.mark.parametrize("function", HOSTILE)
def test_no_exception_stops_another_feed(
    function: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    world = World(function, interval=5, duration=5)
    other = Channel("y", clock=lambda: world.now)
    world.timetable.add(Feed("y", InThread("y", lambda: "fine"), interval=1, duration=0), other)
    world.watch()
    other.subscribe(lambda: None, FRAMING)
    world.advance(20)
    assert other.reached == 21
    assert len(world.computed) == 3
    (record,) = caplog.records
    assert len(record.getMessage()) < 25_000


def test_a_thread_that_cannot_be_started_is_a_failure_of_that_feed_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(interval=5, duration=5)
    other = Channel("y", clock=lambda: world.now)
    feed = Feed("y", InThread("y", lambda: "fine"), interval=5, duration=5)
    refuse = True

    def execute(task: Callable[[], None]) -> None:
        nonlocal refuse
        if refuse:
            refuse = False
            raise RuntimeError("can't start new thread")
        task()

    world._execute = execute  # type: ignore[method-assign]
    world.timetable._execute = execute
    world.timetable._beats.clear()
    world.timetable.add(world.feed, world.channel)
    world.timetable.add(feed, other)
    world.watch()
    other.subscribe(lambda: None, FRAMING)
    world.advance(10)
    assert world.computed == [5, 10]
    assert other.reached == 3
    assert "can't start new thread" in caplog.text


def test_an_error_in_one_feed_s_turn_leaves_the_others_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(interval=5, duration=5)
    other = Channel("y", clock=lambda: world.now)
    world.timetable.add(Feed("y", InThread("y", lambda: "fine"), interval=5, duration=5), other)
    world.watch()
    other.subscribe(lambda: None, FRAMING)

    def fail(value: Value) -> Event:
        raise LookupError(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.channel, "publish", fail)
        world.advance(10)
    assert other.reached == 3
    assert "feed x goes on after an error" in caplog.text
    world.advance(10)
    assert [when for when, _ in world.published] == [15, 20]


def test_only_what_has_changed_is_sent_without_repeat() -> None:
    values = iter(["a", "a", "b", "b", "c"])
    world = World(lambda: next(values), interval=5, duration=5, repeat=False)
    world.watch()
    world.advance(20)
    assert world.published == [(0, "a"), (10, "b"), (20, "c")]


def test_a_value_that_cannot_be_sent_is_a_failure_of_the_feed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    values = iter(["good", object(), "better"])
    world = World(lambda: next(values), interval=5, duration=5)
    world.watch()
    world.advance(10)
    assert world.published == [(0, "good"), (5, "good"), (10, "better")]
    assert [r.levelname for r in caplog.records] == ["ERROR"]


@settings(max_examples=200)
@given(
    interval=st.integers(1, 40).map(lambda tenths: tenths / 10),
    beats=st.floats(0, 4),
    moves=st.lists(
        st.tuples(st.sampled_from(["watch", "leave"]), st.floats(0, 20), st.floats(0, 0.5)),
        max_size=12,
    ),
)
def test_at_most_one_computation_a_duration_and_every_beat_on_the_grid(
    interval: float, beats: float, moves: list[tuple[str, float, float]]
) -> None:
    duration = round(interval * beats, 1)
    world = World(interval=interval, duration=duration)
    for move, seconds, late in moves:
        getattr(world, move)()
        world.advance(seconds, late=late * interval)
    gaps = [b - a for a, b in zip(world.computed, world.computed[1:], strict=False)]
    # A beat may run late, and the next one on time: by so much a gap may be short.
    slack = max((late for _, _, late in moves), default=0) * interval
    assert all(gap >= duration - slack - 1e-6 for gap in gaps)
    times = [when for when, _ in world.published]
    assert times == sorted(times)


@given(interval=st.integers(1, 50).map(lambda tenths: tenths / 10), count=st.integers(1, 200))
def test_no_beat_is_lost_or_early_while_the_function_is_quick(interval: float, count: int) -> None:
    world = World(interval=interval, duration=interval)
    world.watch()
    world.advance(interval * count + interval / 2)
    assert [round(when / interval, 6) for when, _ in world.published] == list(range(count + 1))
    assert len(world.computed) == count + 1


def test_two_feeds_keep_their_own_beats() -> None:
    world = World(interval=5, duration=5)
    other: list[float] = []
    feed = Feed("y", InThread("y", lambda: other.append(world.seconds)), interval=2, duration=2)
    channel = Channel("y", clock=lambda: world.now)
    world.timetable.add(feed, channel)
    world.watch()
    channel.subscribe(lambda: None, FRAMING)
    world.advance(10)
    assert other == [0, 2, 4, 6, 8, 10]
    assert world.computed == [0, 5, 10]


def test_the_thread_runs_watched_feeds_until_it_is_closed() -> None:
    publisher = Publisher()
    came = threading.Semaphore(0)
    channel = Channel("x")
    feed = Feed("x", InThread("x", lambda: "x"), interval=0.01, duration=0)
    publisher.add(feed, channel)
    channel.subscribe(came.release, FRAMING)
    for _ in range(3):
        assert came.acquire(timeout=30)
    publisher.close()
    while came.acquire(blocking=False):
        pass
    assert not came.acquire(timeout=0.05)
