"""A channel: what it keeps, whom it tells, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Blob, Text
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Value
from pushdemo.push.position import position_of

FRAMING = Multipart("test")


def value(text: str = "x", fresh_until: int = 100) -> Value:
    return Value(Text(text), computed=0.0, fresh_until=fresh_until)


def deaf() -> None:
    pass


def at(now: list[int]) -> Callable[[], int]:
    return lambda: now[0]


def test_it_has_nothing_at_first() -> None:
    channel = Channel("x")
    assert channel.newest is None
    assert channel.since(0) == []
    assert not channel.watched


@given(
    history=st.integers(1, 5),
    published=st.integers(0, 12),
    reached=st.integers(0, 15),
)
def test_since_gives_what_came_after_as_far_back_as_the_history_goes(
    history: int, published: int, reached: int
) -> None:
    channel = Channel("x", history=history)
    for number in range(published):
        channel.publish(value(str(number + 1)))
    expected = [n for n in range(1, published + 1) if n > reached][-history:]
    given = channel.since(reached)
    assert [event.sequence for event in given] == expected
    assert [event.value.payload for event in given] == [Text(str(n)) for n in expected]


def test_a_subscriber_is_told_of_each_event_after_it_can_be_read() -> None:
    channel = Channel("x")
    seen: list[int] = []

    def listener() -> None:
        assert channel.newest is not None
        seen.append(channel.newest.sequence)

    channel.subscribe(listener, FRAMING)
    channel.publish(value())
    channel.publish(value())
    channel.unsubscribe(listener)
    channel.publish(value())
    assert seen == [1, 2]


def test_frames_are_ready_before_subscribers_are_told() -> None:
    class Counting:
        encoded = 0

        def encode(self, event: object) -> bytes:  # noqa: ARG002
            self.encoded += 1
            return b"frame"

    channel = Channel("x")
    encoder = Counting()
    at_telling: list[int] = []
    channel.subscribe(lambda: at_telling.append(encoder.encoded), encoder)
    channel.subscribe(lambda: at_telling.append(encoder.encoded), encoder)
    event = channel.publish(value())
    assert at_telling == [1, 1]
    event.frame(encoder)
    assert encoder.encoded == 1


def test_the_feed_is_woken_by_the_first_subscriber_only() -> None:
    woken: list[bool] = []
    channel = Channel("x")
    channel.on_watched = lambda: woken.append(channel.watched)
    channel.subscribe(deaf, FRAMING)
    channel.subscribe(lambda: None, FRAMING)
    assert woken == [True]
    channel.unsubscribe(deaf)
    assert channel.watched


def test_unsubscribing_twice_is_no_error() -> None:
    channel = Channel("x")
    channel.subscribe(deaf, FRAMING)
    channel.unsubscribe(deaf)
    channel.unsubscribe(deaf)
    assert not channel.watched


def test_who_comes_first_after_a_rest_gets_a_value_only_while_it_is_good() -> None:
    now = [0]
    channel = Channel("x", clock=at(now))
    event = channel.publish(value(fresh_until=100))
    now[0] = 99
    channel.subscribe(deaf, FRAMING)
    assert channel.state() == [event]
    channel.unsubscribe(deaf)
    now[0] = 100
    assert channel.newest is None
    channel.subscribe(deaf, FRAMING)
    assert channel.state() == []
    assert channel.newest is None


def test_while_it_is_watched_the_last_value_is_good_however_old() -> None:
    """Its feed is failing, or slow: the last good value is still the state of things."""
    now = [0]
    channel = Channel("x", clock=at(now))
    channel.subscribe(deaf, FRAMING)
    event = channel.publish(value(fresh_until=100))
    now[0] = 1000
    channel.subscribe(lambda: None, FRAMING)
    assert channel.state() == [event]


def test_sequences_go_on_after_a_rest() -> None:
    now = [0]
    channel = Channel("x", clock=at(now))
    channel.publish(value(fresh_until=1))
    now[0] = 2
    channel.subscribe(deaf, FRAMING)
    assert channel.publish(value()).sequence == 2


def test_ids_are_made_of_an_epoch_and_the_sequence() -> None:
    assert [Channel("x", epoch="e").publish(value()).id] == ["e-1"]
    assert Channel("x").epoch != Channel("x").epoch


@given(history=st.integers(1, 5), published=st.integers(0, 12), last=st.integers(0, 15))
def test_resuming_gives_all_that_came_after_or_says_that_it_cannot(
    history: int, published: int, last: int
) -> None:
    channel = Channel("x", history=history, epoch="e")
    for number in range(published):
        channel.publish(value(str(number + 1)))
    resumed = channel.resume(position_of(f"e-{last}"))
    if published - history <= last <= published:
        assert isinstance(resumed, list)
        assert [event.sequence for event in resumed] == list(range(last + 1, published + 1))
    else:
        assert resumed is None


@pytest.mark.parametrize("last_id", ["", "1", "other-1", "e-", "e-x", "e--1", "e-1.5", "e-\u0661"])
def test_an_id_that_is_none_of_ours_cannot_be_resumed_from(last_id: str) -> None:
    channel = Channel("x", epoch="e")
    channel.publish(value())
    assert channel.resume(position_of(last_id)) is None
    assert channel.resume(position_of("e-1")) == []


def test_resuming_across_a_rest_knows_what_is_missing() -> None:
    now = [0]
    channel = Channel("x", clock=at(now), epoch="e")
    channel.publish(value(fresh_until=1))
    channel.publish(value(fresh_until=1))
    channel.publish(value(fresh_until=1))
    now[0] = 2
    channel.subscribe(deaf, FRAMING)
    assert channel.resume(position_of("e-3")) == []
    assert channel.resume(position_of("e-2")) == [channel.last]
    assert channel.resume(position_of("e-1")) is None


def test_an_outdated_value_is_kept_for_who_resumes_and_for_a_feed_that_fails() -> None:
    now = [0]
    channel = Channel("x", clock=at(now), epoch="e")
    event = channel.publish(value(fresh_until=1))
    now[0] = 2
    assert (channel.newest, channel.last, channel.outdated) == (None, event, False)
    channel.subscribe(deaf, FRAMING)
    assert (channel.newest, channel.last, channel.outdated) == (None, event, True)
    channel.fail(123.0, 50)
    assert channel.newest is event
    assert channel.retry_in is None
    channel.recover()
    assert channel.newest is None
    again = channel.publish(value(fresh_until=3))
    assert (channel.newest, channel.outdated) == (again, False)


def test_without_any_value_a_failure_says_when_the_feed_is_tried_again() -> None:
    now = [0]
    channel = Channel("x", clock=at(now))
    told: list[int] = []
    channel.subscribe(lambda: told.append(channel.statuses()[0].number), FRAMING)
    assert channel.retry_in is None
    channel.fail(123.0, 2_500_000_000)
    assert channel.retry_in == 2.5
    now[0] = 3_000_000_000
    assert channel.retry_in == 0
    channel.fail(123.0, 7_000_000_000)  # told again: there may be others who wait for a value
    assert channel.retry_in == 4
    assert told == [1, 2]
    channel.recover()
    channel.publish(value())
    channel.fail(124.0, 8_000_000_000)
    channel.fail(124.0, 9_000_000_000)
    assert channel.retry_in is None
    assert told == [1, 2, 3, 3, 4]


def test_a_listener_that_fails_keeps_no_other_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Channel("x")
    heard: list[int] = []

    def fail() -> None:
        raise LookupError

    channel.subscribe(fail, FRAMING)
    channel.subscribe(lambda: heard.append(channel.reached), FRAMING)
    channel.publish(value())
    channel.fail(123.0, 0)
    assert heard == [1, 1]
    assert [record.getMessage() for record in caplog.records] == ["a listener failed"] * 2


def test_a_value_that_came_out_the_same_is_good_for_longer_and_is_no_event() -> None:
    now = [0]
    channel = Channel("x", clock=at(now))
    event = channel.publish(value(fresh_until=100))
    channel.renew(200)
    now[0] = 150
    assert channel.newest is event
    channel.subscribe(deaf, FRAMING)
    assert channel.state() == [event]
    assert channel.reached == 1


def test_what_a_format_cannot_carry_is_said_once_a_streak(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    image = Value(Blob(b"x", "image/png"), computed=0.0, fresh_until=100)
    channel = Channel("orders")
    channel.subscribe(deaf, EventStream())
    for one in (value(), image, image, value(), image):
        channel.publish(one)
    assert [record.getMessage() for record in caplog.records] == [
        "feed orders gives what some who watch it cannot be sent"
    ] * 2
