"""The bytes between a worker and the broadcaster.

Each call has a connection of its own. The worker sends one message, the broadcaster answers with
one, and both close. A message is

    8 bytes   the word PUSHDEMO
    2 bytes   the version of the protocol
    4 bytes   the length of the header
    8 bytes   the length of the body
              the header: a JSON object, in UTF-8
              the body: the value that is published, as it is

with integers in big-endian order. The first ten bytes are the same in every version, so that each
side can name the other's. A connection that is handed over is attached to the first byte.

The parser does no input or output. It takes the bytes in any pieces, and holds no more than the
message that they announce.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

WORD = b"PUSHDEMO"
VERSION = 1
MAX_HEADER = 64 * 1024  # bytes

_PREAMBLE = struct.Struct(">8sH")
_LENGTHS = struct.Struct(">IQ")


class Malformed(ValueError):
    """The bytes are no message, or a message that is too large."""


class OtherVersion(Malformed):
    """A message of another version of the protocol. The argument is that version."""

    def __init__(self, version: int) -> None:
        super().__init__(f"protocol version {version}, where {VERSION} is spoken here")
        self.version = version


class Message(NamedTuple):
    header: Mapping[str, Any]
    body: bytes


def encode(header: Mapping[str, object], body_length: int = 0) -> bytes:
    """A message up to its body. Raises ValueError where the header cannot be sent."""
    # In ASCII: a lone surrogate, which environ may have, arrives as it was.
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    if len(encoded) > MAX_HEADER:
        raise ValueError(f"a header of {len(encoded)} bytes, where {MAX_HEADER} are allowed")
    return _PREAMBLE.pack(WORD, VERSION) + _LENGTHS.pack(len(encoded), body_length) + encoded


class Parser:
    """Makes one message of bytes that come in any pieces.

    max_body: bytes.
    """

    def __init__(self, max_body: int = 0) -> None:
        self.message: Message | None = None
        self.body_length = 0
        self._max_body = max_body
        self._header: Mapping[str, Any] = {}
        self._bytes = bytearray()
        self._next: tuple[int, Callable[[bytes], None]] = (_PREAMBLE.size, self._preamble)

    @property
    def missing(self) -> int:
        """At least so many bytes have to come; 0 when the message is complete."""
        return 0 if self.message is not None else self._next[0] - len(self._bytes)

    def receive(self, data: bytes) -> None:
        """Parse what has come. Bytes behind the message are ignored.

        Raises Malformed, and so OtherVersion; the parser is of no use afterwards.
        """
        self._bytes += data
        while self.message is None and len(self._bytes) >= self._next[0]:
            length, step = self._next
            part = bytes(memoryview(self._bytes)[:length])
            del self._bytes[:length]
            step(part)

    def _preamble(self, part: bytes) -> None:
        word, version = _PREAMBLE.unpack(part)
        if word != WORD:
            raise Malformed(f"a message begins with {WORD!r}, and not with {word!r}")
        if version != VERSION:
            raise OtherVersion(version)
        self._next = (_LENGTHS.size, self._lengths)

    def _lengths(self, part: bytes) -> None:
        header_length, self.body_length = _LENGTHS.unpack(part)
        if header_length > MAX_HEADER:
            raise Malformed(f"a header of {header_length} bytes, where {MAX_HEADER} are allowed")
        if self.body_length > self._max_body:
            raise Malformed(f"{self.body_length} bytes, where {self._max_body} are allowed")
        self._next = (header_length, self._read_header)

    def _read_header(self, part: bytes) -> None:
        try:
            header = json.loads(part.decode("utf-8"))
        except (ValueError, RecursionError):  # brackets within brackets
            header = None
        if not isinstance(header, dict):
            raise Malformed("the header is no JSON object in UTF-8")
        self._header = header
        self._next = (self.body_length, self._read_body)

    def _read_body(self, part: bytes) -> None:
        self.message = Message(self._header, part)
