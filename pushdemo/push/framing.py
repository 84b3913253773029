r"""Wire formats: event in, bytes out. No sockets, no clock, no WSGI.

A multipart stream is

    opening  frame  frame  frame …  last

where every frame is the same bytes for every client, so a frame cannot depend on whether it is a
client's first. The delimiter that closes a part therefore belongs to the frame of that part, and
only the very first delimiter is the opening's:

    opening   --boundary CRLF
    frame     headers CRLF CRLF body CRLF --boundary CRLF
    last      headers CRLF CRLF body CRLF --boundary-- CRLF

A client that waits for the delimiter (as browsers did, and `<img>` does) then has each part whole
as soon as it was sent, and so has one that counts Content-Length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol

from pushdemo.push.event import Encoder, Event

# The Char production of XML 1.0, turned round: these cannot stand in a document, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A raw CR would be read back as LF (XML 1.0, section 2.11).
_XML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})

# RFC 2046, section 5.1.1: what a boundary may hold; a space is allowed there, but not at the end,
# and not unquoted in the header, so it is left out here.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
# Of what a header may hold unquoted, what no reader takes for anything else.
_PLAIN = re.compile(r"[0-9A-Za-z._-]+")


class Framing(Encoder, Protocol):
    """A wire format of an endless stream.

    content_type: the value of the response's Content-Type.
    opening: what stands before the first frame.
    """

    @property
    def content_type(self) -> str: ...

    @property
    def opening(self) -> bytes: ...

    def encode(self, event: Event) -> bytes:
        """The event's frame, the same for every client."""

    def last(self, frame: bytes) -> bytes:
        """A frame of `encode`, changed so that it ends the stream."""


def xml_message(text: str) -> bytes:
    """The seed's document: a root named message whose first child is the text, in UTF-8.

    Characters that XML 1.0 does not know (section 2.2: most control characters, lone surrogates)
    become U+FFFD; all others survive the way there and back.
    """
    safe = _NOT_XML.sub("\ufffd", text).translate(_XML_ESCAPES)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<message>{safe}</message>\n'.encode()


@dataclass(frozen=True)
class Multipart:
    """`multipart/x-mixed-replace` with one XML document a part (RFC 2046, section 5.1).

    boundary: 1 to 70 characters of RFC 2046's set, without the space; ValueError for another.
    """

    boundary: str

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
        return f"--{self.boundary}\r\n".encode()

    def encode(self, event: Event) -> bytes:
        delimiter = f"--{self.boundary}".encode()
        # A reader that trusts the boundary more than the length must not find one in the text;
        # nothing before the text can hold one, and there `-` may be written as a reference.
        body = xml_message(event.value.text).replace(delimiter, b"&#45;" + delimiter[1:])
        computed = formatdate(event.value.computed, usegmt=True)
        head = (
            "Content-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\n"
            # The value's age survives a cache, a late joiner and a repeat: it is a date.
            f"Last-Modified: {computed}\r\n"
            "\r\n"
        )
        return b"".join((head.encode(), body, b"\r\n", delimiter, b"\r\n"))

    def last(self, frame: bytes) -> bytes:
        return frame[:-2] + b"--\r\n"
