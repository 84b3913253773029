"""What a feed's function gave, and the event that carries it to every client.

An event is made once and shared by all who receive it, so neither class may change after it was
made. The one thing that grows is an event's store of frames: the bytes of each wire format, made
by whoever asks first and the same for everybody after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Encoder(Protocol):
    """What turns an event into a wire format's bytes; equal encoders give equal bytes."""

    def encode(self, event: Event) -> bytes: ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Value:
    """One computed result.

    text: the result as text.
    computed: when its computation began, in seconds since the epoch (wall clock: for people).
    fresh_until: when it is due to be computed again, in nanoseconds of the monotonic clock.
    """

    text: str
    computed: float
    fresh_until: int


class Event:
    """A value on its way; `sequence` counts the events of one channel from 1."""

    __slots__ = ("_frames", "sequence", "value")

    def __init__(self, sequence: int, value: Value) -> None:
        self.sequence = sequence
        self.value = value
        self._frames: dict[Encoder, bytes] = {}

    def frame(self, encoder: Encoder) -> bytes:
        """This event in `encoder`'s format, encoded at most once, or twice in a race that changes
        nothing: both give the same bytes. Any thread."""
        frame = self._frames.get(encoder)
        if frame is None:
            frame = self._frames[encoder] = encoder.encode(self)
        return frame
