"""A complete HTTP response, and how a server encodes the head of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, str]]
# Provided by a server: encodes a response's head, from a status and headers, up to and including
# the empty line.
MakeHead = Callable[[str, Headers], bytes]


class Response(NamedTuple):
    """A complete response. Content-Length is not among the headers."""

    status: str
    headers: Headers
    body: bytes = b""

    def encode(self, make_head: MakeHead) -> bytes:
        length = [] if self.status.startswith("304") else [("Content-Length", str(len(self.body)))]
        return make_head(self.status, [*self.headers, *length]) + self.body
