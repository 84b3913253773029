"""What the clients ask for, and how an event of the benchmark's feed looks in it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

# What ends each event of a compressed stream: an empty stored block (RFC 1951, section 3.2.4).
_FLUSHED = b"\x00\x00\xff\xff"
_GZIP_HEADER = 10  # bytes


def plain(data: bytes) -> bytes | None:
    """Bytes as they came."""
    return data


def inflated(data: bytes) -> bytes | None:
    """Whole events of a compressed stream; None if the last is not whole yet. Each stands for
    itself, so it does not matter what came before."""
    if not data.endswith(_FLUSHED):
        return None
    head, blank, body = data.partition(b"\r\n\r\n")
    if blank and head.startswith(b"HTTP/"):
        data = body[_GZIP_HEADER:]
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)


@dataclass(frozen=True)
class Wire:
    """A way to ask for the stream.

    event: finds one whole event in what `decode` gives; its groups are the nanoseconds of the
        monotonic clock at which the value was computed, and its number.
    decode: from the connection's bytes; None where more are needed.
    """

    request: bytes
    event: re.Pattern[bytes]
    decode: Callable[[bytes], bytes | None] = plain


def _request(*headers: str) -> bytes:
    lines = ("GET /server/index/bench HTTP/1.1", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


_MULTIPART = re.compile(rb"<message>~(\d+) (\d+) [^<]*~</message>\n\r\n--[^\r\n]+\r\n")
_EVENT_STREAM = re.compile(rb"data: ~(\d+) (\d+) [^\n]*~\n\n")

WIRES = {
    "multipart": Wire(_request(), _MULTIPART),
    "sse": Wire(_request("Accept: text/event-stream"), _EVENT_STREAM),
    "sse-gzip": Wire(
        _request("Accept: text/event-stream", "Accept-Encoding: gzip"), _EVENT_STREAM, inflated
    ),
}
