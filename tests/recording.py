"""Records what clients see, for tests/history.py: readers of the wire formats, bytes in, entries
out.

They share no code with pushdemo.client, nor with each other, so that a fault of one cannot hide in
the other. They are strict: what a lenient client would pass over is a broken stream here. A
multipart part is read by its Content-Length alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote

from tests.history import Client, Connected, Disconnected, Entry, Heartbeat, Notice, Reset, Seen

LONGEST = 200  # characters of a value that are kept as they are
MOST_HEAD = 64 * 1024
CHUNK = 64 * 1024  # bytes that are read at once

# What the XML documents of texts and numbers have around them.
_MESSAGE = re.compile(rb"(?:<\?xml[^>]*\?>\s*)?<message>(.*)</message>\s*", re.S)
_REFERENCES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&amp;": "&"}


class Broken(Exception):
    """These bytes are not what the format allows."""


def normal(value: object) -> str:
    """A value as the same text, whatever format it came in; a long one as its digest."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{len(text)} characters, {digest}"


class Reader(Protocol):
    """The reader of one format. feed: whose events those are that do not say it."""

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        """What has become complete with these bytes, which came at `at`. Raises Broken."""


class Lines:
    """`application/x-ndjson`: a line for each event. A space before one is a heartbeat."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._rest = b""

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            record = line.lstrip(b" ")
            yield from (Heartbeat(at) for _ in range(len(line) - len(record)))
            yield self._entry(record, at)
        self._rest = rest.lstrip(b" ")
        yield from (Heartbeat(at) for _ in range(len(rest) - len(self._rest)))

    def _entry(self, line: bytes, at: float) -> Entry:
        try:
            record = json.loads(line)
            if "event" in record:
                return _notice(record["event"], record.get("feed", self._feed), at)
            return Seen(at, record["feed"], record["id"], normal(record["value"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Broken(f"{line[:80]!r} is no event ({error!r})") from None


class EventStream:
    """`text/event-stream` (WHATWG HTML, section 9.2), without what it is lenient in. A line `retry`
    before an event is a heartbeat, and an empty line without an event is wrong."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._rest = b""
        self._fields: dict[str, list[str]] = {}

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b":"):
                if not self._fields:
                    raise Broken(f"{line[:80]!r} stands first in an event")
            elif line.startswith(b"retry: ") and not self._fields:
                yield Heartbeat(at)
            elif line:
                self._add(line)
            elif "data" in self._fields:
                yield self._entry(at)
                self._fields = {}
            else:
                raise Broken("an empty line without an event")

    def _add(self, line: bytes) -> None:
        name, colon, value = line.decode().partition(": ")
        if not colon or name not in ("id", "event", "data", "retry"):
            raise Broken(f"{line[:80]!r} is no field")
        self._fields.setdefault(name, []).append(value)

    def _entry(self, at: float) -> Entry:
        fields, data = self._fields, "\n".join(self._fields["data"])
        kind = fields.get("event", [self._feed])[-1]
        if kind in ("reset", "error", "recovered") and "id" not in fields:
            try:
                return _notice(kind, json.loads(data).get("feed", self._feed), at)
            except ValueError:
                raise Broken(f"{data[:80]!r} says nothing of {kind}") from None
        if "id" not in fields:
            raise Broken(f"{data[:80]!r} came without an id")
        return Seen(at, kind, fields["id"][-1], normal(data))


class Parts:
    """`multipart/x-mixed-replace` (RFC 2046, section 5.1), whose parts have a length. Each begins
    with a header Idle, whose value has a space for each heartbeat."""

    def __init__(self, boundary: str, feed: str) -> None:
        self._delimiter = b"--" + boundary.encode()
        self._feed = feed
        self._buffer = bytearray()
        self._opened = False
        self._idle = 0  # spaces seen in the value of the next part's Idle

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        self._buffer += data
        if not self._opened:
            opening = self._delimiter + b"\r\n"
            if len(self._buffer) < len(opening):
                return
            self._take(opening)
            self._opened = True
        yield from self._heartbeats(at)
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            headers, begin = _headers(bytes(self._buffer[:end])), end + 4
            length = _length(headers)
            whole = begin + length + len(self._delimiter) + 4
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[begin : begin + length])
            del self._buffer[: begin + length]
            self._take(b"\r\n" + self._delimiter + b"\r\n")
            yield self._entry(headers, body, at)
            self._idle = 0
            yield from self._heartbeats(at)

    def _heartbeats(self, at: float) -> Iterator[Entry]:
        found = re.match(rb"Idle:( *)", self._buffer)
        if found is None:
            if len(self._buffer) >= len(b"Idle:"):
                raise Broken(f"a part begins with {bytes(self._buffer[:80])!r}")
            return
        yield from (Heartbeat(at) for _ in range(len(found[1]) - self._idle))
        self._idle = len(found[1])

    def _take(self, expected: bytes) -> None:
        if not self._buffer.startswith(expected):
            raise Broken(f"{bytes(self._buffer[:80])!r} stands where {expected!r} should")
        del self._buffer[: len(expected)]

    def _entry(self, headers: Mapping[str, str], body: bytes, at: float) -> Entry:
        feed = unquote(headers.get("feed", self._feed))
        if (kind := headers.get("event")) is not None:
            try:
                return _notice(kind, json.loads(body).get("feed", feed) if body else feed, at)
            except ValueError:
                raise Broken(f"{body[:80]!r} says nothing of {kind}") from None
        if "event-id" in headers:
            return Seen(at, feed, headers["event-id"], _text(headers, body))
        raise Broken(f"{body[:80]!r} came without an id")


class Frames:
    """A WebSocket (RFC 6455), without compression: a text frame for each event. A pong is a
    heartbeat."""

    def __init__(self, feed: str) -> None:
        self._lines = Lines(feed)
        self._rest = b""

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        self._rest += data
        while (found := self._payload()) is not None:
            begin, end = found
            first, payload = self._rest[0], self._rest[begin:end]
            self._rest = self._rest[end:]
            if first == 0x8A and not payload:
                yield Heartbeat(at)
            elif first == 0x81:
                yield from self._lines.read(payload + b"\n", at)
            else:
                raise Broken(f"a frame that begins with {first:#x}: {payload[:80]!r}")

    def _payload(self) -> tuple[int, int] | None:
        """Where the payload begins and ends of the first frame, if all of it has come."""
        if len(self._rest) < 2:
            return None
        size, begin = self._rest[1], 2
        if size > 127:
            raise Broken("a server's frame is masked")
        if size > 125:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(self._rest[2:begin], "big")
        return (begin, begin + size) if len(self._rest) >= begin + size else None


def _notice(name: str, feed: str, at: float) -> Entry:
    if name == "reset":
        return Reset(at)
    return Notice(at, name, feed)


def _headers(head: bytes) -> dict[str, str]:
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Broken(f"{line[:80]!r} is no header")
        headers[name.lower()] = value.strip()
    return headers


def _length(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Broken(f"a part's length is {length[:80]!r}")
    return int(length)


def _text(headers: Mapping[str, str], body: bytes) -> str:
    if headers.get("content-type", "").partition(";")[0] != "application/xml":
        return normal(body.decode("latin-1"))
    if (found := _MESSAGE.fullmatch(body)) is None:
        raise Broken(f"{body[:80]!r} is no message")
    text = found[1].decode()
    if "<" in text:
        return normal(text)  # elements: told from others, and no more
    return normal(
        re.sub(r"&(?:#(\d+)|\w+);", lambda r: chr(int(r[1])) if r[1] else _REFERENCES[r[0]], text)
    )


class Response:
    """The reader of one response that is a stream: its head, then its format, unzipped if it says
    so.

    feed: whose events those are that do not say it.
    after: the Last-Event-ID of the request.
    """

    def __init__(self, feed: str, after: str | None = None) -> None:
        self._feed = feed
        self._after = after
        self._head = bytearray()
        self._reader: Reader | None = None
        self._unzip: zlib._Decompress | None = None

    @property
    def began(self) -> bool:
        """Whether its head has come."""
        return self._reader is not None

    def read(self, data: bytes, at: float) -> Iterator[Entry]:
        """What has become complete with these bytes. Raises Broken, also where the response is not
        a stream."""
        if self._reader is None:
            self._head += data
            head, blank, data = bytes(self._head).partition(b"\r\n\r\n")
            if not blank:
                if len(head) > MOST_HEAD:
                    raise Broken("a head without end")
                return
            self._reader = self._begin(head)
            yield Connected(at, self._after)
        if self._unzip is not None:
            try:
                data = self._unzip.decompress(data)
            except zlib.error as error:
                raise Broken(f"not gzip: {error}") from None
        if data:
            try:
                yield from self._reader.read(data, at)
            except UnicodeDecodeError as error:
                raise Broken(str(error)) from None

    def _begin(self, head: bytes) -> Reader:
        status, _, rest = head.partition(b"\r\n")
        if status.startswith(b"HTTP/1.1 101 "):
            return Frames(self._feed)
        if not re.match(rb"HTTP/1\.[01] 200 ", status):
            raise Broken(f"answered {status[:80]!r}")
        headers = _headers(rest)
        encoding = headers.get("content-encoding")
        if encoding not in (None, "gzip") or "transfer-encoding" in headers:
            raise Broken(f"an encoding that no reader is for: {headers}")
        if encoding:
            self._unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        kind, _, parameters = headers.get("content-type", "").partition(";")
        if kind == "text/event-stream":
            return EventStream(self._feed)
        if kind == "application/x-ndjson":
            return Lines(self._feed)
        found = re.fullmatch(r'\s*boundary="?([^"]+)"?', parameters)
        if kind == "multipart/x-mixed-replace" and found:
            return Parts(found[1], self._feed)
        raise Broken(f"answered with {kind!r}")


class Log:
    """What one client sees, as it comes. One thread at a time.

    feeds: those it asks for, in the server's order.
    events: how many have come.
    """

    def __init__(self, name: str, feeds: Sequence[str], *, slow: bool = False) -> None:
        self.client = Client(name, feeds, slow=slow)
        self.events = 0
        self._response: Response | None = None

    @property
    def connected(self) -> bool:
        """Whether the head of a stream came, and its end did not."""
        return self._response is not None and self._response.began

    @property
    def is_open(self) -> bool:
        """Whether a request was sent, and its response did not end, nor break."""
        return self._response is not None

    def connect(self, after: str | None = None) -> None:
        """A request for a stream was sent. after: its Last-Event-ID."""
        self._response = Response(self.client.feeds[0], after)

    def receive(self, data: bytes, at: float) -> None:
        """Bytes came; none: the server ended the stream. After something that is broken, nothing
        more is looked at."""
        if self._response is None:
            return
        if not data:
            self.disconnect(at, "the server ended the stream")
            return
        try:
            for entry in self._response.read(data, at):
                self.client.entries.append(entry)
                self.events += isinstance(entry, Seen)
        except Broken as broken:
            self.disconnect(at, str(broken))

    def read(self, sock: socket.socket) -> bool:
        """Receive what has come on a socket that does not block; False at the end of it."""
        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self.receive(data, time.monotonic())
        return bool(data)

    def disconnect(self, at: float, fault: str = "") -> None:
        """The stream ended. fault: why it should not have."""
        if self._response is not None:
            self.client.entries.append(Disconnected(at, fault))
        self._response = None


class Recorder:
    """The logs of many clients, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: list[Log] = []

    def log(self, name: str, feeds: Sequence[str], *, slow: bool = False) -> Log:
        """A log for one more client."""
        log = Log(name, feeds, slow=slow)
        with self._lock:
            self._logs.append(log)
        return log

    @property
    def clients(self) -> list[Client]:
        """What all have seen."""
        with self._lock:
            return [log.client for log in self._logs]
