"""The event that carries a value to every client.

It is made once and shared by all who receive it, so nothing of it may change after it was made.
The one thing that grows is its store of frames: the bytes of each wire format, made by the caller
that asks first and the same for everybody after.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pushdemo.push.compute.payload import Payload

log = logging.getLogger(__name__)


class CannotCarry(Exception):
    """A wire format has no way to say this value: an event stream cannot hold an image."""


class Encoder(Protocol):
    """What turns an event into a wire format's bytes; equal encoders give equal bytes."""

    def encode(self, event: Event) -> bytes:
        """Raises CannotCarry."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Value:
    """One computed result.

    computed: when its computation began, in seconds since the epoch (wall clock: for people).
    fresh_until: when it is due to be computed again, in nanoseconds of the monotonic clock.
    took: seconds that its computation took.
    html: what the feed's template made of it; None where there is none.
    """

    payload: Payload
    computed: float
    fresh_until: int
    took: float = 0.0
    html: str | None = None


class FeedStatus(NamedTuple):
    """A feed fails, or works again after a failure. A status is not an event: the feed's newest
    event still has its last good value.

    number: counts the statuses of one channel from 1.
    feed: the feed's name.
    failing_since: when the feed failed first, in seconds since the epoch; None when it works again.
    """

    number: int
    feed: str
    failing_since: float | None


class Event:
    """A value on its way.

    sequence: counts the events of one channel from 1.
    id: names it to clients, across connections: they hand it back to resume after it.
    feed: whose value it is.
    after: the id of the channel's event before it, for an event of one channel. Who has seen that
        one, and nobody else, has missed none when this one comes.
    breaks: events may be missing between the one before it in this process and it.
    made: when, in seconds of the monotonic clock.
    """

    __slots__ = ("_frames", "after", "breaks", "feed", "id", "made", "sequence", "value")

    def __init__(
        self,
        sequence: int,
        id: str,  # noqa: A002
        feed: str,
        value: Value,
        after: str = "",
        *,
        breaks: bool = False,
    ) -> None:
        self.sequence = sequence
        self.id = id
        self.feed = feed
        self.value = value
        self.after = after
        self.breaks = breaks
        self.made = time.monotonic()
        self._frames: dict[Encoder, bytes] = {}

    @property
    def etag(self) -> str:
        """The id as an entity tag (RFC 9110, section 8.8.3)."""
        return f'"{self.id}"'

    def frame(self, encoder: Encoder) -> bytes:
        """This event in `encoder`'s format; nothing, where that cannot carry it. Any thread.

        Encoded at most once, or twice in a race that changes nothing: both give the same bytes.
        """
        frame = self._frames.get(encoder)
        if frame is None:
            try:
                frame = encoder.encode(self)
            except Exception as error:  # whatever it is, it must not end a stream
                if not isinstance(error, CannotCarry):
                    log.exception("feed %s: event %s cannot be encoded", self.feed, self.id)
                frame = b""
            self._frames[encoder] = frame
        return frame
