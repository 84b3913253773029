"""What a hostile client was answered: whether that is well-formed, and whether it is all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

STREAMS = (b"multipart/x-mixed-replace", b"text/event-stream", b"application/x-ndjson")
NO_BODY = (204, 304)
SWITCHED = 101

_CONTINUE = re.compile(rb"HTTP/1\.[01] 1\d[02-9] [^\r\n]*\r\n\r\n")  # all but 101
# RFC 9112, section 4, and RFC 9110, section 5.5: what has a line end in it is two headers.
_HEAD = re.compile(
    rb"HTTP/1\.[01] (101|[2-5]\d\d) [\t -~\x80-\xff]*\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.I)
_TYPE = re.compile(rb"\r\ncontent-type:[ \t]*([^;\r\n]*)", re.I)
_RETRY = re.compile(rb"\r\nretry-after:[ \t]*\d+\r\n", re.I)


@dataclass(frozen=True)
class Answered:
    """What has been received is an answer, or the beginning of one.

    status: 0 while its head has not come.
    whole: all of it is there; of a stream, its head.
    ends: it says how long it is; what does not ends with its connection.
    fault: what is wrong with it.
    """

    status: int = 0
    whole: bool = False
    ends: bool = False
    fault: str = ""


def answered(received: bytes | bytearray, *, body: bool = True) -> Answered:
    """What has been received so far. body: whether a body may follow the head."""
    begin = 0
    while found := _CONTINUE.match(received, begin):
        begin = found.end()
    end = received.find(b"\r\n\r\n", begin)
    if end < 0:
        return Answered()
    head = _HEAD.fullmatch(received, begin, end + 4)
    if head is None:
        return Answered(whole=True, fault=f"malformed: {bytes(received[begin : begin + 200])!r}")
    status = int(head[1])
    fault = ""
    if status >= 500 and not (status == 503 and _RETRY.search(head[0])):
        fault = f"answered {status}"
    length = _LENGTH.search(head[0])
    kind = _TYPE.search(head[0])
    if status == SWITCHED:
        return Answered(status, True, False, _fault_of_frames(bytes(received[end + 4 :])))
    if not body or status in NO_BODY or (kind and kind[1].strip().lower() in STREAMS):
        return Answered(status, True, False, fault)
    whole = length is not None and len(received) >= end + 4 + int(length[1])
    return Answered(status, whole, length is not None, fault)


def _fault_of_frames(data: bytes) -> str:
    """What is wrong with a WebSocket's frames (RFC 6455, section 5.2), as far as they have come: a
    server's are whole messages, and nothing follows a close."""
    while len(data) >= 2:
        first, size, begin = data[0], data[1], 2
        if first not in (0x81, 0xC1, 0x82, 0xC2, 0x88, 0x8A) or size > 127:
            return f"malformed: a frame that begins with {data[:20]!r}"
        if size > 125:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(data[2:begin], "big")
        if len(data) < begin + size:
            return ""
        data = data[begin + size :]
        if first == 0x88 and data:
            return f"malformed: {data[:20]!r} after a close"
    return ""
