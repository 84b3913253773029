"""The formats: what they are called, which is preferred, and who reads it."""

from __future__ import annotations

from email.message import Message

from pushdemo.client.delimiter import boundary_of
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
# JSON on lines has no registered name, and many that are used.
LINES_OF_JSON = frozenset(
    ("application/x-ndjson", "application/ndjson", "application/x-jsonlines", "application/jsonl",
     "application/jsonlines", "application/x-jsonl", "application/x-json-stream",
     "application/stream+json", "application/json-seq")
)  # fmt: skip
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
    match header_of(content_type).get_content_type():
        case "multipart/x-mixed-replace":
            return MultipartParser(boundary_of(content_type), maximum=maximum)
        case "text/event-stream":
            return EventStreamParser(maximum=maximum)
        case media_type if media_type in LINES_OF_JSON:
            return NdJsonParser(maximum=maximum)
    return None


def header_of(content_type: str) -> Message:
    """A Content-Type, to ask for its parts."""
    header = Message()
    header["Content-Type"] = content_type
    return header
