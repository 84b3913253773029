"""A single value as a complete response: `application/json` or `application/xml`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.utils import formatdate

from pushdemo.push.compute.payload import Blob
from pushdemo.push.encode.json import json_of
from pushdemo.push.encode.xml import xml_message
from pushdemo.push.event import CannotCarry, Event, FeedStatus
from pushdemo.push.response import MakeHead, Response


@dataclass(frozen=True)
class Document:
    """What a response to a request for a single value looks like.

    content_type: `application/json` or `application/xml`.
    headers: the headers that the response has in addition.
    """

    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def with_header(self, name: str, value: str) -> Document:
        """The same with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))

    def response(self, event: Event) -> Response:
        """The event as a response (RFC 9110; the event's id is the ETag). Raises CannotCarry."""
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
class DocumentFraming:
    """A document as a Framing: a frame is the head and the body of one response. Nothing in it
    depends on the client, so all clients that wait for an event receive the same bytes."""

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

    def encode_status(self, status: FeedStatus) -> bytes:  # noqa: ARG002  # PollAnswer.fail says it
        return b""

    def come_back(self, milliseconds: int) -> bytes:  # noqa: ARG002  # PollAnswer says it
        return b""

    def last(self, frame: bytes) -> bytes:
        return frame
