r"""The wire formats of endless streams: event in, bytes out. No sockets, no clock, no WSGI.

A stream is

    opening  frame  frame  …  last

where every frame is the same bytes for every client, so a frame cannot depend on whether it is a
client's first. In multipart, the delimiter that closes a part therefore belongs to that part's
frame, and only the very first delimiter is the opening's:

    opening   --boundary CRLF Idle:
    frame     CRLF headers CRLF CRLF body CRLF --boundary CRLF Idle:
    last      CRLF headers CRLF CRLF body CRLF --boundary-- CRLF

A client that waits for the delimiter, as browsers did, then has each part whole as soon as it was
sent, and so has one that counts Content-Length. An <img> needs more: see Images.

Widely used clients do not read the formats exactly as the standards say. So what is sent is what
all of them read alike: one event for each event, and none for an opening or a heartbeat. A
heartbeat is therefore never an element of the format, such as a part or an empty line. It is the
beginning of the next frame, in a place where the format allows as much of it as one likes:

    EventStream   a line `retry: …` before the fields of the next event
    NdJson        a space before the JSON text of the next line
    Multipart     a space in the empty value of the header Idle of the next part

tests/test_other_clients.py names the clients.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Protocol
from urllib.parse import quote

from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.encode.xml import xml_message
from pushdemo.push.event import CannotCarry, Encoder, Event, Trouble

# RFC 2046, section 5.1.1: what a boundary may hold; a space is allowed there, but not at the end,
# and not unquoted in the header, so it is left out here.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
# Of what a header may hold unquoted, what no reader takes for anything else.
_PLAIN = re.compile(r"[0-9A-Za-z._-]+")


class Framing(Encoder, Protocol):
    """A wire format of an endless stream.

    content_type: the value of the response's Content-Type.
    content_encoding: that of its Content-Encoding, or None.
    opening: what stands before the first frame.
    heartbeat: what may stand before a frame, any number of times, and says nothing; empty where
        nothing may.
    reset: a frame that says: events may be missing before the next.
    """

    @property
    def content_type(self) -> str: ...

    @property
    def content_encoding(self) -> str | None: ...

    @property
    def opening(self) -> bytes: ...

    @property
    def heartbeat(self) -> bytes: ...

    @property
    def reset(self) -> bytes: ...

    def trouble(self, trouble: Trouble) -> bytes:
        """What says that a feed fails, or works again."""

    def last(self, frame: bytes) -> bytes:
        """A frame of `encode`, changed so that it ends the stream."""


def _trouble_json(trouble: Trouble) -> str:
    content: dict[str, object] = {"event": _trouble_name(trouble), "feed": trouble.feed}
    if trouble.since is not None:
        content["since"] = round(trouble.since, 3)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _trouble_name(trouble: Trouble) -> str:
    return "recovered" if trouble.since is None else "error"


def _on_one_line(encoded: str) -> str:
    """JSON text without the characters that only some readers take for line ends: Python's
    `str.splitlines`, and with it httpx's `iter_lines`. They can stand in strings alone."""
    if not encoded.isascii():
        for character in "\u0085\u2028\u2029":
            encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return encoded


@dataclass(frozen=True)
class Multipart:
    """`multipart/x-mixed-replace`, a part for each event (RFC 2046, section 5.1): an XML document,
    or an image or whatever else the feed gives as bytes.

    boundary: 1 to 70 characters of RFC 2046's set, without the space; ValueError for another.
    retry: milliseconds after which a client should come back when the stream breaks.
    named: each part says which feed it is of.

    A heartbeat makes the value of one header longer, and adds neither a part nor a header. At a
    part without an image ffmpeg, and so OpenCV, ends; Go's and aiohttp's readers deliver an empty
    part as any other; and aiohttp takes at most 128 headers for a part.
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

    def trouble(self, trouble: Trouble) -> bytes:
        body = _trouble_json(trouble).encode()
        head = (
            f"\r\nEvent: {_trouble_name(trouble)}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "\r\n"
        )
        return b"".join((head.encode(), body, b"\r\n", self.opening))

    def last(self, frame: bytes) -> bytes:
        return frame.removesuffix(self.opening) + self.delimiter + b"--\r\n"

    @property
    def delimiter(self) -> bytes:
        """What a line begins with that separates two parts."""
        return f"--{self.boundary}".encode()


@dataclass(frozen=True)
class Images:
    """`multipart/x-mixed-replace` as an <img> takes it: images and nothing else.

        opening   --boundary CRLF CRLF
        frame     image CRLF --boundary CRLF CRLF
        last      image CRLF --boundary-- CRLF

    Chromium shows an image when the headers of the part after it are complete, so they must be sent
    with it, before anything is known of the next: they are empty, and both browsers look at the
    image itself for its type. What comes after them must be that next image: a part without a body,
    even a single line end, leaves Chromium with a broken image for good. So there is neither
    a heartbeat nor a reset, and who wants lengths, dates and ids asks for Multipart.

    multipart: whose boundary this has.
    """

    multipart: Multipart

    content_encoding = None
    heartbeat = b""
    reset = b""

    @property
    def content_type(self) -> str:
        return self.multipart.content_type

    @property
    def opening(self) -> bytes:
        return self.multipart.delimiter + b"\r\n\r\n"

    def encode(self, event: Event) -> bytes:
        payload = event.value.payload
        # Nothing here counts bytes, and Chromium finds a delimiter in the middle of a line, too.
        if (
            not isinstance(payload, Blob)
            or not payload.is_image
            or self.multipart.delimiter in payload.data
        ):
            raise CannotCarry
        return b"".join((payload.data, b"\r\n", self.opening))

    def trouble(self, trouble: Trouble) -> bytes:  # noqa: ARG002
        return b""

    def last(self, frame: bytes) -> bytes:
        return frame.removesuffix(b"\r\n\r\n") + b"--\r\n"


@dataclass(frozen=True)
class EventStream:
    """`text/event-stream` (WHATWG HTML, section 9.2): text as it is, data as JSON. It has lines of
    text alone, so it cannot carry bytes, and a CR in a text arrives as LF.

    retry: milliseconds after which a client should come back when the stream breaks.
    named: the event's type is the feed's name.

    An empty line comes with an event and nowhere else: httpx-sse, fetch-event-source and others
    make an event of each. A comment never stands first in an event: readers that split a stream at
    its empty lines, such as IKEventSource, take an event that begins with a colon for a comment,
    and drop it.
    """

    retry: int = 2000
    named: bool = False

    content_type = "text/event-stream"
    content_encoding = None
    reset = b'event: reset\ndata: {"event":"reset"}\n\n'

    @property
    def opening(self) -> bytes:
        return f"retry: {self.retry}\n".encode()

    @property
    def heartbeat(self) -> bytes:
        return self.opening  # every client knows the field, and to say it again changes nothing

    def encode(self, event: Event) -> bytes:
        match event.value.payload:
            case Text(text):
                lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            case Data(encoded):
                lines = [_on_one_line(encoded)]
            case Blob():
                raise CannotCarry
        # A comment: there is no field for it, and data is the value alone.
        when = f": computed={event.value.computed:.6f} took={event.value.took:.6f}"
        fields = [f"id: {event.id}", when]
        if self.named:
            fields.append(f"event: {event.feed}")
        fields += [f"data: {line}" for line in lines]
        return "\n".join((*fields, "", "")).encode()

    def trouble(self, trouble: Trouble) -> bytes:
        return f"event: {_trouble_name(trouble)}\ndata: {_trouble_json(trouble)}\n\n".encode()

    def last(self, frame: bytes) -> bytes:
        return frame


@dataclass(frozen=True)
class NdJson:
    """`application/x-ndjson`: each event a line, with a JSON object: its id, its feed's name, when
    its value was computed (seconds since the epoch), how long that took (seconds), and the value.
    It cannot carry bytes.

    There are no empty lines: readers that parse each line as JSON fail at one, and take spaces
    before an object (RFC 8259, section 2).
    """

    content_type = "application/x-ndjson"
    content_encoding = None
    opening = b""
    heartbeat = b" "
    reset = b'{"event":"reset"}\n'

    def encode(self, event: Event) -> bytes:
        value = json_of(event)
        head = json.dumps(
            {
                "id": event.id,
                "feed": event.feed,
                "computed": round(event.value.computed, 6),
                "took": round(event.value.took, 6),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        return _on_one_line(f'{head[:-1]},"value":{value}}}').encode() + b"\n"

    def trouble(self, trouble: Trouble) -> bytes:
        return _trouble_json(trouble).encode() + b"\n"

    def last(self, frame: bytes) -> bytes:
        return frame


def json_of(event: Event) -> str:
    """An event's value as JSON. Raises CannotCarry."""
    match event.value.payload:
        case Data(encoded):
            return encoded
        case Text(text):
            return json.dumps(text, ensure_ascii=False)
        case _:
            raise CannotCarry


@dataclass(frozen=True)
class Gzip:
    """Another framing, compressed (RFC 1952) once for all clients.

    On the wire is one gzip header, and then deflate blocks without end. Each event is compressed
    by a compressor of its own, that looks back at nothing before it, and ended by a full flush,
    which leaves it on a whole byte. So its bytes do not depend on what a client got before, and
    are right for each, whenever it joined. What such a stream cannot have is an end, which would
    be a checksum of all that this one client got; an endless one needs none.
    """

    inner: Framing

    content_encoding = "gzip"

    @property
    def content_type(self) -> str:
        return self.inner.content_type

    @property
    def opening(self) -> bytes:
        # Magic, deflate, no flags, no time, no hint, made on an unknown system.
        return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + compress(self.inner.opening)

    @property
    def heartbeat(self) -> bytes:
        return compress(self.inner.heartbeat)

    @property
    def reset(self) -> bytes:
        return compress(self.inner.reset)

    def encode(self, event: Event) -> bytes:
        frame = event.frame(self.inner)
        if not frame:
            raise CannotCarry
        return compress(frame)

    def trouble(self, trouble: Trouble) -> bytes:
        return compress(self.inner.trouble(trouble))

    def last(self, frame: bytes) -> bytes:
        raise NotImplementedError("a compressed stream has no end that all clients could share")


def compress(data: bytes) -> bytes:
    """Deflate blocks (RFC 1951) that stand for `data`, whatever came before and comes after."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


def heartbeat_of(framing: Framing, state: Sequence[Event]) -> bytes:
    """What fills a silence: the framing's heartbeat or, where it has none, the newest event."""
    return framing.heartbeat or b"".join(event.frame(framing) for event in state[-1:])


def named(framing: Framing) -> Framing:
    """The framing whose events say which feed they are of: for a stream of several."""
    if isinstance(framing, Multipart | EventStream):
        return replace(framing, named=True)
    return framing  # lines of JSON always do


def images(framing: Framing) -> Framing:
    """The framing as an <img> takes it."""
    return Images(framing) if isinstance(framing, Multipart) else framing
