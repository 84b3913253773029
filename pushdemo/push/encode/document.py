"""A single value as a complete response: `application/json`, `application/xml`, or as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.utils import formatdate

from pushdemo.push.compute.payload import Blob, Data, Payload, Text
from pushdemo.push.encode.json import json_of
from pushdemo.push.encode.xml import xml_message
from pushdemo.push.event import CannotCarry, Event, FeedStatus
from pushdemo.push.response import MakeHead, Response

FRAGMENT = "text/html; charset=utf-8"  # of a document that is a value's HTML
AS_IT_IS = "*/*"  # the content type of a document whose values have their own
# Whoever publishes HTML or SVG has not published a page of this site: opened by itself, it runs no
# script.
_ISOLATED = (("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff"))


@dataclass(frozen=True)
class Document:
    """What a response to a request for a single value looks like.

    content_type: `application/json`, `application/xml`, FRAGMENT or AS_IT_IS.
    headers: the headers that the response has in addition.
    ranges: of a value as it is, the media ranges that the client accepts; none for any.
    """

    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    ranges: tuple[str, ...] = ()

    def with_header(self, name: str, value: str) -> Document:
        """The same with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))

    def response(self, event: Event) -> Response:
        """The event as a response (RFC 9110; the event's id is the ETag). Raises CannotCarry."""
        content_type, body = self._content(event)
        headers = [
            ("Content-Type", content_type),
            ("ETag", event.etag),
            ("Last-Modified", formatdate(event.value.computed, usegmt=True)),
            ("Server-Timing", f"compute;dur={event.value.took * 1000:.3f}"),
            *(_ISOLATED if self.content_type == AS_IT_IS else ()),
            *self.headers,
        ]
        return Response("200 OK", headers, body)

    def _content(self, event: Event) -> tuple[str, bytes]:
        payload = event.value.payload
        if self.content_type == AS_IT_IS:
            return self._as_it_is(payload)
        if self.content_type == FRAGMENT:
            if event.value.html is None:
                raise CannotCarry
            return FRAGMENT, event.value.html.encode()
        if isinstance(payload, Blob):
            raise CannotCarry
        if self.content_type == "application/json":
            return self.content_type, json_of(event).encode() + b"\n"
        return self.content_type, xml_message(payload)

    def _as_it_is(self, payload: Payload) -> tuple[str, bytes]:
        match payload:
            case Text(text):
                content_type, body = "text/plain; charset=utf-8", text.encode()
            case Data(json):
                content_type, body = "application/json", json.encode()
            case Blob(body, content_type):
                pass
        essence = content_type.partition(";")[0].strip().lower()
        wanted = {essence, f"{essence.partition('/')[0]}/*", "*/*"}
        if self.ranges and wanted.isdisjoint(self.ranges):
            raise CannotCarry
        return content_type, body


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
