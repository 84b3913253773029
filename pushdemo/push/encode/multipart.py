r"""`multipart/x-mixed-replace`: a part for each event.

    opening   --boundary CRLF Idle:
    frame     CRLF headers CRLF CRLF body CRLF --boundary CRLF Idle:
    last      CRLF headers CRLF CRLF body CRLF --boundary-- CRLF

The delimiter that closes a part belongs to that part's frame, and only the first delimiter to the
opening. A client that waits for the delimiter, as browsers did, therefore has each part as soon as
it was sent, and so has a client that counts Content-Length. An <img> needs more: see image.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote

from pushdemo.push.compute.payload import Blob
from pushdemo.push.encode.status import status_json, status_name
from pushdemo.push.encode.xml import xml_message
from pushdemo.push.event import Event, FeedStatus

# The characters that RFC 2046, section 5.1.1, allows in a boundary, but for the space: that may not
# be the last one, and the header would have to quote it.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
# The boundaries that every reader understands without quotes.
_PLAIN = re.compile(r"[0-9A-Za-z._-]+")


@dataclass(frozen=True)
class Multipart:
    """The parts (RFC 2046, section 5.1) are XML documents, or the bytes that the feed returned.

    boundary: 1 to 70 characters of RFC 2046's set, without the space. Any other raises ValueError.
    retry: milliseconds after which a client should reconnect when the stream breaks.
    named: each part names its feed.

    A heartbeat makes the value of one header longer. It is not a part: ffmpeg, and with it OpenCV,
    ends at a part without an image, and Go's and aiohttp's readers deliver an empty part like any
    other. It is not a header either: aiohttp takes at most 128 headers for a part.
    """

    boundary: str
    retry: int = 2000
    named: bool = False

    content_encoding = None
    heartbeat = b" "

    def __post_init__(self) -> None:
        if not _BOUNDARY.fullmatch(self.boundary):
            raise ValueError(
                f"{self.boundary!r} cannot be a boundary: give 1 to 70 letters, digits"
                " or any of '()+_,-./:=?"
            )

    @property
    def content_type(self) -> str:
        # The seed's spelling, without a space and without quotes, wherever that will do.
        quoted = self.boundary if _PLAIN.fullmatch(self.boundary) else f'"{self.boundary}"'
        return f"multipart/x-mixed-replace;boundary={quoted}"

    @property
    def opening(self) -> bytes:
        return self.delimiter + b"\r\nIdle:"

    @property
    def reset(self) -> bytes:
        return b"\r\nEvent: reset\r\nContent-Length: 0\r\n\r\n\r\n" + self.opening

    def encode(self, event: Event) -> bytes:
        payload = event.value.payload
        if isinstance(payload, Blob):
            body, content_type = payload.data, payload.content_type
        else:
            # A reader that trusts the boundary more than the length must not find one in the
            # body. It could stand only at the start of a line of text, where `-` may as well be
            # written as a reference: there are no line ends in our tags.
            body = xml_message(payload).replace(
                b"\n" + self.delimiter, b"\n&#45;" + self.delimiter[1:]
            )
            content_type = "application/xml"
        head = [
            "",  # the end of Idle
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            # The value's age survives a late joiner and a repeat: it is a date.
            f"Last-Modified: {formatdate(event.value.computed, usegmt=True)}",
            f"Server-Timing: compute;dur={event.value.took * 1000:.3f}",
            f"Event-ID: {event.id}",
            f"Retry: {self.retry}",
        ]
        if self.named:
            head.append(f"Feed: {quote(event.feed)}")
        return b"".join(("\r\n".join(head).encode(), b"\r\n\r\n", body, b"\r\n", self.opening))

    def encode_status(self, status: FeedStatus) -> bytes:
        body = status_json(status).encode()
        head = (
            f"\r\nEvent: {status_name(status)}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "\r\n"
        )
        return b"".join((head.encode(), body, b"\r\n", self.opening))

    def come_back(self, milliseconds: int) -> bytes:
        head = f"\r\nEvent: retry\r\nRetry: {milliseconds}\r\nContent-Length: 0\r\n\r\n\r\n"
        return head.encode() + self.opening

    def last(self, frame: bytes) -> bytes:
        return frame.removesuffix(self.opening) + self.delimiter + b"--\r\n"

    @property
    def delimiter(self) -> bytes:
        """What a line begins with that separates two parts."""
        return f"--{self.boundary}".encode()
