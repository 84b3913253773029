r"""What the wire formats of endless streams have in common. A format turns events into bytes; it
knows no socket, no clock and no WSGI.

A stream is

    opening  frame  frame  …  last

Each frame is the same bytes for every client, so it cannot depend on whether it is a client's first
frame.

Widely used clients do not read the formats exactly as the standards say. The formats here send only
what all of these clients read alike: one event for each event, and no event for an opening or a
heartbeat. A heartbeat is therefore never an element of the format, such as a part or an empty line.
It is the beginning of the next frame, at a place where the format allows any amount of it:

    EventStream   a line `retry: …` before the fields of the next event
    NdJson        a space before the JSON text of the next line
    Multipart     a space in the empty value of the header Idle of the next part

tests/test_other_clients.py names the clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pushdemo.push.event import Encoder, Event, FeedStatus


class Framing(Encoder, Protocol):
    """The wire format of an endless stream.

    content_type: the value of the response's header Content-Type.
    content_encoding: the value of its header Content-Encoding, or None.
    opening: the bytes before the first frame.
    heartbeat: bytes that may come before a frame, any number of times, and mean nothing; empty
        where the format has no such bytes.
    reset: a frame that says: events may be missing before the next one.
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

    def encode_status(self, status: FeedStatus) -> bytes:
        """The bytes that tell the client that a feed fails, or that it works again; empty where the
        format has no way to say it."""

    def come_back(self, milliseconds: int) -> bytes:
        """The bytes that tell a client in how many milliseconds to come back, before its stream is
        cut off; empty where the format has no way to say it."""

    def last(self, frame: bytes) -> bytes:
        """`frame`, which `encode` made, changed so that it ends the stream."""


def heartbeat_of(framing: Framing, state: Sequence[Event]) -> bytes:
    """What is sent after a silence: the heartbeat or, where there is none, the newest event."""
    return framing.heartbeat or b"".join(event.frame(framing) for event in state[-1:])
