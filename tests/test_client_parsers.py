"""The client's parsers, bytes to events: by value, in every split, and against other parsers.

The encoders here are models, written from the description of the wire and not taken from
pushdemo.push, so that each is a test of the other.
"""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
import sseclient
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.client import BadStream, Event, TooLarge, parser_for
from pushdemo.client.multipart import MAXIMUM_HEAD
from pushdemo.client.parser import Parser

MULTIPART = "multipart/x-mixed-replace;boundary=test"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

PNG = b"\x89PNG\r\n\x1a\n\0"

# What the seed's data_stream yields.
SEEDS = (
    b"--test\nContent-type: application/xml\n\n"
    b"<?xml version='1.0' encoding='ISO-8859-1'?>\n<message>%s</message>\n--test\n"
)


def parser(content_type: str, **options: Any) -> Parser:
    found = parser_for(content_type, **options)
    assert found is not None
    return found


def parse(content_type: str, pieces: Iterable[bytes], **options: Any) -> list[Event]:
    """The events of a whole response, which came in these pieces."""
    reader = parser(content_type, **options)
    events = [event for piece in pieces for event in reader.feed(piece)] + reader.close()
    if reader.error is not None:
        raise reader.error
    return events


def bytewise(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut at these places (modulo its length)."""
    places = sorted({place % (len(data) + 1) for place in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def values(events: Iterable[Event]) -> list[Any]:
    return [event.value for event in events]


# What may be in an event, and the same in each format

cuts = st.lists(st.integers(0, 10_000), max_size=12)
ids = st.text("0123456789abcdef-.", min_size=1, max_size=12)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
feeds = st.none() | names.filter(lambda name: name not in ("message", "reset", "error"))
# What XML 1.0 can hold, without what it normalizes.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
seconds = st.integers(0, 4_000_000_000).map(float)
retries = st.none() | st.integers(0, 999_999_999)
reset = st.just(Event(type="reset"))


def multipart_events() -> st.SearchStrategy[Event]:
    xml = st.builds(
        Event, ids, feeds, st.just("message"), texts, st.just("application/xml"), seconds, retries
    )
    blob = st.builds(
        Event, ids, feeds, st.just("message"),
        st.binary() | st.sampled_from([b"\r\n--test--\r\n", b"\n--test\n", b"--test\r\n", b"\r"]),
        st.just("image/png"), seconds, retries,
    )  # fmt: skip
    return xml | blob | reset


def multipart(event: Event) -> bytes:
    if event.type != "message":
        return f"Event: {event.type}\r\n\r\n\r\n--test\r\n".encode()
    if isinstance(event.value, bytes):
        body = event.value
    else:
        declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
        body = f"{declaration}<message>{escape(event.value)}</message>\n".encode()
    assert event.computed is not None
    headers = {
        "Content-Type": event.content_type,
        "Content-Length": len(body),
        "Last-Modified": formatdate(event.computed, usegmt=True),
        "Event-ID": event.id,
        "Retry": event.retry,
        "Feed": None if event.feed is None else quote(event.feed),
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body + b"\r\n--test\r\n"


def multipart_stream(events: Sequence[Event]) -> bytes:
    stream = b"--test\r\n" + b"\r\n\r\n--test\r\n".join([b"", *map(multipart, events)])
    return stream.removesuffix(b"\r\n") + b"--\r\n"


def sse_events() -> st.SearchStrategy[Event]:
    # Line ends in a text arrive as LF, so a model with another would be no model.
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))
    return st.builds(
        Event, ids, feeds, st.just("message"), text, st.just("text/plain"), retry=retries
    )


def sse(event: Event, end: str = "\n") -> bytes:
    fields = [f"id: {event.id}"]
    if event.retry is not None:
        fields.append(f"retry:{event.retry}")
    if event.feed is not None:
        fields.append(f"event: {event.feed}")
    fields += [f"data: {line}" for line in event.value.split("\n")]
    return end.join([":a comment", *fields, "", ""]).encode()


def ndjson_events() -> st.SearchStrategy[Event]:
    return st.just(Event(type="reset", content_type="application/json")) | (
        st.builds(
            Event, ids, feeds, st.just("message"), data, st.just("application/json"),
            st.floats(0, 4e9),
        )
    )  # fmt: skip


def ndjson(event: Event) -> bytes:
    if event.type == "reset":
        return b'{"event": "reset"}\n'
    said = {"id": event.id, "feed": event.feed, "computed": event.computed, "value": event.value}
    return json.dumps(said).encode() + b"\n\n"


# Any events, any split


@given(st.lists(multipart_events()), cuts)
@example([Event("1", None, "message", b"\r\n--test--\r\n", "image/png", 0.0)], [])
def test_multipart_is_read_in_any_split(events: list[Event], places: list[int]) -> None:
    stream = multipart_stream(events)
    assert parse(MULTIPART, cut(stream, places)) == events
    assert parse(MULTIPART, bytewise(stream)) == events


@given(st.lists(sse_events()), cuts, st.sampled_from(["\n", "\r", "\r\n"]), st.sampled_from([0, 1]))
def test_an_event_stream_is_read_in_any_split(
    events: list[Event], places: list[int], end: str, boms: int
) -> None:
    stream = b"\xef\xbb\xbf" * boms + b"".join(sse(event, end) for event in events)
    assert parse(SSE, cut(stream, places)) == events
    assert parse(SSE, bytewise(stream)) == events


@given(st.lists(ndjson_events()), cuts)
def test_ndjson_is_read_in_any_split(events: list[Event], places: list[int]) -> None:
    stream = b"\n".join(map(ndjson, events))
    assert parse(NDJSON, cut(stream, places)) == events
    assert parse(NDJSON, bytewise(stream)) == events


@pytest.mark.parametrize("content_type", [MULTIPART, SSE, NDJSON])
@given(st.binary() | st.text("-test\r\n: {}").map(str.encode), cuts)
def test_garbage_gives_the_same_in_any_split_and_no_error_but_ours(
    content_type: str, garbage: bytes, places: list[int]
) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[Event], str]:
        reader = parser(content_type)
        events: list[Event] = []
        try:
            for piece in pieces:
                events += reader.feed(piece)
            events += reader.close()
            if reader.error is not None:
                raise reader.error
        except BadStream as error:
            return events, str(error)
        return events, ""

    stream = b"--test\r\n" + garbage if content_type == MULTIPART else garbage
    assert outcome(cut(stream, places)) == outcome([stream]) == outcome(bytewise(stream))


@pytest.mark.parametrize(
    ("content_type", "opening", "frame"),
    [
        (MULTIPART, b"--test\r\n", multipart(Event("1", None, "message", "a", "x/y", 0.0))),
        (SSE, b"retry: 2000\n\n", b"id: 1\ndata: a\n\n"),
        (SSE, b"", b"id: 1\r\rdata: a\r\r"),
        (NDJSON, b"", b'{"id": "1", "value": "a"}\n'),
    ],
)
def test_an_event_is_given_out_with_its_last_byte(
    content_type: str, opening: bytes, frame: bytes
) -> None:
    reader = parser(content_type)
    reader.feed(opening)
    for _ in range(3):
        # A part that tells its length is whole before the delimiter behind it.
        whole = frame.removesuffix(b"\r\n--test\r\n")
        assert reader.feed(whole[:-1]) == []
        assert len(reader.feed(whole[-1:])) == 1
        assert reader.feed(frame[len(whole) :]) == []


@pytest.mark.parametrize(
    ("content_type", "stream"),
    [
        (MULTIPART, b"--test\r\nEvent-ID: 1\r\n\r\nx\r\n--test\r\n\r\nx\r\n--test\r\nEvent-ID: 2"),
        (SSE, b"id: 1\ndata: x\n\ndata: x\n\nid: 2\n"),
        (NDJSON, b'{"id": "1"}\n{"value": 1}\n{"id": "2"}'),
    ],
)  # fmt: skip
def test_the_last_id_is_that_of_the_last_whole_event_with_one(
    content_type: str, stream: bytes
) -> None:
    reader = parser(content_type)
    assert reader.last_event_id is None
    assert len(reader.feed(stream)) == 2
    reader.close()
    assert reader.last_event_id == "1"


# Multipart


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/x-mixed-replace; boundary="a b:c"',
        "Multipart/X-Mixed-Replace;charset=x;BOUNDARY=\"a b:c\"",
    ],
)  # fmt: skip
def test_a_boundary_may_be_quoted(content_type: str) -> None:
    stream = b"--a b:c\r\n\r\nx\r\n--a b:c--\r\n"
    assert values(parse(content_type, [stream])) == ["x"]


def test_what_is_no_stream_of_events_has_no_parser() -> None:
    assert parser_for("text/html; charset=utf-8") is None
    assert parser_for("multipart/form-data; boundary=x") is None
    assert parser_for("") is None


@pytest.mark.parametrize("split", [lambda data: [data], bytewise])
def test_the_seed_s_own_bytes_are_read(split: Callable[[bytes], list[bytes]]) -> None:
    stream = SEEDS % b"one" + SEEDS % b"gr\xfc\xdfe" + SEEDS % b"a &lt; b"
    events = parse(MULTIPART, split(stream))
    assert values(events) == ["one", "gr\xfc\xdfe", "a < b"]
    assert {event.content_type for event in events} == {"application/xml"}
    assert {(event.id, event.feed, event.computed) for event in events} == {(None, None, None)}


def test_a_seed_s_part_is_whole_with_the_delimiter_behind_it() -> None:
    reader = parser(MULTIPART)
    assert reader.feed((SEEDS % b"one")[:-1]) == []
    assert values(reader.feed(b"\n")) == ["one"]


@given(
    st.lists(st.text(st.characters(max_codepoint=126, min_codepoint=32)), min_size=1, max_size=4)
)
def test_parts_without_a_length_are_those_that_the_email_package_finds(texts: list[str]) -> None:
    bodies = "\r\n--test\r\nContent-Type: text/plain\r\nX: y\r\n\r\n".join(["", *texts])
    stream = f"{bodies.removeprefix(chr(13) + chr(10))}\r\n--test--\r\n".encode()
    head = f"Content-Type: {MULTIPART}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stream, policy=email.policy.HTTP)
    parts = message.iter_parts()
    assert values(parse(MULTIPART, [stream])) == [part.get_content() for part in parts] == texts


@given(st.lists(multipart_events().filter(lambda event: isinstance(event.value, str)), min_size=1))
def test_our_own_parts_are_those_that_the_email_package_finds(events: list[Event]) -> None:
    frames = b"".join(map(multipart, events)).removesuffix(b"\r\n")
    stream = b"--test\r\n" + frames + b"--\r\n"
    head = f"Content-Type: {MULTIPART}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stream)
    parts = [part for part in message.get_payload() if isinstance(part, email.message.Message)]
    events = parse(MULTIPART, [stream])
    assert [event.id for event in events] == [part["Event-ID"] for part in parts]
    assert [event.content_type for event in events] == [part.get_content_type() for part in parts]


def test_a_heartbeat_is_no_event() -> None:
    stream = b"--test\r\n" + b"\r\n\r\n--test\r\n" * 3 + b"\n\n--test\n"
    assert parse(MULTIPART, [stream]) == parse(MULTIPART, bytewise(stream)) == []


def test_an_event_that_is_no_message_has_a_type_and_what_more_is_said() -> None:
    stream = (
        b"--test\r\nEvent: reset\r\nContent-Length: 0\r\n\r\n\r\n--test\r\n"
        b"Event: error\r\nFeed: gr%C3%BCn\r\nContent-Type: application/json\r\n\r\n"
        b'{"a":1}\r\n--test--'
    )
    assert parse(MULTIPART, [stream]) == [
        Event(type="reset"),
        Event(type="error", feed="gr\xfcn", value={"a": 1}, content_type="application/json"),
    ]


def test_the_end_is_the_closing_delimiter_and_what_follows_it_is_not_read() -> None:
    reader = parser(MULTIPART)
    assert values(reader.feed(b"--test\r\n\r\none\r\n--test")) == []
    assert not reader.ended
    assert values(reader.feed(b"--\r\n--test\r\n\r\ntwo\r\n--test\r\n")) == ["one"]
    assert reader.ended
    assert reader.feed(b"--test\r\n\r\nthree\r\n--test\r\n") == []
    assert reader._buffer.peek(1) == b""  # nor kept


def test_the_line_end_behind_the_closing_delimiter_may_be_missing() -> None:
    reader = parser(MULTIPART)
    assert reader.feed(b"--test\r\n\r\none\r\n--test--") == []
    assert values(reader.close()) == ["one"]
    assert reader.ended


def test_a_body_that_broke_off_in_what_looks_like_the_end_has_not_ended() -> None:
    reader = parser(MULTIPART)
    assert reader.feed(b"--test\r\nContent-Length: 9\r\n\r\n--test--") == []
    assert reader.close() == []
    assert not reader.ended


@pytest.mark.parametrize("rest", [b"", b"\r\n--test", b"x"])
def test_a_part_that_broke_off_is_none(rest: bytes) -> None:
    assert parse(MULTIPART, [b"--test\r\n\r\none" + rest]) == []


def test_a_longer_line_is_no_delimiter() -> None:
    stream = b"--test\r\n\r\n--testing\r\n --test\r\n--test-\r\n--test--"
    assert values(parse(MULTIPART, [stream])) == ["--testing\r\n --test\r\n--test-"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (b"Content-Length: 2\r\n\r\nabc\r\n--test\r\n", "after the 2 bytes of .*, got 'c'"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "an event is larger than"),
        (b"Content-Type\r\n\r\n", "expected a header of a part, got 'Content-Type'"),
        (b"Content-Type: application/xml\r\n\r\n<a>\r\n--test\r\n", "this is not XML: b'<a>'"),
        (b"Content-Type: application/json\r\n\r\n{\r\n--test\r\n", "this is not JSON: b'{'"),
    ],
)
def test_a_part_that_cannot_be_right_is_an_error(part: bytes, message: str) -> None:
    with pytest.raises(BadStream, match=message):
        parse(MULTIPART, [b"--test\r\n" + part])


@pytest.mark.parametrize(
    ("headers", "body", "value"),
    [
        ("application/xml", "<a/>", ""),
        ("text/xml", "<a> b </a>", " b "),
        ("application/xml", "<a><b>1</b>2</a>", "<a><b>1</b>2</a>"),
        ("application/atom+xml", "<a>b</a>", "b"),
        ("image/svg+xml", "<svg/>", b"<svg/>"),
        ("application/json", '[1, "x"]', [1, "x"]),
        ("application/problem+json", "null", None),
        ("text/plain; charset=utf-8", "gr\xfcn", "gr\xfcn"),
        ("text/plain; charset=nonsense", "gr\xfcn", "gr\xfcn"),
        ("text/plain; charset=latin-1", "\xfc", "\xc3\xbc"),
        ("application/octet-stream", "x", b"x"),
    ],
)
def test_a_value_is_what_its_content_type_says(headers: str, body: str, value: object) -> None:
    stream = f"--test\r\nContent-Type: {headers}\r\n\r\n{body}\r\n--test--\r\n".encode()
    (event,) = parse(MULTIPART, [stream])
    assert event.value == value
    assert event.content_type == headers.partition(";")[0]


@pytest.mark.parametrize("date", ["yesterday", "", "Tue, 99 Nov 2023 22:13:20 GMT"])
def test_a_date_that_is_none_is_not_there(date: str) -> None:
    stream = f"--test\r\nLast-Modified: {date}\r\n\r\nx\r\n--test--\r\n".encode()
    assert [event.computed for event in parse(MULTIPART, [stream])] == [None]


# Event streams


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        # The examples of WHATWG HTML, 9.2.6.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n",
         ["first event", "second event", " third"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b"data:test\n\ndata: test\n\n", ["test", "test"]),
        # Ends of lines of all three kinds, and an end that is missing.
        (b"data: a\rdata: b\ndata: c\r\n\rdata: d\n\r\ndata: e\n", ["a\nb\nc", "d"]),
        (b"data: a\n\ndata: b\n", ["a"]),
        (b"data: a\r\n\r", ["a"]),
        # The byte order mark is one, and only at the beginning.
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n:\n\n", []),
        (b"\n\xef\xbb\xbfdata: a\n:\n\n", []),
        (b"\xef\xbb", []),
        # What is no field, and what is no UTF-8.
        (b"data : a\nDATA: a\n\ndata: b\n\n", ["b"]),
        (b"data: \xff\n\n", ["\ufffd"]),
    ],
)  # fmt: skip
def test_an_event_stream_is_read_as_whatwg_has_it(stream: bytes, expected: list[str]) -> None:
    assert values(parse(SSE, [stream])) == values(parse(SSE, bytewise(stream))) == expected


def test_an_id_stays_until_another_and_holds_no_nul() -> None:
    stream = b"data: a\n\nid: 1\ndata: b\n\ndata: c\n\nid: 2\0\ndata: d\n\nid\ndata: e\n\n"
    assert [event.id for event in parse(SSE, [stream])] == [None, "1", "1", "1", ""]


def test_the_id_of_an_event_that_broke_off_is_not_the_last() -> None:
    reader = parser(SSE)
    reader.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert reader.last_event_id == "1"
    reader.feed(b"\n")
    assert reader.last_event_id == "2"
    reader.feed(b"id: 3\n\n")  # and one without data is
    assert reader.last_event_id == "3"


@pytest.mark.parametrize(
    ("field", "milliseconds"),
    [("retry: 10", 10), ("retry:0", 0), ("retry: -1", None), ("retry: 1.5", None),
     ("retry: \u0661", None), ("retry", None), ("retry: " + "9" * 5000, 999_999_999)],
)  # fmt: skip
def test_retry_is_digits_alone(field: str, milliseconds: int | None) -> None:
    reader = parser(SSE)
    (event,) = reader.feed(f"{field}\ndata: a\n\n".encode())
    assert (event.retry, reader.retry) == (milliseconds, milliseconds)


def test_an_event_is_named_for_its_feed_and_three_names_are_types() -> None:
    stream = (
        b"event: clock\ndata: a\n\nevent: message\ndata: b\n\n"
        b'event: reset\ndata: {"event":"reset"}\n\n'
        b'event: error\ndata: {"event":"error","feed":"clock","status":500}\n\n'
        b"event: error\ndata: out of order\n\n"
    )
    assert [(e.type, e.feed, e.value) for e in parse(SSE, [stream])] == [
        ("message", "clock", "a"),
        ("message", None, "b"),
        ("reset", None, None),
        ("error", "clock", {"status": 500}),
        ("error", None, {"message": "out of order"}),
    ]


@given(st.lists(sse_events().filter(lambda event: event.value.strip() and event.retry is None)))
def test_an_event_stream_gives_what_sseclient_finds(events: list[Event]) -> None:
    """On what it reads as the standard has it: ids in each event, one kind of line end."""
    stream = b"".join(map(sse, events))
    theirs = [(e.id, e.event, e.data) for e in sseclient.SSEClient(iter([stream])).events()]
    assert theirs == [(e.id, e.feed or "message", e.value) for e in parse(SSE, [stream])]


# NDJSON


def test_a_line_is_an_event_and_an_empty_one_a_heartbeat() -> None:
    stream = (
        b'{"id":"3f-17","feed":"clock","computed":1.5,"value":{"a":[1]}}\r\n\n \n'
        b'{"event":"error","feed":"clock","status":500}\n{"value":null}\n{"value":1'
    )
    assert parse(NDJSON, [stream]) == [
        Event("3f-17", "clock", "message", {"a": [1]}, "application/json", 1.5),
        Event(None, "clock", "error", {"status": 500}, "application/json"),
        Event(content_type="application/json"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[]\n", "a line holds list where an object is due"),
        (b"{\n", "not JSON"),
        (b"\xff\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
    ],
)
def test_a_line_that_cannot_be_right_is_an_error(line: bytes, message: str) -> None:
    with pytest.raises(BadStream, match=message):
        parse(NDJSON, [line])


# Errors and limits


def test_the_events_before_an_error_come_first() -> None:
    reader = parser(NDJSON)
    assert values(reader.feed(b'{"value":1}\n{"value":2}\nnonsense\n{"value":3}\n')) == [1, 2]
    assert isinstance(reader.error, BadStream)
    for _ in range(2):
        with pytest.raises(BadStream, match="not JSON"):
            reader.feed(b'{"value":4}\n')


@pytest.mark.parametrize("split", [lambda data: [data], bytewise])
@pytest.mark.parametrize(
    ("content_type", "fits", "too_large"),
    [
        (MULTIPART, b"--test\r\n\r\n" + b"x" * 1000 + b"\r\n--test\r\n",
         b"--test\r\n\r\n" + b"x" * 1001 + b"\r\n--test\r\n"),
        (MULTIPART, b"--test\r\n\r\n" + b"x\r\n" * 333 + b"x\r\n--test\r\n",
         b"--test\r\n\r\n" + b"x\r\n" * 335 + b"x"),
        (MULTIPART, b"--test\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000,
         b"--test\r\nContent-Length: 1001\r\n\r\n"),
        (SSE, b"data: " + b"x" * 994 + b"\n\n", b"data: " + b"x" * 995),
        (SSE, b"data: x\n" * 142 + b"\n", b"data: x\n" * 143),
        (NDJSON, b'{"value": "' + b"x" * 987 + b'"}\n', b'{"value": "' + b"x" * 990),
    ],
)  # fmt: skip
def test_an_event_has_a_largest_size(
    content_type: str, fits: bytes, too_large: bytes, split: Callable[[bytes], list[bytes]]
) -> None:
    assert len(parse(content_type, split(fits), maximum=1000)) == 1
    with pytest.raises(TooLarge, match=r"(larger|longer) than \d+ bytes"):
        parse(content_type, split(too_large), maximum=1000)


@pytest.mark.parametrize("head", [b"a" * 70_000, b"a: b\r\n" * 14_000])
def test_a_head_has_a_largest_size(head: bytes) -> None:
    assert len(head) > MAXIMUM_HEAD
    with pytest.raises(TooLarge):
        parse(MULTIPART, [b"--test\r\n" + head])


def test_a_silence_of_weeks_is_no_large_head() -> None:
    """Each heartbeat is one space more in the value of the header that comes first."""
    parser = parser_for(MULTIPART)
    assert parser is not None
    assert parser.feed(b"--test\r\nIdle:") == []
    for _ in range(2 * MAXIMUM_HEAD):
        assert parser.feed(b" ") == []
    part = b"\r\nContent-Type: text/plain\r\n\r\nx\r\n--test\r\nIdle:"
    (event,) = parser.feed(part)
    assert event.value == "x"
    assert [event.value for event in parser.feed(b"  " + part)] == ["x"]


def test_each_head_has_that_size_for_itself() -> None:
    frame = b"X: " + b"x" * (MAXIMUM_HEAD - 100) + b"\r\n\r\nx\r\n--test\r\n"
    assert len(parse(MULTIPART, [b"--test\r\n" + frame * 3])) == 3


@pytest.mark.parametrize(
    ("content_type", "piece", "count"),
    [
        (MULTIPART, b"x", 3_000_000),
        (SSE, b"data: x\n", 400_000),
        (NDJSON, b" ", 3_000_000),
    ],
)
def test_the_time_that_an_event_takes_grows_as_its_size(
    content_type: str, piece: bytes, count: int
) -> None:
    """Many small arrivals, and one large one with many lines: quadratic would be minutes."""

    def processor_time(pieces: Iterable[bytes]) -> float:
        reader = parser(content_type)
        if content_type == MULTIPART:
            reader.feed(b"--test\r\n\r\n")
        began = time.process_time()
        for data in pieces:
            reader.feed(data)
        return time.process_time() - began

    whole = piece * count
    assert processor_time(whole[at : at + 100] for at in range(0, len(whole), 100)) < 10
    assert processor_time([b"\n" * 500_000]) < 10
