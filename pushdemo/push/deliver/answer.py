"""How the response to one client begins, when it is not known at once how it will.

A format may be unable to carry what a feed gives, and a poll has nothing to say before there is
something new; both are known only when an event is there. An answer is asked, once: with the first
event, or when none has come for `patience` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import NamedTuple, Protocol

from pushdemo.push.compute.payload import Blob
from pushdemo.push.encode.framing import Framing, json_of
from pushdemo.push.encode.xml import xml_message
from pushdemo.push.event import CannotCarry, Event, Trouble

Headers = Sequence[tuple[str, str]]
# A server's: a response's head, for a status and headers, up to and with the empty line.
MakeHead = Callable[[str, Headers], bytes]

# Seconds without a first value after which a stream begins without one: so that the client, and
# every proxy on the way, knows that it is there.
PATIENCE = 10.0


class Response(NamedTuple):
    """A whole response."""

    status: str
    headers: Headers
    body: bytes = b""

    def encode(self, make_head: MakeHead) -> bytes:
        length = [] if self.status.startswith("304") else [("Content-Length", str(len(self.body)))]
        return make_head(self.status, [*self.headers, *length]) + self.body


class Beginning(NamedTuple):
    """What to send first, and whether a stream's events follow it."""

    data: bytes
    goes_on: bool


class Answer(Protocol):
    """patience: seconds to wait for the first event."""

    @property
    def patience(self) -> float: ...

    def begin(self, event: Event | None) -> Beginning:
        """The beginning, for the first event, or for none in all that time."""

    def fail(self) -> Beginning:
        """The beginning and end, where the first value could not be computed."""


class StreamAnswer:
    """An endless response, if its format can carry what the feed gives.

    head: of the response, for when it can.
    refusal: the response for when it cannot.
    failure: the response for when there is no value.
    """

    __slots__ = ("_failure", "_framing", "_head", "_make_head", "_refusal")

    patience = PATIENCE

    def __init__(
        self,
        framing: Framing,
        head: bytes,
        make_head: MakeHead,
        *,
        refusal: Response,
        failure: Response,
    ) -> None:
        self._failure = failure
        self._framing = framing
        self._head = head
        self._refusal = refusal
        self._make_head = make_head

    def begin(self, event: Event | None) -> Beginning:
        if event is not None and not event.frame(self._framing):
            return Beginning(self._refusal.encode(self._make_head), False)
        return Beginning(self._head + self._framing.opening, True)

    def fail(self) -> Beginning:
        return Beginning(self._failure.encode(self._make_head), False)


@dataclass(frozen=True)
class Document:
    """A single value as a document: `application/json` or `application/xml`.

    headers: what its response has besides.
    """

    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def with_header(self, name: str, value: str) -> Document:
        """The same with one header more."""
        return replace(self, headers=(*self.headers, (name, value)))

    def response(self, event: Event) -> Response:
        """The event as a response (RFC 9110; its id is its ETag). Raises CannotCarry."""
        payload = event.value.payload
        if isinstance(payload, Blob):
            raise CannotCarry
        if self.content_type == "application/json":
            body = json_of(event).encode() + b"\n"
        else:
            body = xml_message(payload)
        headers = [
            ("Content-Type", self.content_type),
            ("ETag", event.etag),
            ("Last-Modified", formatdate(event.value.computed, usegmt=True)),
            ("Server-Timing", f"compute;dur={event.value.took * 1000:.3f}"),
            *self.headers,
        ]
        return Response("200 OK", headers, body)


@dataclass(frozen=True)
class Whole:
    """A document as a framing: a stream that is the head and the body of one response. None of it
    is about the client, so all who wait for an event get the same bytes."""

    document: Document
    make_head: MakeHead

    content_encoding = None
    opening = b""
    heartbeat = b""
    reset = b""

    @property
    def content_type(self) -> str:
        return self.document.content_type

    def encode(self, event: Event) -> bytes:
        return self.document.response(event).encode(self.make_head)

    def trouble(self, trouble: Trouble) -> bytes:  # noqa: ARG002  # its answers are asked to fail
        return b""

    def last(self, frame: bytes) -> bytes:
        return frame


class PollAnswer:
    """One event as a whole response.

    refusal: the response for an event that the framing cannot carry.
    failure: the response for when the feed fails before there is one.
    nothing_new: the response for when there has been none.
    patience: how long that takes, in seconds.
    """

    __slots__ = ("_failure", "_framing", "_nothing_new", "_refusal", "patience")

    def __init__(
        self,
        framing: Whole,
        *,
        refusal: Response,
        failure: Response,
        nothing_new: Response,
        patience: float,
    ) -> None:
        self._failure = failure
        self._framing = framing
        self._refusal = refusal
        self._nothing_new = nothing_new
        self.patience = patience

    def begin(self, event: Event | None) -> Beginning:
        make_head = self._framing.make_head
        if event is None:
            return Beginning(self._nothing_new.encode(make_head), False)
        return Beginning(event.frame(self._framing) or self._refusal.encode(make_head), False)

    def fail(self) -> Beginning:
        return Beginning(self._failure.encode(self._framing.make_head), False)
