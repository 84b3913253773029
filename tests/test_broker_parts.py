"""What a broker carries, the engine's clock, and addresses: by value."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.broker import broker_for
from pushdemo.push.broker.body import (
    OtherVersion,
    Sent,
    Status,
    Unreadable,
    decode_sent,
    decode_status,
    encode_sent,
    encode_status,
)
from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.broker.protocol import Misconfigured
from pushdemo.push.broker.redis import Address
from pushdemo.push.compute.payload import Data, Payload, Text
from pushdemo.push.event import Value
from tests.payloads import any_payload

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


class Turned(EngineClock):
    """A clock at `monotonic`, with the engine's so much ahead."""

    def __init__(self, monotonic: int = 50 * SECOND, offset: int | None = 1000 * SECOND) -> None:
        self.at = monotonic
        super().__init__(lambda: self.at)
        self.offset = offset


times = st.floats(0, 1e10)


@given(any_payload, times, times, st.none() | times, st.integers(0, 10**6))
def test_a_value_arrives_as_it_was_sent(
    payload: Payload, computed: float, took: float, interval: float | None, good_for: int
) -> None:
    clock = Turned()
    fresh_until = clock.at + good_for * SECOND
    sent = Sent(Value(payload, computed, fresh_until=fresh_until, took=took), interval)
    assert decode_sent(encode_sent(sent, clock), clock) == sent


@given(st.none() | times, st.integers(51, 10**6))
def test_a_status_arrives_as_it_was_sent(failing_since: float | None, at: int) -> None:
    clock = Turned()
    status = Status(failing_since, at * SECOND, at * SECOND)
    assert decode_status(encode_status(status, clock), clock) == status
    sent = Sent(Value(Data("1"), 0.0, fresh_until=sys.maxsize), 5.0, status._replace(fresh_until=0))
    assert decode_sent(encode_sent(sent, clock), clock) == sent


def test_a_value_that_is_good_for_ever_is_so_elsewhere() -> None:
    clock = Turned()
    sent = Sent(Value(Text("x"), 0.0, fresh_until=sys.maxsize))
    assert decode_sent(encode_sent(sent, clock), clock).value.fresh_until == sys.maxsize


def fresh_for(here: EngineClock, there: EngineClock) -> float:
    """For how many seconds a value that is good for 10 is good elsewhere."""
    sent = Sent(Value(Text("x"), 0.0, fresh_until=here.now() + 10 * SECOND))
    read = decode_sent(encode_sent(sent, here), there)
    return round((read.value.fresh_until - there.now()) / SECOND, 3)


def test_it_is_good_until_the_same_moment_of_the_engine_s_clock() -> None:
    here = Turned(50 * SECOND, 1000 * SECOND)
    assert fresh_for(here, Turned(7 * SECOND, 1043 * SECOND)) == 10
    assert fresh_for(here, Turned(11 * SECOND, 1043 * SECOND)) == 6  # read 4 s later


def test_a_clock_that_was_set_back_makes_it_no_longer() -> None:
    here = Turned(50 * SECOND, 1000 * SECOND)
    assert fresh_for(here, Turned(50 * SECOND, 1000 * SECOND - HOUR)) == 10
    assert fresh_for(here, Turned(50 * SECOND, 1000 * SECOND + HOUR)) < 0
    assert fresh_for(Turned(offset=None), Turned()) == 10
    assert fresh_for(here, Turned(offset=None)) == 10


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "it does not begin with a line of JSON"),
        (b"nonsense\n", "it does not begin with a line of JSON"),
        (b'{"v":1', "it does not begin with a line of JSON"),
        (b"[" * 9000 + b"\n", "it does not begin with a line of JSON"),
        (b"[]\n", "its first line is no object"),
        (b'{"v":1,"computed":0,"took":0}\n', "its kind is not known"),
        (b'{"v":1,"computed":0,"took":0,"kind":"video"}\n', "its kind is not known"),
        (b'{"v":1,"took":0,"kind":"text"}\n', "its computed is no number"),
        (b'{"v":1,"computed":true,"took":0,"kind":"text"}\n', "its computed is no number"),
        (b'{"v":1,"computed":NaN,"took":0,"kind":"text"}\n', "its computed is no number"),
        (b'{"v":1,"computed":0,"took":0,"kind":"text"}\n\xff', "The body is not utf-8."),
        (b'{"v":1,"computed":0,"took":0,"kind":"data"}\nx', "The body is not JSON (RFC 8259)."),
        (
            b'{"v":1,"computed":0,"took":0,"kind":"blob","type":"a\\r\\nb"}\nx',
            "what comes with the bytes is no media type, such as image/png",
        ),
        (
            b'{"v":1,"computed":0,"took":0,"kind":"blob"}\nx',
            "what comes with the bytes is no media type, such as image/png",
        ),
    ],
)
def test_what_nobody_of_us_has_sent_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(Unreadable) as refused:
        decode_sent(body, Turned())
    assert str(refused.value) == complaint


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b'{"v":1,' + rest))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for decode in (decode_sent, decode_status):
        with contextlib.suppress(Unreadable):
            decode(body, Turned())


def test_another_version_is_told_from_nonsense_and_more_is_passed_over() -> None:
    with pytest.raises(OtherVersion, match="it is of version 3, and 1 is known here"):
        decode_sent(b'{"v":3,"what":"ever"}\n', Turned())
    body = b'{"v":1,"computed":0,"took":0,"kind":"text","new":[1]}\nx'
    assert decode_sent(body, Turned()).value.payload == Text("x")


# The engine's clock


def test_the_offset_is_that_of_the_middle_of_a_question() -> None:
    clock = EngineClock()
    assert (clock.engine(5), clock.monotonic(5)) == (None, None)
    clock.note(1_000, before=100, after=300)
    assert (clock.offset, clock.engine(200), clock.monotonic(1_000)) == (800, 1_000, 200)


def test_an_answer_that_was_held_up_is_not_used() -> None:
    clock = EngineClock()
    clock.note(1000 * SECOND, before=0, after=SECOND // 1000)
    offset = clock.offset
    clock.note(1010 * SECOND, before=0, after=10 * SECOND)  # the engine stood still
    assert clock.offset == offset
    clock.note(1000 * SECOND + 7, before=0, after=SECOND // 1000)
    assert clock.offset == (offset or 0) + 7


def test_a_network_that_has_become_slow_is_believed_in_the_end() -> None:
    clock = EngineClock()
    clock.note(0, before=0, after=10_000_000)
    used = []
    for _ in range(40):
        clock.note(5 * SECOND, before=0, after=200_000_000)
        used.append(clock.offset != -5_000_000)
    assert not used[0]
    assert used[-1]


def test_a_clock_that_is_set_back_is_followed_at_once() -> None:
    clock = EngineClock()
    clock.note(HOUR, before=0, after=1000)
    clock.note(0, before=0, after=1000)
    assert clock.offset == -500


# Addresses


@pytest.mark.parametrize(
    ("url", "at"),
    [
        ("redis://host", ("redis://host", "redis://host:6379", "pushdemo")),
        ("valkey://h:1/2", ("redis://h:1/2", "valkey://h:1/2", "pushdemo")),
        ("valkeys://h", ("rediss://h", "valkeys://h:6379", "pushdemo")),
        ("rediss://u:secret@h", ("rediss://u:secret@h", "rediss://h:6379", "pushdemo")),
        ("redis://:secret@h/3?prefix=shop", ("redis://:secret@h/3", "redis://h:6379/3", "shop")),
        ("unix:///r.sock", ("unix:///r.sock", "unix:///r.sock", "pushdemo")),
        ("unix:///r.sock?db=2&prefix=x", ("unix:///r.sock?db=2", "unix:///r.sock", "x")),
        ("redis://[::1]:7000", ("redis://[::1]:7000", "redis://[::1]:7000", "pushdemo")),
    ],
)  # fmt: skip
def test_an_address_is_read_and_said_without_its_password(
    url: str, at: tuple[str, str, str]
) -> None:
    read = Address.of(url)
    assert (read.url, read.said, read.prefix) == at


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis", "give memory, or a URL that begins with redis, rediss, unix, valkey, valkeys"),
        ("http://host", "give memory, or a URL that begins with"),
        ("redis://host:port", "this is no URL"),
        ("redis://host/x", "/x is no number of a database"),
        ("redis://host?prefix=a b", "prefix must be 1 to 64 letters"),
        ("redis://host?prefix=", "prefix must be 1 to 64 letters"),
        ("redis://host?timeout=3", "timeout is no option that is known"),
        ("unix://", "there is no path of a socket"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        broker_for(url)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_memory_needs_no_broker() -> None:
    assert broker_for("memory") is None
