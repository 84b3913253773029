"""The publisher's timetable, with a clock that the test turns; and its thread, once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.push.channel import Channel
from pushdemo.push.executor import InThread
from pushdemo.push.feed import SECOND, Feed
from pushdemo.push.framing import Multipart
from pushdemo.push.payload import Text
from pushdemo.push.publisher import Publisher, Timetable

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
            self.tasks.append(task)

    def _wake(self) -> None:
        self._woken = True

    def _compute(self) -> object:
        self.computed.append(self.seconds)
        return self._function()

    def _listen(self) -> None:
        newest = self.channel.newest
        if newest is None or newest.sequence == self.reached:
            return  # told of a trouble
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
    assert world.published == [(0, "value 1"), (10, "value 1"), (15, "value 1")]
    assert [r.getMessage() for r in caplog.records] == [
        "feed x takes longer than its interval of 5 s: beats send its last value"
    ]
    world.finish()
    assert world.published[-1] == (17, "value 2")
    world.inline = True
    world.advance(4)
    assert world.published[-1] == (20, "value 3")


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
    assert [(r.levelname, r.getMessage(), bool(r.exc_info)) for r in caplog.records] == [
        ("ERROR", "feed x failed, and sends its last value meanwhile: no", True),
        ("INFO", "feed x works again, after 2 failures", False),
    ]


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


def test_troubles_are_reported_once_a_streak_and_so_is_their_end() -> None:
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
        seen += [one.since is None for one in world.channel.troubles() if one.number > len(seen)]
    assert seen == [False, True, False, True]
    # Sent though it had not changed: somebody waits to hear that it is right again.
    assert [text for _, text in world.published] == ["a", "a", "a"]


def test_a_function_that_hangs_is_given_up_and_tried_again() -> None:
    world = World(interval=5, duration=5, timeout=12)
    world.watch()
    world.advance(1)
    world.inline = False
    world.advance(15.5)  # begun at 5, given up at 17
    assert world.channel.troubles() == []
    world.advance(1)
    assert [one.since is None for one in world.channel.troubles()] == [False]
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


def test_only_what_has_changed_is_sent_without_repeat() -> None:
    values = iter(["a", "a", "b", "b", "c"])
    world = World(lambda: next(values), interval=5, duration=5, repeat=False)
    world.watch()
    world.advance(20)
    assert world.published == [(0, "a"), (10, "b"), (20, "c")]


def test_a_value_that_cannot_be_sent_is_a_failure_of_the_feed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    values = iter(["good", float("nan"), "better"])
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
    channel = Channel("x", on_watched=publisher.wake)
    feed = Feed("x", InThread("x", lambda: "x"), interval=0.01, duration=0)
    publisher.add(feed, channel)
    channel.subscribe(came.release, FRAMING)
    for _ in range(3):
        assert came.acquire(timeout=30)
    publisher.close()
    while came.acquire(blocking=False):
        pass
    assert not came.acquire(timeout=0.05)
