"""A compressed stream (RFC 1952): one gzip header, and then deflate blocks without end.

Each event has a compressor of its own, which refers to nothing before the event, and ends with a
full flush, which fills the last byte. The bytes of an event therefore do not depend on what a
client received before it: the event is compressed once for all clients, and is right for each,
whenever that joined. Such a stream cannot have an end, which would be a checksum of everything that
one client received. An endless stream needs none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pushdemo.push.encode.framing import Framing
from pushdemo.push.event import CannotCarry, Event, FeedStatus


@dataclass(frozen=True)
class Gzip:
    """inner: the format that is compressed."""

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

    def encode_status(self, status: FeedStatus) -> bytes:
        return compress(self.inner.encode_status(status))

    def come_back(self, milliseconds: int) -> bytes:
        return compress(self.inner.come_back(milliseconds))

    def last(self, frame: bytes) -> bytes:
        raise NotImplementedError("a compressed stream has no end that all clients could share")


def compress(data: bytes) -> bytes:
    """Deflate blocks (RFC 1951) for `data`, which decompress alike after and before any others."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)
