"""`text/event-stream`: value to bytes, read back by a reader of WHATWG HTML 9.2.6 and by sseclient.

The first is written from the standard's own words, so that it has no habits of ours.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import pytest
import sseclient
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.client.event_stream import EventStreamParser
from pushdemo.push.compute.payload import Blob, payload_of
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.variants import named
from pushdemo.push.event import CannotCarry, Event, Value

FRAMING = EventStream()


def event(result: object, number: int = 7, feed: str = "x") -> Event:
    return Event(number, f"e-{number}", feed, Value(payload_of(result), 1.0, 0))


class Message(NamedTuple):
    """A MessageEvent: its type, data and lastEventId."""

    type: str
    data: str
    last_id: str


def dispatched(stream: bytes) -> list[Message]:
    """The events that a browser would dispatch."""
    text = stream.decode("utf-8").removeprefix("\ufeff")
    messages = []
    data, kind, buffered_id = "", "", ""
    lines = re.split("\r\n|\n|\r", text)
    for line in lines[:-1]:  # the last has no end: "discard the pending data"
        if line == "":
            if data != "":
                messages.append(Message(kind or "message", data.removesuffix("\n"), buffered_id))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            buffered_id = value
        elif field == "retry":
            assert re.fullmatch("[0-9]+", value)
    return messages


def by_sseclient(stream: bytes) -> list[Message]:
    events = sseclient.SSEClient(iter([stream])).events()
    return [Message(event.event, event.data, event.id or "") for event in events]


def with_line_feeds(text: str) -> str:
    """The format has no way to say CR: what it says is a line end."""
    return re.sub("\r\n|\r", "\n", text)


awkward = st.sampled_from(
    ["\r", "\n", "\r\n", "\n\n", " ", ":", "\0", "\u2028", "\u0085", "\x0b", "\ufeff",
     "data: x", "id: 9", "event: reset", "retry: 1"]
)  # fmt: skip
texts = st.lists(awkward | st.text(max_size=3)).map("".join)


def test_a_frame_is_these_bytes() -> None:
    when = ": computed=1.000000 took=0.000000\n"
    assert FRAMING.encode(event("a\nb")) == f"id: e-7\n{when}data: a\ndata: b\n\n".encode()
    assert FRAMING.encode(event({"a": [1, "ü\n"]})) == (
        f'id: e-7\n{when}data: {{"a":[1,"ü\\n"]}}\n\n'.encode()
    )
    assert EventStream(named=True).encode(event(7, feed="größe")) == (
        f"id: e-7\n{when}event: größe\ndata: 7\n\n".encode()
    )


def test_the_opening_is_when_to_come_back_in_milliseconds() -> None:
    assert EventStream(1500).opening == b"retry: 1500\n"


@given(st.lists(texts, min_size=1, max_size=4), st.integers(0, 3))
def test_readers_that_are_not_exact_find_one_event_for_each(results: list[str], beats: int) -> None:
    """Some make an event of every empty line. Others split at the empty lines, and take what begins
    with a colon for a comment."""
    frames = [FRAMING.encode(event(text, number)) for number, text in enumerate(results)]
    parts = [FRAMING.opening, *(FRAMING.heartbeat * beats + frame for frame in frames)]
    parts += [FRAMING.reset, FRAMING.encode(event("last"))]
    *blocks, rest = b"".join(parts).split(b"\n\n")
    assert len(blocks) == len(results) + 2
    assert not any(block.startswith((b":", b"\n")) for block in blocks)
    assert rest == b""


@given(st.lists(texts, min_size=1, max_size=4))
@example([""])
@example([" leading", "  two", "\u2028", "\ufeff", "\0", ":", "a\r\nb\rc\n"])
def test_any_text_comes_back_event_by_event(results: list[str]) -> None:
    events = [event(text, number) for number, text in enumerate(results, 1)]
    stream = FRAMING.opening + FRAMING.heartbeat.join(map(FRAMING.encode, events))
    sent = [payload_of(text) for text in results]
    expected = [
        Message("message", with_line_feeds(payload.text), f"e-{number}")  # type: ignore[union-attr]
        for number, payload in enumerate(sent, 1)
    ]
    assert dispatched(stream) == expected
    assert by_sseclient(stream) == expected


@given(
    st.recursive(
        st.none() | st.integers() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    ).filter(lambda value: not isinstance(value, str))
)
@example({"\u2028\r\n": ["\n\n"]})
def test_data_comes_back_as_json_on_one_line(value: Any) -> None:
    frame = FRAMING.encode(event(value))
    expected = json.loads(json.dumps(value))
    for read in (dispatched, by_sseclient):
        (message,) = read(frame)
        assert json.loads(message.data) == expected
        assert message[0::2] == ("message", "e-7")
    # Some split an event's lines as str.splitlines does.
    assert frame.count(b"\n") == len(frame.decode().splitlines()) == 4


@given(st.text(st.characters(exclude_categories=["Zs", "Zl", "Zp", "Cc", "Cs"]), min_size=1))
@example("a:b")
@example(":")
@example("größe")
def test_on_a_stream_of_several_the_type_is_the_feed_s_name(feed: str) -> None:
    frame = named(FRAMING).encode(event("x", feed=feed))
    assert dispatched(frame) == by_sseclient(frame) == [Message(feed, "x", "e-7")]


def test_a_reset_is_an_event_of_its_own_and_changes_no_id() -> None:
    stream = FRAMING.encode(event("a", 1)) + FRAMING.reset + FRAMING.encode(event("b", 9))
    first, reset, last = dispatched(stream)
    assert (first, last) == (Message("message", "a", "e-1"), Message("message", "b", "e-9"))
    assert (reset.type, reset.last_id) == ("reset", "e-1")
    assert json.loads(reset.data) == {"event": "reset"}
    assert [message.type for message in by_sseclient(stream)] == ["message", "reset", "message"]


def test_a_heartbeat_says_again_when_to_come_back() -> None:
    assert EventStream(1500).heartbeat == b"retry: 1500\n"
    stream = FRAMING.heartbeat * 3 + FRAMING.encode(event("x"))
    assert dispatched(stream) == by_sseclient(stream) == [Message("message", "x", "e-7")]
    assert dispatched(FRAMING.heartbeat * 3) == []


def test_our_client_learns_when_to_come_back_before_the_first_event() -> None:
    parser = EventStreamParser()
    assert parser.feed(EventStream(1500).opening) == []
    assert parser.retry == 1500


def test_an_event_that_broke_off_is_not_dispatched() -> None:
    frame = FRAMING.encode(event("whole"))
    assert [dispatched(frame[:end]) for end in range(len(frame))] == [[]] * len(frame)
    assert len(dispatched(frame)) == 1


def test_the_last_frame_is_as_any_other() -> None:
    frame = FRAMING.encode(event("x"))
    assert FRAMING.last(frame) == frame


@pytest.mark.parametrize("value", [b"x", (b"x", "text/plain")])
def test_it_cannot_carry_bytes(value: object) -> None:
    assert isinstance(payload_of(value), Blob)
    with pytest.raises(CannotCarry):
        FRAMING.encode(event(value))
    assert event(value).frame(FRAMING) == b""
