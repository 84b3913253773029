"""Several nodes and one broker in memory, with a clock that the test turns: who computes, when, and
what happens when it is gone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.push.broker.body import Sent, encode_sent
from pushdemo.push.broker.cluster import Cluster, publish_value
from pushdemo.push.broker.leading import entries_to_keep
from pushdemo.push.broker.line import Line
from pushdemo.push.broker.memory import MemoryBroker
from pushdemo.push.broker.protocol import BrokerUnavailable, Lease
from pushdemo.push.channel import Channel
from pushdemo.push.compute.executor import InThread
from pushdemo.push.compute.feed import SECOND, Feed
from pushdemo.push.compute.payload import Data, Text, payload_of
from pushdemo.push.compute.publisher import Timetable
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Value
from pushdemo.push.gate import Gate

FRAMING = Multipart("test")


class Shaky(MemoryBroker):
    """A broker that can be away, for everybody, for what only reads, or for what appends."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.away = self.full = self.odd = False

    def _fail(self, appends: bool = False) -> None:
        if self.odd:
            raise ValueError("I/O operation on closed file")
        if self.away or (self.full and appends):
            raise BrokerUnavailable("it is away" if self.away else "it is full")

    def publish(self, *args: Any, **kwargs: Any) -> str:
        self._fail(appends=True)
        return super().publish(*args, **kwargs)

    def tell(self, *args: Any, **kwargs: Any) -> None:
        self._fail(appends=True)
        super().tell(*args, **kwargs)

    def lease(self, *args: Any, **kwargs: Any) -> Lease | None:
        self._fail()
        return super().lease(*args, **kwargs)

    def release(self, lease: Lease) -> None:
        self._fail()
        super().release(lease)


class Node:
    """One process: a timetable, a channel, and what joins them to the broker.

    computed: at which second, and for what number, its function ran.
    seen: of its channel, the values.
    hangs: what it begins to compute does not come to an end.
    """

    def __init__(self, world: World, name: str, **options: Any) -> None:
        self.world = world
        self.name = name
        self.stopped = self.hangs = False
        self.tasks: list[Callable[[], None]] = []
        self.error: Exception | None = None
        options = {"interval": 10, "duration": 10, **options}
        self.feed = Feed("x", InThread("x", self._compute), wall=lambda: 0.0, **options)
        self.timetable = Timetable(
            execute=self._execute,
            wake=lambda: None,
            clock=lambda: world.now,
            random=lambda: 1.0,
        )
        self.channel = Channel("x", history=50, clock=lambda: world.now, epoch="")
        self.cluster = Cluster(world.broker, Gate())
        self.cluster.add(self.channel)
        self.timetable.add(self.feed, self.channel, self._leader)
        self.cluster.begin()
        self.seen: list[str] = []
        self.told: list[bool] = []
        self._reached = 0

    def _leader(self, feed: Feed, channel: Channel, call: Callable[[], None]) -> Any:
        self.leader = self.cluster.leader(channel, feed.interval, call, self.world.send)
        return self.leader

    def watch(self) -> None:
        self.channel.subscribe(self._listen, FRAMING)

    def leave(self) -> None:
        self.channel.unsubscribe(self._listen)

    def step(self) -> float | None:
        return None if self.stopped else self.timetable.step()

    def _execute(self, task: Callable[[], None]) -> None:
        if self.hangs:
            self.tasks.append(task)
        else:
            task()

    def finish(self) -> None:
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task()

    def _compute(self) -> object:
        self.world.computed.append((self.world.seconds, self.name))
        if self.error is not None:
            raise self.error
        return self.world.result()

    def _listen(self) -> None:
        for event in self.channel.since(self._reached):
            self._reached = event.sequence
            payload = event.value.payload
            self.seen.append(payload.text if isinstance(payload, Text) else "?")
        self.told = [status.failing_since is not None for status in self.channel.statuses()]


class World:
    """Some nodes, and time that passes only in `advance`. It begins 3 s after a beat."""

    def __init__(self, nodes: int = 3, **options: Any) -> None:
        self.now = self.start = 1_000 * SECOND + 3 * SECOND
        self.broker = Shaky(lambda: self.now)
        self.computed: list[tuple[float, str]] = []
        self.result: Callable[[], object] = lambda: f"value {len(self.computed)}"
        self.held: list[Callable[[], None]] | None = None
        self.nodes = [Node(self, "ABCDEFG"[number], **options) for number in range(nodes)]

    @property
    def seconds(self) -> float:
        return (self.now - self.start) / SECOND

    def send(self, task: Callable[[], None]) -> None:
        """Sends to the broker; or, where answers are held up, later."""
        if self.held is None:
            task()
        else:
            self.held.append(task)

    def step(self) -> float:
        for _ in range(6):  # what one has sent wakes others
            dues = [due for node in self.nodes if (due := node.step()) is not None]
        return min(dues, default=1.0)

    def advance(self, seconds: float) -> None:
        end = self.now + round(seconds * SECOND)
        while True:
            due = self.now + max(1, round(min(self.step(), 1.0) * SECOND))
            if due > end:
                break
            self.now = due
        self.now = end
        self.step()

    @property
    def when(self) -> list[tuple[float, str]]:
        return [(round(at, 2), name) for at, name in self.computed]


# Who computes


def test_a_feed_that_nobody_watches_anywhere_is_computed_nowhere() -> None:
    world = World()
    world.advance(100)
    assert world.computed == []


def test_who_watches_computes_at_once_and_then_on_the_engine_s_beats() -> None:
    world = World()
    world.nodes[0].watch()
    world.advance(30)
    assert world.when == [(0, "A"), (7, "A"), (17, "A"), (27, "A")]


def test_one_computes_and_all_see_it() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(60)
    assert len({name for _, name in world.computed}) == 1
    assert [at for at, _ in world.when] == [0, 7, 17, 27, 37, 47, 57]
    values = [f"value {number}" for number in range(1, 8)]
    assert [node.seen for node in world.nodes] == [values] * 3
    ids = [[event.id for event in node.channel.since(0)] for node in world.nodes]
    assert ids[0] == ids[1] == ids[2]


def test_a_node_without_a_watcher_hears_too_and_has_a_value_for_its_first() -> None:
    world = World()
    world.nodes[0].watch()
    world.advance(20)
    assert world.nodes[1].channel.newest is not None
    world.nodes[1].watch()
    world.advance(1)
    assert {name for _, name in world.computed} == {"A"}


def test_when_the_last_watcher_of_who_computes_goes_another_goes_on_without_a_gap() -> None:
    world = World()
    world.nodes[0].watch()
    world.advance(1)
    world.nodes[1].watch()
    world.advance(10)
    world.nodes[0].leave()
    world.advance(30)
    assert world.when == [(0, "A"), (7, "A"), (17, "B"), (27, "B"), (37, "B")]
    world.nodes[1].leave()
    world.advance(50)
    assert len(world.computed) == 5


def test_when_who_computes_is_gone_another_does_within_two_beats() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    leader = next(node for node in world.nodes if node.name == world.computed[-1][1])
    leader.stopped = True
    world.advance(40)
    times = [at for at, _ in world.when]
    assert times[:2] == [0, 7]
    assert times[2] < 7 + 2 * 10
    assert leader.name not in {name for _, name in world.computed[2:]}


def test_who_comes_back_after_its_lease_publishes_nothing_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(nodes=2)
    one, two = world.nodes
    one.watch()
    world.advance(1)
    one.hangs = True
    two.watch()
    world.advance(7)  # it has begun at 7
    assert one.tasks
    one.stopped = True
    world.advance(20)
    assert world.computed[-1][1] == "B"
    one.stopped = False
    with caplog.at_level(logging.INFO):
        one.finish()
        world.advance(1)
    numbers = [int(text.split()[1]) for text in two.seen]
    assert numbers == sorted(numbers)
    assert f"value {len(world.computed)}" not in two.seen
    assert "another process may compute it now" in caplog.text
    world.advance(20)
    assert {name for _, name in world.computed[-2:]} == {"B"}


def test_a_fast_takeover_in_the_same_beat_computes_nothing_twice() -> None:
    world = World(nodes=2)
    one, two = world.nodes
    one.watch()
    two.watch()
    world.advance(7.5)
    assert len(world.computed) == 2
    leader = next(node for node in world.nodes if node.name == world.computed[-1][1])
    leader.leave()
    world.advance(1)
    assert len(world.computed) == 2
    world.advance(9)
    assert len(world.computed) == 3


def test_a_value_that_is_good_for_longer_is_sent_again_by_whoever_leads() -> None:
    world = World(nodes=2, interval=10, duration=30)
    one, two = world.nodes
    one.watch()
    world.advance(8)
    two.watch()
    one.leave()
    world.advance(10)
    assert world.when == [(0, "A")]
    assert two.seen[-1] == "value 1"
    world.advance(20)
    assert [name for _, name in world.computed] == ["A", "B"]


def test_a_process_that_starts_hears_what_is_there_before_it_computes() -> None:
    world = World(nodes=1, duration=30)
    world.nodes[0].watch()
    world.advance(8)
    world.nodes[0].leave()
    world.advance(1)
    late = Node(world, "L", duration=30)
    world.nodes.append(late)
    late.watch()
    world.advance(3)
    assert world.when == [(0, "A")]
    assert late.channel.newest is not None


def test_a_value_that_came_out_the_same_is_good_on_all_nodes() -> None:
    world = World(nodes=2, repeat=False)
    world.result = lambda: "the same"
    one, two = world.nodes
    one.watch()
    world.advance(38)
    assert one.seen == ["the same"]
    assert two.channel.newest is not None  # at once, for its first watcher
    two.watch()
    one.leave()
    world.advance(1)
    assert len(world.computed) == 5


# Failures


def test_a_failure_and_a_recovery_are_told_on_all_nodes() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    for node in world.nodes:
        node.error = RuntimeError("no")
    world.advance(10)
    assert [node.told for node in world.nodes] == [[True]] * 3
    for node in world.nodes:
        node.error = None
    world.advance(60)
    assert [node.told for node in world.nodes] == [[False]] * 3


def test_a_feed_that_fails_on_one_node_is_tried_on_another() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    leader = next(node for node in world.nodes if node.name == world.computed[-1][1])
    leader.error = RuntimeError("its database is away")
    world.advance(60)
    assert world.computed[-1][1] != leader.name
    assert [node.told for node in world.nodes] == [[False]] * 3


def test_alone_it_goes_on_trying_and_sends_its_last_value_meanwhile() -> None:
    world = World(nodes=1)
    node = world.nodes[0]
    node.watch()
    world.advance(8)
    node.error = RuntimeError("no")
    world.advance(100)
    assert node.seen[:2] == ["value 1", "value 2"]
    assert set(node.seen[2:]) == {"value 2"}
    assert len(node.seen) >= 8
    node.error = None
    world.advance(70)
    assert node.told == [False]


# The engine


def test_while_the_engine_is_away_little_is_computed_and_then_all_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    before = len(world.computed)
    with caplog.at_level(logging.INFO, "pushdemo.push.broker.line"):
        world.broker.away = True
        world.advance(200)
        assert len(world.computed) - before <= 2
        world.broker.away = False
        world.advance(40)
    assert len(world.computed) - before <= 7
    assert len({tuple(node.seen) for node in world.nodes}) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 * 3  # each node: when it goes, and when it is back
    assert "the broker is away, and open pages keep their last values: it is away" in said
    assert any(line.startswith("the broker memory is back, after ") for line in said)


def test_an_error_that_nobody_has_thought_of_is_as_if_it_were_away() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    world.broker.odd = True
    world.advance(30)
    assert "I/O operation on closed file" in world.nodes[0].cluster.away
    world.broker.odd = False
    seen = len(world.nodes[0].seen)
    world.advance(40)
    assert len(world.nodes[0].seen) >= seen + 3
    assert [node.cluster.away for node in world.nodes] == [""] * 3


def test_for_a_feed_that_rests_nothing_is_asked_and_nothing_is_away() -> None:
    world = World(nodes=1)
    node = world.nodes[0]
    world.broker.away = True
    node.watch()
    world.advance(5)
    assert node.cluster.away == "it is away"
    node.leave()
    world.advance(5)
    assert node.cluster.away == ""


def test_an_outdated_value_is_shown_while_nothing_newer_can_be_had() -> None:
    world = World(nodes=1)
    node = world.nodes[0]
    node.watch()
    world.advance(8)
    node.leave()
    world.advance(100)
    world.broker.away = True
    assert node.channel.newest is None
    node.watch()
    world.advance(1)
    assert node.channel.newest is not None
    world.broker.away = False
    world.advance(5)
    assert node.seen[-1] == "value 3"


def test_a_clock_that_is_never_quite_right_leaves_no_beat_out() -> None:
    """A value expires on the next beat: a hair later, and that beat would send it again."""
    world = World(nodes=2)
    for node in world.nodes:
        node.watch()
    world.advance(8)
    for beat in range(10):
        assert world.broker.clock.offset is not None
        world.broker.clock.offset += (-1) ** beat * 2_000_000
        world.advance(10)
    assert len(world.computed) == 12


def test_what_was_computed_while_the_engine_was_away_is_sent_when_it_is_back() -> None:
    world = World(nodes=2, interval=3600, duration=3600)
    world.nodes[0].watch()
    world.broker.full = True
    world.advance(60)
    assert len(world.computed) == 1
    world.broker.full = False
    world.advance(30)
    assert len(world.computed) == 1  # an hourly report is not made again for that
    assert world.nodes[0].seen == ["value 1"]
    assert world.nodes[1].channel.newest is not None


def test_while_it_is_full_one_computation_a_beat_is_lost_at_most() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    world.broker.full = True
    world.advance(100)
    assert len(world.computed) <= 2 + 11
    world.broker.full = False
    world.advance(30)
    assert len({tuple(node.seen) for node in world.nodes}) == 1


def test_an_engine_s_clock_that_is_set_back_does_not_silence_the_feed() -> None:
    world = World()
    for node in world.nodes:
        node.watch()
    world.advance(8)
    assert world.broker.clock.offset is not None
    world.broker.clock.offset -= 3600 * SECOND
    world.nodes[0].leave()
    world.nodes[0].watch()
    world.advance(45)
    assert 5 <= len(world.computed) <= 8


def test_an_answer_that_comes_late_does_no_harm() -> None:
    world = World(nodes=2)
    for node in world.nodes:
        node.watch()
    world.advance(8)
    world.held = []
    world.advance(50)
    held, world.held = world.held, None
    for task in held:
        task()
    world.advance(30)
    assert len({tuple(node.seen) for node in world.nodes}) == 1
    numbers = [int(text.split()[1]) for text in world.nodes[0].seen]
    assert numbers == sorted(numbers)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["watch", "leave", "stop", "go on", "away", "back", "full", "wait"]),
            st.integers(0, 2),
            st.integers(0, 12),
        ),
        max_size=25,
    )
)
@settings(max_examples=60)
def test_whatever_happens_all_see_the_same_and_no_beat_twice(
    steps: list[tuple[str, int, int]],
) -> None:
    world = World()
    watching: set[int] = set()
    for what, number, seconds in steps:
        node = world.nodes[number]
        match what:
            case "watch" if number not in watching:
                watching.add(number)
                node.watch()
            case "leave" if number in watching:
                watching.discard(number)
                node.leave()
            case "stop" | "go on":
                node.stopped = what == "stop"
            case "away" | "back":
                world.broker.away, world.broker.full = what == "away", False
            case "full":
                world.broker.full = True
        world.advance(seconds)
    for node in world.nodes:
        node.stopped = False
        if not node.channel.watched:
            node.watch()
    world.broker.away = world.broker.full = False
    world.advance(60)
    events = [[event.id for event in node.channel.since(0)] for node in world.nodes]
    assert events[0] == events[1] == events[2]
    assert len(events[0]) == len(set(events[0]))
    assert not any(node.channel.breaks_after(0) for node in world.nodes)
    last_beats = [at for at, _ in world.computed if at > world.seconds - 45]
    beats = [int((at + 3) // 10) for at in last_beats]
    assert len(beats) == len(set(beats))


# Values from outside


def test_what_is_published_is_heard_everywhere_and_the_same_key_is_one_event() -> None:
    world = World(nodes=2)
    value = Value(payload_of({"x": 1}), computed=5.0, fresh_until=sys.maxsize)
    first = publish_value(world.broker, "x", value, 1, key="k")
    publish_value(world.broker, "x", value, 1)
    assert publish_value(world.broker, "x", value, 1, key="k") == first
    for node in world.nodes:
        assert len(node.channel.since(0)) == 2
        assert node.channel.newest is not None
        assert node.channel.newest.value == value


def test_what_cannot_be_read_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(nodes=1)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            world.broker.publish("x", b"nonsense", once=f"n{number}")
        world.broker.publish("x", b'{"v":99}\n', once="other")
        value = Value(Data("1"), computed=1.0, fresh_until=sys.maxsize)
        world.broker.publish("x", encode_sent(Sent(value), world.broker.clock), once="good")
    assert [event.value.payload for event in world.nodes[0].channel.since(0)] == [Data("1")]
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said == [
        "feed x: what came from the broker is left out: it does not begin with a line of JSON"
    ]


def test_another_interval_in_another_process_is_said(caplog: pytest.LogCaptureFixture) -> None:
    world = World(nodes=1)
    world.nodes.append(Node(world, "B", interval=20))
    with caplog.at_level(logging.WARNING):
        world.nodes[0].watch()
        world.advance(30)
    said = [record.getMessage() for record in caplog.records if "interval" in record.getMessage()]
    assert said == [
        "feed x: its interval is 20 s here and 10 s in another process: each uses its own while it"
        " computes"
    ]


# Parts


@pytest.mark.parametrize(
    ("history", "size", "kept"),
    [
        *((1, 0, 256), (1, 250, 256), (1, 100_000, 41)),
        *((1, 1 << 20, 8), (50, 1 << 20, 50), (1000, 9, 1000)),
    ],
)
def test_a_log_keeps_what_a_burst_and_the_history_need(history: int, size: int, kept: int) -> None:
    assert entries_to_keep(history, size) == kept


def test_the_line_is_away_while_one_kind_of_question_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, changes = [0.0], list[bool]()
    line = Line("redis://x", changes.append, lambda: now[0])
    with caplog.at_level(logging.INFO):
        line.works("lease")
        line.fails("publish", "it is full")
        line.fails("publish", "it is full")
        line.works("lease")
        assert line.failing == "it is full"
        line.fails("lease", "gone")
        line.works("publish")
        now[0] = 2.5
        line.works("lease")
        line.works("lease")
    assert line.failing == ""
    assert changes == [True, False]
    assert [record.getMessage() for record in caplog.records] == [
        "the broker is away, and open pages keep their last values: it is full",
        "the broker redis://x is back, after 2.5 s",
    ]
