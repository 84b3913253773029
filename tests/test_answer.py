"""How a response begins: value to bytes, and in the broadcaster's hands."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

import pytest

from pushdemo.push import stream as stream_module
from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import payload_of
from pushdemo.push.deliver.answer import (
    PATIENCE,
    Answer,
    Beginning,
    Condition,
    Fallbacks,
    PollAnswer,
    StreamAnswer,
)
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.document import Document, DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import CannotCarry, Event, Value
from pushdemo.push.places import Places
from pushdemo.push.position import Position, position_of
from pushdemo.push.response import Headers, Response
from pushdemo.push.stream import Streams
from tests.servers import HANG, until

COMPUTED = 1_700_000_000.9
FAILURE = Response("503 Service Unavailable", [("Retry-After", "5")], b"later")
REFUSAL = Response("406 Not Acceptable", [("Content-Type", "text/plain")], b"no")
NOTHING_NEW = Response("304 Not Modified", [("ETag", '"e-6"')])
FALLBACKS = Fallbacks(REFUSAL, FAILURE)
IMAGE = (b"\x89PNG", "image/png")


def event(result: object) -> Event:
    return Event(7, "e-7", "x", Value(payload_of(result), COMPUTED, 0))


def make_head(status: str, headers: Headers) -> bytes:
    lines = [f"HTTP/1.0 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


def parsed(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """A response as the standard library reads it."""

    class Socket:
        def makefile(self, _: str) -> io.BytesIO:
            return io.BytesIO(data)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    response.begin()
    return response.status, dict(response.getheaders()), response.read()


# Responses


def test_a_response_says_how_long_it_is() -> None:
    assert REFUSAL.encode(make_head) == (
        b"HTTP/1.0 406 Not Acceptable\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno"
    )
    assert parsed(Response("200 OK", []).encode(make_head)) == (200, {"Content-Length": "0"}, b"")


def test_a_304_has_no_body_and_so_no_length() -> None:
    assert NOTHING_NEW.encode(make_head) == b'HTTP/1.0 304 Not Modified\r\nETag: "e-6"\r\n\r\n'


# Streams


@pytest.mark.parametrize("framing", [EventStream(), Multipart("test"), Gzip(EventStream())])
def test_a_stream_begins_with_its_head_and_opening(
    framing: EventStream | Multipart | Gzip,
) -> None:
    answer = StreamAnswer(framing, b"head", make_head, FALLBACKS)
    assert answer.begin(event("x")) == (b"head" + framing.opening, True)
    assert answer.begin(None) == (b"head" + framing.opening, True)


@pytest.mark.parametrize("framing", [EventStream(), Gzip(EventStream())])
def test_a_stream_whose_format_cannot_carry_the_first_event_is_refused(
    framing: EventStream | Gzip,
) -> None:
    answer = StreamAnswer(framing, b"head", make_head, FALLBACKS)
    assert answer.begin(event(IMAGE)) == (REFUSAL.encode(make_head), False)


def test_a_stream_begins_without_a_value_before_proxies_lose_their_patience() -> None:
    assert StreamAnswer(NdJson(), b"", make_head, FALLBACKS).patience == PATIENCE < 30
    # One that carries everything begins at once.
    assert StreamAnswer(WebSocket(), b"", make_head, FALLBACKS).patience == 0


def test_a_stream_whose_first_value_fails_is_refused_for_now() -> None:
    answer = StreamAnswer(EventStream(), b"head", make_head, FALLBACKS)
    assert answer.fail() == (FAILURE.encode(make_head), False)
    assert poll(Document("application/json")).fail() == (FAILURE.encode(make_head), False)


# Documents


def test_a_value_as_json() -> None:
    document = Document("application/json", (("Vary", "Accept"),))
    status, headers, body = document.response(event({"ü": [1, None]}))
    assert status == "200 OK"
    assert list(headers) == [
        ("Content-Type", "application/json"),
        ("ETag", '"e-7"'),
        ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("Server-Timing", "compute;dur=0.000"),
        ("Vary", "Accept"),
    ]
    assert body == '{"ü":[1,null]}\n'.encode()
    assert json.loads(document.response(event("a\u2028")).body) == "a\u2028"


def test_a_value_as_xml() -> None:
    status, headers, body = Document("application/xml").response(event("a < b"))
    assert (status, dict(headers)["Content-Type"]) == ("200 OK", "application/xml")
    assert ElementTree.fromstring(body).text == "a < b"
    computed = parsedate_to_datetime(dict(headers)["Last-Modified"])
    assert computed.timestamp() == int(COMPUTED)


@pytest.mark.parametrize("content_type", ["application/json", "application/xml"])
def test_a_document_cannot_be_of_bytes(content_type: str) -> None:
    with pytest.raises(CannotCarry):
        Document(content_type).response(event(IMAGE))


def test_a_header_more_leaves_the_first_document_as_it_is() -> None:
    first = Document("application/json")
    second = first.with_header("Preference-Applied", "wait=3")
    assert dict(second.response(event(1)).headers)["Preference-Applied"] == "wait=3"
    assert "Preference-Applied" not in dict(first.response(event(1)).headers)


# Polls


def poll(document: Document) -> PollAnswer:
    framing = DocumentFraming(document, make_head)
    return PollAnswer(framing, Condition(0, 3.0, NOTHING_NEW), FALLBACKS)


def test_a_poll_is_answered_with_the_whole_response() -> None:
    beginning = poll(Document("application/json")).begin(event([1]))
    assert not beginning.goes_on
    status, headers, body = parsed(beginning.data)
    assert (status, headers["ETag"], headers["Content-Length"]) == (200, '"e-7"', "4")
    assert body == b"[1]\n"


def test_a_poll_without_an_event_says_that_there_is_nothing_new() -> None:
    answer = poll(Document("application/json"))
    assert answer.begin(None) == (NOTHING_NEW.encode(make_head), False)
    assert answer.patience == 3


def test_a_poll_that_its_document_cannot_answer_is_refused() -> None:
    answer = poll(Document("application/json"))
    assert answer.begin(event(IMAGE)) == (REFUSAL.encode(make_head), False)


def test_all_who_wait_for_an_event_get_the_same_bytes() -> None:
    one = event("x")
    first = poll(Document("application/json")).begin(one)
    second = poll(Document("application/json")).begin(one)
    assert first.data is second.data
    assert poll(Document("application/xml")).begin(one) != first


# Between an event and the broadcaster's hearing of it


def publish(channel: Channel, result: object) -> None:
    channel.publish(Value(payload_of(result), computed=0.0, fresh_until=2**62))


class Held:
    """An answer at which the broadcaster's thread is held up."""

    patience = HANG

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        self.reached.set()
        assert self.go_on.wait(HANG)
        return Beginning(b"", True)

    def come_back(self, milliseconds: int) -> bytes:  # noqa: ARG002
        return b""

    def fail(self) -> Beginning:
        return Beginning(b"", False)


class Late:
    """A broadcaster that sends a first event while the channel has had a second."""

    def __init__(self) -> None:
        self.channel = Channel("x", history=9, epoch="e")
        self.broadcaster = Broadcaster()
        self.clients: list[socket.socket] = []
        self.held = Held()
        self.attach(self.held)
        until(lambda: self.channel.watched, "the first client to be admitted")
        publish(self.channel, 1)
        assert self.held.reached.wait(HANG)
        publish(self.channel, 2)

    def attach(
        self, answer: Answer, *, reached: int = 0, resume_from: Position | None = None
    ) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(HANG)
        self.clients.append(ours)
        subscription = Subscription(
            self.channel, NdJson(), reached=reached, resume_from=resume_from
        )
        self.broadcaster.attach([theirs], answer, subscription)
        return ours

    def close(self) -> None:
        self.held.go_on.set()
        self.broadcaster.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def late() -> Iterator[Late]:
    late = Late()
    yield late
    late.close()


def lines(client: socket.socket, count: int) -> list[int]:
    """The values of the next events."""
    with client.makefile("rb") as file:
        return [json.loads(file.readline())["value"] for _ in range(count)]


def test_a_client_that_comes_back_then_sees_no_event_twice(late: Late) -> None:
    answer = StreamAnswer(NdJson(), b"", make_head, FALLBACKS)
    client = late.attach(answer, resume_from=position_of("e-1"))
    late.held.go_on.set()
    assert lines(late.clients[0], 2) == [1, 2]
    publish(late.channel, 3)
    assert lines(client, 2) == [2, 3]


def test_a_poll_is_not_answered_then_with_what_its_client_has(late: Late) -> None:
    client = late.attach(poll(Document("application/json")), reached=2)
    late.held.go_on.set()
    assert lines(late.clients[0], 2) == [1, 2]
    publish(late.channel, 3)
    with client.makefile("rb") as file:
        assert parsed(file.read())[2] == b"3\n"


# Heartbeats of a stream that holds a thread


def test_events_that_a_format_cannot_carry_are_silence_to_its_stream() -> None:
    broadcaster, channel = Broadcaster(), Channel("x")
    stream = Streams(broadcaster, Places(1), heartbeat=0.05).open(
        Subscription(channel, EventStream()), FALLBACKS
    )
    pieces = iter(stream)
    assert next(pieces) == EventStream().opening
    stop = threading.Event()

    def flood() -> None:
        while not stop.wait(0.001):
            publish(channel, IMAGE)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        assert [next(pieces), next(pieces)] == [EventStream().heartbeat] * 2
    finally:
        stop.set()
        flooding.join(HANG)
        stream.close()


def test_an_event_puts_the_next_heartbeat_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(stream_module, "time", clock)
    broadcaster, channel = Broadcaster(), Channel("x")
    stream = Streams(broadcaster, Places(1), heartbeat=0.4).open(
        Subscription(channel, EventStream()), FALLBACKS
    )
    pieces = iter(stream)
    next(pieces)
    publish(channel, "x")
    assert b"data: x" in next(pieces)
    clock.now = 0.3
    began = time.monotonic()
    assert next(pieces) == EventStream().heartbeat
    assert time.monotonic() - began > 0.3
    stream.close()
