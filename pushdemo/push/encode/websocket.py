"""A WebSocket's messages (RFC 6455), as the server sends them.

A value is a text message: the JSON object that is a line of NDJSON. Bytes are a binary message, as
they are. With permessage-deflate (RFC 7692) each message is compressed by itself
(`server_no_context_takeover`), and so once for all clients.

    opening    nothing
    frame      one frame, not masked and not fragmented
    heartbeat  a pong that nobody has asked for (RFC 6455, section 5.5.3)
    last       the frame, and a close frame
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pushdemo.push.compute.payload import Blob
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event, FeedStatus

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
# Codes of closing (RFC 6455, section 7.4.1, and IANA's registry).
NORMAL, UNSUPPORTED, POLICY, TOO_BIG, RESTART = 1000, 1003, 1008, 1009, 1012
MOST_REASON = 123  # bytes: a control frame has 125 at most, and two are the code

_FIN, _RSV1 = 0x80, 0x40
_NDJSON = NdJson()


def frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """A whole frame (RFC 6455, section 5.2)."""
    first = _FIN | (_RSV1 if compressed else 0) | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, size))
    elif size < 1 << 16:
        head = bytes((first, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 127)) + size.to_bytes(8, "big")
    return head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """reason: for a person; what is too long is cut off."""
    said = reason.encode()[:MOST_REASON].decode("utf-8", "ignore").encode()
    return frame(CLOSE, code.to_bytes(2, "big") + said)


@dataclass(frozen=True)
class WebSocket:
    """deflate: permessage-deflate was agreed on."""

    deflate: bool = False

    content_type = ""  # there is none
    content_encoding = None
    opening = b""
    heartbeat = frame(PONG, b"")

    @property
    def reset(self) -> bytes:
        return self._text(_NDJSON.reset)

    def encode(self, event: Event) -> bytes:
        payload = event.value.payload
        if isinstance(payload, Blob):
            return self._message(BINARY, payload.data)
        return self._text(_NDJSON.encode(event))

    def encode_status(self, status: FeedStatus) -> bytes:
        return self._text(_NDJSON.encode_status(status))

    def come_back(self, milliseconds: int) -> bytes:
        return self._text(_NDJSON.come_back(milliseconds)) + close_frame(RESTART)

    def last(self, frame: bytes) -> bytes:
        return frame + close_frame(NORMAL)

    def _text(self, line: bytes) -> bytes:
        return self._message(TEXT, line.removesuffix(b"\n"))

    def _message(self, opcode: int, payload: bytes) -> bytes:
        if not self.deflate:
            return frame(opcode, payload)
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        # Without the empty block that the flush ends with (RFC 7692, section 7.2.1).
        return frame(opcode, compressed.removesuffix(b"\x00\x00\xff\xff"), compressed=True)
