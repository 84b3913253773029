"""How the response to one client begins, when it is not known at once how it will.

A format may be unable to carry what a feed gives, and a poll has nothing to say before there is
something new; both are known only when an event is there. An answer is asked, once: with the first
event, or when none has come for `patience` seconds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pushdemo.push.encode.document import DocumentFraming
from pushdemo.push.encode.framing import Framing
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

    def fail(self) -> Beginning:
        """The beginning and end, where the first value could not be computed."""


class StreamAnswer:
    """An endless response, if its format can carry what the feed gives.

    head: of the response, for when it can.
    refusal: the response for when it cannot.
    failure: the response for when there is no value.
    """

    __slots__ = ("_failure", "_framing", "_head", "_make_head", "_refusal")

    patience = PATIENCE

    def __init__(
        self,
        framing: Framing,
        head: bytes,
        make_head: MakeHead,
        *,
        refusal: Response,
        failure: Response,
    ) -> None:
        self._failure = failure
        self._framing = framing
        self._head = head
        self._refusal = refusal
        self._make_head = make_head

    def begin(self, event: Event | None) -> Beginning:
        if event is not None and not event.frame(self._framing):
            return Beginning(self._refusal.encode(self._make_head), False)
        return Beginning(self._head + self._framing.opening, True)

    def fail(self) -> Beginning:
        return Beginning(self._failure.encode(self._make_head), False)


class PollAnswer:
    """One event as a whole response.

    refusal: the response for an event that the framing cannot carry.
    failure: the response for when the feed fails before there is one.
    nothing_new: the response for when there has been none.
    patience: how long that takes, in seconds.
    """

    __slots__ = ("_failure", "_framing", "_nothing_new", "_refusal", "patience")

    def __init__(
        self,
        framing: DocumentFraming,
        *,
        refusal: Response,
        failure: Response,
        nothing_new: Response,
        patience: float,
    ) -> None:
        self._failure = failure
        self._framing = framing
        self._refusal = refusal
        self._nothing_new = nothing_new
        self.patience = patience

    def begin(self, event: Event | None) -> Beginning:
        make_head = self._framing.make_head
        if event is None:
            return Beginning(self._nothing_new.encode(make_head), False)
        return Beginning(event.frame(self._framing) or self._refusal.encode(make_head), False)

    def fail(self) -> Beginning:
        return Beginning(self._failure.encode(self._framing.make_head), False)
