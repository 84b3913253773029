"""A combined channel: several channels as one, for subscribers that come and go and come back."""

from __future__ import annotations

import gc
import json
import socket
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.push.channel import Channel, Missed
from pushdemo.push.combined import CombinedChannel, CombinedChannels
from pushdemo.push.compute.payload import Data
from pushdemo.push.deliver import sockets
from pushdemo.push.deliver.answer import Beginning
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event, Value
from pushdemo.push.position import position_of
from tests.history import Client, Connected, Disconnected, Published, Reset, Seen
from tests.judging import judge
from tests.servers import HANG

FRAMING = NdJson()


def publish(channel: Channel, *, fresh_until: int = 2**62, blanks: int = 0) -> None:
    """The channel's next event; its value is its number, and so many blanks of JSON."""
    value = Data(" " * blanks + str(channel.reached + 1))
    channel.publish(Value(value, computed=0.0, fresh_until=fresh_until))


def number(event: Event) -> int:
    assert isinstance(event.value.payload, Data)
    return int(event.value.payload.json)


def seen(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.feed, number(event)) for event in events]


def two(history: int = 5) -> tuple[Channel, Channel, CombinedChannel]:
    a, b = Channel("a", history=history, epoch="a"), Channel("b", history=history, epoch="b")
    return a, b, CombinedChannel([a, b])


def deaf() -> None:
    pass


# By example


def test_a_newcomer_sees_the_newest_of_each_feed() -> None:
    a, b, combined = two()
    for channel in (a, a, b, b, b):
        publish(channel)
    combined.subscribe(deaf)
    assert sorted(seen(combined.state())) == [("a", 2), ("b", 3)]
    publish(a)
    assert sorted(seen(combined.state())) == [("a", 3), ("b", 3)]


def test_a_feed_without_a_value_is_not_in_the_state() -> None:
    a, _, combined = two()
    publish(a)
    combined.subscribe(deaf)
    assert seen(combined.state()) == [("a", 1)]


def test_events_come_in_the_order_in_which_they_were_published() -> None:
    a, b, combined = two()
    told: list[int] = []
    combined.subscribe(lambda: told.append(combined.reached))
    for channel in (a, b, b, a, b):
        publish(channel)
    assert seen(combined.since(0)) == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("b", 3)]
    assert [event.sequence for event in combined.since(0)] == told == [1, 2, 3, 4, 5]
    assert seen(combined.since(3)) == [("a", 2), ("b", 3)]


def test_an_id_is_made_of_the_channels_ids() -> None:
    a, b, combined = two()
    combined.subscribe(deaf)
    for channel in (a, b, b):
        publish(channel)
    assert [event.id for event in combined.since(0)] == ["a-1.b-0", "a-1.b-1", "a-1.b-2"]


def test_an_event_is_encoded_once_and_before_anybody_is_told() -> None:
    class Counting(NdJson):
        encoded = 0

        def encode(self, event: Event) -> bytes:
            Counting.encoded += 1
            return super().encode(event)

    a, b, combined = two()
    at_telling: list[int] = []
    for _ in range(2):
        combined.subscribe(lambda: at_telling.append(Counting.encoded), Counting())
    for channel in (a, b):
        publish(channel)
    combined.state()[0].frame(Counting())
    assert at_telling == [1, 1, 2, 2] or at_telling == [1, 2]


def test_its_channels_are_watched_while_it_is() -> None:
    a, b, combined = two()
    listeners = [lambda: None, lambda: None]
    for listener in listeners:
        combined.subscribe(listener)
    for listener in listeners:
        assert a.watched
        assert b.watched
        combined.unsubscribe(listener)
        combined.unsubscribe(listener)  # twice is no error
    assert not a.watched
    assert not b.watched


def test_ids_survive_a_rest_of_the_mix_and_the_mix_itself() -> None:
    a, b, combined = two()
    combined.subscribe(deaf)
    publish(a)
    publish(b)
    last_id = combined.since(0)[-1].id
    combined.unsubscribe(deaf)
    for channel in (b, a, b):
        publish(channel)
    for source in (combined, CombinedChannel([a, b])):
        source.subscribe(deaf)
        missed = source.resume(position_of(last_id))
        assert isinstance(missed, list)
        assert sorted(seen(missed)) == [("a", 2), ("b", 2), ("b", 3)]
        assert missed[-1].id == "a-2.b-3"


def test_a_client_that_stops_half_way_through_what_it_missed_sees_none_of_it_twice() -> None:
    """It saw b's newest event before a's, and the combined channel has them the other way
    round when it starts again."""
    a, b, combined = two()
    combined.subscribe(deaf)
    publish(b)
    last_id = combined.since(0)[-1].id
    publish(a)
    combined.unsubscribe(deaf)
    combined.subscribe(deaf)
    missed = combined.resume(position_of(last_id))
    assert isinstance(missed, list)
    assert seen(missed) == [("a", 1)]
    assert combined.resume(position_of(missed[0].id)) == []


def test_who_resumes_gets_the_very_events_that_all_others_got_and_in_their_order() -> None:
    a, b, combined = two()
    combined.subscribe(deaf)
    for channel in (a, b, b, a, b):
        publish(channel)
    resumed = combined.resume(position_of("a-1.b-1"))
    assert isinstance(resumed, list)
    assert seen(resumed) == [("b", 2), ("a", 2), ("b", 3)]
    assert [id(event) for event in resumed] == [id(event) for event in combined.since(2)]


def test_who_resumes_before_the_mix_has_heard_of_an_event_is_told_of_it_later() -> None:
    a, _, combined = two()
    resumed: list[Missed] = []
    a.subscribe(
        lambda: resumed.append(combined.resume(position_of("a-0.b-0")))
    )  # is told before the combined channel
    combined.subscribe(deaf)
    publish(a)
    assert resumed == [[]]
    assert seen(combined.since(0)) == [("a", 1)]


@pytest.mark.parametrize(
    "last_id",
    ["", "a-1", "a-1.b-1.c-1", "a-1.b-1.b-1", "a-9.b-1", "a-1.x-1", "a-1.", ".", "a-1+b-1"],
)
def test_an_id_that_is_none_of_its_own_cannot_be_resumed_from(last_id: str) -> None:
    a, b, combined = two()
    combined.subscribe(deaf)
    publish(a)
    publish(b)
    assert combined.resume(position_of("a-1.b-1")) == []
    assert combined.resume(position_of("b-1.a-1")) == []  # from when they were in another order
    assert combined.resume(position_of(last_id)) is None


def test_one_feed_s_gap_is_enough_to_say_that_it_cannot() -> None:
    a, b, combined = two(history=2)
    combined.subscribe(deaf)
    for channel in (a, b, a, a, a):
        publish(channel)
    assert combined.resume(position_of("a-1.b-1")) is None
    resumed = combined.resume(position_of("a-2.b-1"))
    assert isinstance(resumed, list)
    assert seen(resumed) == [("a", 3), ("a", 4)]


def test_the_same_channels_are_the_same_mix_for_as_long_as_somebody_has_it() -> None:
    a, b, _ = two()
    combinations = CombinedChannels()
    assert combinations.source([a]) is a
    combined = combinations.source([a, b])
    assert combinations.source([a, b]) is combined
    combined.subscribe(deaf)
    weak = weakref.ref(combined)
    del combined
    gc.collect()
    assert weak() is not None
    found = weak()
    assert found is combinations.source([a, b])
    assert found is not None
    found.unsubscribe(deaf)
    del found
    gc.collect()
    assert weak() is None


class Begins:
    """An answer that begins with the first event."""

    patience = 0.0

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        return Beginning(b"", True)

    def come_back(self, milliseconds: int) -> bytes:  # noqa: ARG002
        return b""

    def fail(self) -> Beginning:
        return Beginning(b"", False)


@pytest.mark.parametrize("blanks", [0, 1_000_000])
def test_a_slow_client_too_gets_what_it_missed_before_the_mix_began(
    blanks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot take the first of that at once; and what it has next has no number there."""
    monkeypatch.setattr(sockets, "SEND_BUFFER", 4096)
    a, b, combined = two()
    for channel in (a, b, a, a):
        publish(channel, blanks=blanks)
    broadcaster = Broadcaster()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HANG)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        broadcaster.attach(
            [server],
            Begins(),
            Subscription(combined, FRAMING, resume_from=position_of("a-1.b-1")),
        )
        with client.makefile("rb") as file:
            missed = [json.loads(file.readline()) for _ in range(2)]
            publish(b)
            missed.append(json.loads(file.readline()))
        broadcaster.close()
    assert [(event["id"], event["value"]) for event in missed] == [
        ("a-2.b-1", 2), ("a-3.b-1", 3), ("a-3.b-2", 2)
    ]  # fmt: skip


# By a model


class Subscriber:
    """What a stream does with a source: it sends what there is, and at each news what is new."""

    def __init__(self, name: str, combined: CombinedChannel) -> None:
        self.combined = combined
        self.client = Client(name, combined.name.split("+"))
        self.last_id: str | None = None
        self.connected = False
        self.unread: list[Event] = []
        self.reached = 0

    def connect(self) -> None:
        self.connected = True
        self.combined.subscribe(self.hear, FRAMING)
        self.reached = self.combined.reached
        missed = None if self.last_id is None else self.combined.resume(position_of(self.last_id))
        self.client.entries.append(Connected(0.0, self.last_id))
        if self.last_id is not None and missed is None:
            self.client.entries.append(Reset(0.0))
        self.unread = missed if isinstance(missed, list) else self.combined.state()
        assert all(event.sequence <= self.reached for event in self.unread)

    def hear(self) -> None:
        events = self.combined.since(self.reached)
        self.reached = max([self.reached, *(event.sequence for event in events)])
        self.unread += events

    def read(self) -> None:
        event = self.unread.pop(0)
        self.client.entries.append(Seen(0.0, event.feed, event.id, number(event)))
        self.last_id = event.id

    def leave(self) -> None:
        self.connected = False
        self.combined.unsubscribe(self.hear)
        self.client.entries.append(Disconnected(0.0))
        self.unread = []


class World:
    """Channels, all of them combined, and subscribers that come and go, with what they see."""

    def __init__(self, histories: list[int], subscribers: int) -> None:
        self.now = 0
        self.channels = [
            Channel(name, history=history, epoch=name, clock=lambda: self.now)
            for name, history in zip("abc", histories, strict=False)
        ]
        self.alone: set[Channel] = set()  # channels that somebody watches alone
        self.combined = CombinedChannel(self.channels)
        self.subscribers = [Subscriber(f"client {n}", self.combined) for n in range(subscribers)]
        self.published: list[Published] = []

    def publish(self, which: int) -> None:
        channel = self.channels[which % len(self.channels)]
        publish(channel, fresh_until=self.now + 10)
        self.published.append(
            Published(channel.name, channel.id_of(channel.reached), channel.reached)
        )

    def read(self, which: int) -> None:
        """One event; or, by who is not there, nothing but to come."""
        subscriber = self.subscribers[which % len(self.subscribers)]
        if not subscriber.connected:
            self.connect(subscriber)
        elif subscriber.unread:
            subscriber.read()

    def leave(self, which: int) -> None:
        """What was sent and not read is lost."""
        self.subscribers[which % len(self.subscribers)].leave()

    def watch_or_leave_one_channel(self, which: int) -> None:
        channel = self.channels[which % len(self.channels)]
        if channel in self.alone:
            self.alone.remove(channel)
            channel.unsubscribe(deaf)
        else:
            self.alone.add(channel)
            channel.subscribe(deaf)

    def pass_time(self, _: int) -> None:
        """What nobody watches is too old to be shown now."""
        self.now += 10

    def connect(self, subscriber: Subscriber) -> None:
        resets = subscriber.client.resets
        subscriber.connect()
        if subscriber.last_id is None:
            newest = {channel.name: channel.newest for channel in self.channels}
            expected = [(name, number(event)) for name, event in newest.items() if event]
            assert sorted(seen(subscriber.unread)) == expected
            return
        positions = [int(part.rpartition("-")[2]) for part in subscriber.last_id.split(".")]
        complete = all(
            len(channel.since(position)) == channel.reached - position
            for channel, position in zip(self.channels, positions, strict=True)
        )
        assert subscriber.client.resets == resets + (not complete)

    def check(self) -> None:
        connected = [subscriber for subscriber in self.subscribers if subscriber.connected]
        for channel in self.channels:
            assert channel.watched == (bool(connected) or channel in self.alone)
            if channel.newest is not None:  # who has read all has the newest
                lasts = [
                    subscriber.client.last(channel.name)
                    for subscriber in connected
                    if not subscriber.unread
                ]
                assert all(last and last.value == channel.reached for last in lasts)


OFTEN = [World.publish, World.read, World.read, World.leave]
STEPS = [*OFTEN, *OFTEN, World.watch_or_leave_one_channel, World.pass_time]


@settings(max_examples=600, deadline=None)
@given(
    histories=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    subscribers=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), min_size=40, max_size=80),
)
def test_no_subscriber_misses_an_event_or_sees_one_twice(
    histories: list[int], subscribers: int, steps: list[tuple[Callable[[World, int], None], int]]
) -> None:
    world = World(histories, subscribers)
    for step, which in steps:
        step(world, which)
        world.check()
    verdict = judge(world.published, [subscriber.client for subscriber in world.subscribers])
    assert verdict, verdict
