"""How the response to one client begins, when it is not known at once how it will.

A format may be unable to carry what a feed gives, and a poll has nothing to say before there is
something new; both are known only when an event is there. An answer is asked, once: with the first
event, or when none has come for `patience` seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pushdemo.push.encode.document import DocumentFraming
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import Event
from pushdemo.push.response import MakeHead, Response

# Seconds without a first value after which a stream begins without one: so that the client, and
# every proxy on the way, knows that it is there.
PATIENCE = 10.0


class Beginning(NamedTuple):
    """What to send first, and whether a stream's events follow it."""

    data: bytes
    goes_on: bool


class Answer(Protocol):
    """patience: seconds to wait for the first event."""

    @property
    def patience(self) -> float: ...

    def begin(self, event: Event | None) -> Beginning:
        """The beginning, for the first event, or for none in all that time."""

    def come_back(self, milliseconds: int) -> bytes:
        """The whole of it, where it ends before it has begun, for the client to come back."""

    def fail(self) -> Beginning:
        """The beginning and end, where the first value could not be computed."""


class Fallbacks(NamedTuple):
    """The whole responses that a client is sent where it cannot be sent what it asked for.

    refusal: where the format cannot carry what the feed gives.
    failure: where the first value cannot be computed.
    """

    refusal: Response
    failure: Response


@dataclass(frozen=True, eq=False)
class StreamAnswer:
    """An endless response, if its format can carry what the feed gives.

    head: of the response, for when it can.
    make_head: encodes the head of a fallback.
    """

    framing: Framing
    head: bytes
    make_head: MakeHead
    fallbacks: Fallbacks

    @property
    def patience(self) -> float:
        # A WebSocket carries everything, so there is nothing to wait for.
        return 0.0 if isinstance(self.framing, WebSocket) else PATIENCE

    def begin(self, event: Event | None) -> Beginning:
        if event is not None and not event.frame(self.framing):
            return Beginning(self.fallbacks.refusal.encode(self.make_head), False)
        return Beginning(self.head + self.framing.opening, True)

    def come_back(self, milliseconds: int) -> bytes:
        # Not an error: an EventSource does not come back after one.
        opening = self.head + self.framing.opening
        return opening + self.framing.come_back(milliseconds)

    def fail(self) -> Beginning:
        return Beginning(self.fallbacks.failure.encode(self.make_head), False)


@dataclass(frozen=True, eq=False)
class Continuation:
    """Of a stream that has begun, what follows when it goes on: nothing but its events.

    framing: of the stream.
    """

    framing: Framing

    patience = 0.0

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        return Beginning(b"", True)

    def come_back(self, milliseconds: int) -> bytes:
        return self.framing.come_back(milliseconds)

    def fail(self) -> Beginning:
        return Beginning(b"", True)


class Condition(NamedTuple):
    """What a poll waits for.

    reached: an event with a higher number,
    known: and with none of these ids.
    wait: for that many seconds.
    nothing_new: the response where no event came.
    """

    reached: int
    wait: float
    nothing_new: Response
    known: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PollAnswer:
    """One event as a whole response."""

    framing: DocumentFraming
    condition: Condition
    fallbacks: Fallbacks

    @property
    def patience(self) -> float:
        return self.condition.wait

    def begin(self, event: Event | None) -> Beginning:
        if event is None:
            return self._whole(self.condition.nothing_new)
        if frame := event.frame(self.framing):
            return Beginning(frame, False)
        return self._whole(self.fallbacks.refusal)

    def come_back(self, milliseconds: int) -> bytes:
        failure = self.fallbacks.failure
        headers = [header for header in failure.headers if header[0].lower() != "retry-after"]
        headers.append(("Retry-After", str(math.ceil(milliseconds / 1000))))
        return failure._replace(headers=headers).encode(self.framing.make_head)

    def fail(self) -> Beginning:
        return self._whole(self.fallbacks.failure)

    def _whole(self, response: Response) -> Beginning:
        return Beginning(response.encode(self.framing.make_head), False)
