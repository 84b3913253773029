"""A position: where in a source's events a client is, as its last event's id says it.

An id is text that we gave away, and that anybody may give back changed. It is read once, at the
door, into numbers; what goes on from there compares them, and cannot fail.

    id        = place *("." place)      ; one for each feed of the stream, in the stream's order
    place     = [epoch "-" sequence]    ; empty where there was no event of that feed yet

The separators need no escape in a header, nor in a URL. The ids of a broker on Redis have this form
as they are: the milliseconds of its clock are the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

SEPARATOR = "."
MOST_DIGITS = 18  # of a sequence: more than there can be events


def place_id(epoch: str, sequence: int) -> str:
    """The id of the event number `sequence` of the channel with that epoch."""
    return f"{epoch}-{sequence}"


class Place(NamedTuple):
    """The event number `sequence` of the channel with that epoch."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return place_id(self.epoch, self.sequence) if self.epoch else ""

    def may_follow(self, other: Place) -> bool:
        """Whether an event here can have come after one there, as far as the ids say it: where the
        epochs are times, by the time; in one epoch, by the number."""
        if self.epoch == other.epoch:
            return self.sequence > other.sequence
        if _is_number(self.epoch) and _is_number(other.epoch):
            return int(self.epoch) > int(other.epoch)
        return True  # it may be another run of the program


# Of a feed of which there was no event yet.
UNSEEN = Place("", 0)


# The places in the order of the stream's feeds. Without any it is a position that no source knows.
Position: TypeAlias = tuple[Place, ...]

NOWHERE: Position = ()


def position_of(event_id: str) -> Position:
    """The position that an event's id stands for; NOWHERE for an id that is none of ours. Takes
    time linear in the id's length."""
    places = [_place(part) for part in event_id.split(SEPARATOR)]
    known = [place for place in places if place is not None]
    if len(known) < len(places) or all(place == UNSEEN for place in known):
        return NOWHERE
    return tuple(known)


def id_of(places: Iterable[Place]) -> str:
    """The id that stands for a position."""
    return SEPARATOR.join(map(str, places))


def _is_number(epoch: str) -> bool:
    return len(epoch) <= MOST_DIGITS and epoch.isascii() and epoch.isdigit()


def _place(text: str) -> Place | None:
    if not text:
        return UNSEEN
    epoch, _, digits = text.rpartition("-")
    if not epoch or len(digits) > MOST_DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return Place(epoch, int(digits))
