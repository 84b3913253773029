"""The formats: what they are called, which is preferred, and who reads it."""

from __future__ import annotations

from email.message import Message

from pushdemo.client.errors import BadStream
from pushdemo.client.event_stream import EventStreamParser
from pushdemo.client.multipart import MultipartParser
from pushdemo.client.ndjson import NdJsonParser
from pushdemo.client.parser import MAXIMUM, Parser

# The formats' short names, as the server has them in `?format=`.
FORMATS = {
    "multipart": "multipart/x-mixed-replace",
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "xml": "application/xml",
}
DOCUMENTS = ("application/json", "application/xml", "text/xml")
# What says most comes first: NDJSON keeps numbers numbers. It cannot carry images; multipart can.
ANY = (
    "application/x-ndjson, multipart/x-mixed-replace;q=0.9, text/event-stream;q=0.8,"
    " application/json;q=0.5, application/xml;q=0.4"
)


def parser_for(content_type: str, *, maximum: int = MAXIMUM) -> Parser | None:
    """What reads a response of this Content-Type; None where it is no stream of events.

    maximum: the most bytes that an event may have; more is TooLarge.
    """
    header = header_of(content_type)
    match header.get_content_type():
        case "multipart/x-mixed-replace":
            boundary = header.get_boundary()
            if not boundary:
                raise BadStream(f"a multipart response needs a boundary: {content_type}")
            return MultipartParser(boundary, maximum=maximum)
        case "text/event-stream":
            return EventStreamParser(maximum=maximum)
        case "application/x-ndjson" | "application/ndjson":
            return NdJsonParser(maximum=maximum)
    return None


def header_of(content_type: str) -> Message:
    """A Content-Type, to ask for its parts."""
    header = Message()
    header["Content-Type"] = content_type
    return header
