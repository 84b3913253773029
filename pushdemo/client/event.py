"""What a client gets: the event, and how a value is read out of a body of some media type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree

from pushdemo.client.errors import BadStream


@dataclass(frozen=True)
class Event:
    """One event, the same whatever format it came in, as far as that format says it.

    id: names the event to its server, to resume after it. On an event stream, as WHATWG has it,
        an event without an id has that of the one before.
    feed: whose value it is, where the stream says so: streams of several feeds, and NDJSON.
    type: "message": a value. "reset": events may be missing before the next. "error": the feed
        failed. There may be others.
    value: of a message, what was sent: text (str), bytes for an image and other binary types, or
        what JSON gives. XML with elements in it is its text. An event stream does not say whether
        its data is text or JSON, so there it is always text. Of any other type, a mapping of what
        more the server says about it, or None.
    content_type: the media type that the value was sent in.
    computed: when the value was computed, in seconds since the epoch; None where it is not said.
    retry: milliseconds after which the server wants a client back; None where it came without.
    """

    id: str | None = None
    feed: str | None = None
    type: str = "message"
    value: Any = None
    content_type: str | None = None
    computed: float | None = None
    retry: int | None = None


def read_value(content_type: Message, body: bytes) -> Any:
    """The value that a body of this type stands for. Raises BadStream where it is not of it."""
    kind = content_type.get_content_type()
    if kind == "application/json" or kind.endswith("+json"):
        return read_json(body)
    if kind.startswith("image/"):  # before +xml: image/svg+xml is an image
        return body
    if kind in ("application/xml", "text/xml") or kind.endswith("+xml"):
        return _read_xml(body)
    if kind.startswith("text/"):
        return body.decode(_charset(content_type), "replace")
    return body


def read_json(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadStream(f"this is not JSON: {_excerpt(text)} ({error})") from None


def read_notice(record: Any) -> dict[str, Any] | None:
    """Of what is sent as JSON for an event that is no message: what is not in Event elsewhere."""
    if not isinstance(record, Mapping):
        return None
    return {key: record[key] for key in record if key not in _FIELDS} or None


_FIELDS = ("event", "id", "feed", "computed")


def read_date(date: str | None) -> float | None:
    """An HTTP date as seconds since the epoch; None for none, or for what is not one."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _read_xml(body: bytes) -> str:
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadStream(f"this is not XML: {_excerpt(body)} ({error})") from None
    # With no elements in it, its text is its first child: what the seed's page shows.
    return ElementTree.tostring(root, "unicode") if len(root) else root.text or ""


def _charset(content_type: Message) -> str:
    charset = content_type.get_content_charset("utf-8")
    try:
        "".encode(charset)
    except LookupError:
        return "utf-8"
    return charset


def _excerpt(text: bytes | str) -> str:
    return repr(text if len(text) <= 60 else text[:60])
