"""What a client subscribes to, as one value: it is made where a request is answered, and passed on
whole."""

from __future__ import annotations

from dataclasses import dataclass

from pushdemo.push.channel import Source
from pushdemo.push.encode.framing import Framing
from pushdemo.push.position import Position


@dataclass(frozen=True, eq=False)
class Subscription:
    """The events of a source in a wire format.

    limit: after how many events the stream ends, at least 1; None for no end.
    resume_from: the position after which it begins, or, where that is unknown, with the framing's
        reset; None for the newest event.
    reached: it begins with an event that has a higher number.
    known: and that has none of these ids: the client has seen those, perhaps elsewhere.
    """

    source: Source
    framing: Framing
    limit: int | None = None
    resume_from: Position | None = None
    reached: int = 0
    known: tuple[str, ...] = ()
