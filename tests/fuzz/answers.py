"""What a hostile client was answered: whether that is well-formed, and whether it is all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

STREAMS = (b"multipart/x-mixed-replace", b"text/event-stream", b"application/x-ndjson")
NO_BODY = (204, 304)

_CONTINUE = re.compile(rb"HTTP/1\.[01] 1\d\d [^\r\n]*\r\n\r\n")
# RFC 9112, section 4, and RFC 9110, section 5.5: what has a line end in it is two headers.
_HEAD = re.compile(
    rb"HTTP/1\.[01] ([2-5]\d\d) [\t -~\x80-\xff]*\r\n"
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
    if not body or status in NO_BODY or (kind and kind[1].strip().lower() in STREAMS):
        return Answered(status, True, False, fault)
    whole = length is not None and len(received) >= end + 4 + int(length[1])
    return Answered(status, whole, length is not None, fault)
