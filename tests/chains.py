"""The checker of what clients saw of events that name the one before them. Pure: no sockets and no
clock.

An event follows what a client has seen if, and only if, it names the client's last event. So:

- Until it has seen a first event of a feed, and after a reset, a client may begin anywhere.
- Otherwise each event that it sees names the one that it saw before. If not, it was seen before (a
  duplicate), or is older (disorder), or something is missing (a gap).
- The values are counted: they grow, unless a reset announces that they may not.
- A reset is justified where something was lost, or where the client could not be told what it has
  missed: it was away for longer than the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from tests.history import Client, Connected, Entry, Heartbeat, Reset, Seen

AROUND = 14  # entries of a client that are shown with a fault


class Fault(Enum):
    DUPLICATE = "duplicate"
    DISORDER = "disorder"
    GAP = "gap"
    BACK = "a count that goes back"
    RESET = "a reset that nothing justifies"
    UNKNOWN = "an event that nobody has published"
    TWICE = "one beat published twice"


class Found(NamedTuple):
    """around: what the client saw before it, last, and the event itself."""

    fault: Fault
    client: str
    what: str
    around: tuple[Entry, ...] = ()


class Link(NamedTuple):
    """An event of the log. number: its value, which grows from event to event."""

    feed: str
    id: str
    after: str
    number: int


class Loss(NamedTuple):
    """From when to when events may have been lost, in seconds."""

    begin: float
    end: float


@dataclass
class _Place:
    """Where a client is in a feed.

    open: it may begin anywhere.
    before: its last event before a reset that is to be justified.
    """

    last: str = ""
    count: int = 0
    open: bool = True
    before: str = ""
    seen: set[str] = field(default_factory=set)


def check(
    links: Iterable[Link], clients: Iterable[Client], losses: Sequence[Loss], history: int
) -> list[Found]:
    """All faults.

    history: how many events a client may be away for, without a reset.
    """
    known = {(link.feed, link.id): link for link in links}
    return [found for client in clients for found in _Check(known, client, losses, history).run()]


class _Check:
    def __init__(
        self,
        known: dict[tuple[str, str], Link],
        client: Client,
        losses: Sequence[Loss],
        history: int,
    ) -> None:
        self._known = known
        self._client = client
        self._losses = losses
        self._history = history
        self._places = {feed: _Place() for feed in client.feeds}
        self._found: list[Found] = []
        self._seen_at = 0.0
        self._index = 0

    def run(self) -> list[Found]:
        pending: Reset | None = None
        for index, entry in enumerate(self._client.entries):
            self._index = index
            if isinstance(entry, Connected) and entry.after is None:
                for place in self._places.values():
                    place.open = True
            elif isinstance(entry, Reset):
                pending = entry
                for place in self._places.values():
                    place.open, place.before = True, place.last
                reset_after = self._seen_at
            elif isinstance(entry, Seen):
                if pending is not None:
                    self._justify(pending, reset_after, entry)
                    pending = None
                self._see(entry)
        return self._found

    def _see(self, seen: Seen) -> None:
        place = self._places[seen.feed]
        own_id = self._own_id(seen)
        link = self._known.get((seen.feed, own_id))
        self._seen_at = seen.at
        if link is None:
            self._fault(Fault.UNKNOWN, f"{seen.feed} {own_id}")
            place.open = True
        elif not place.open:
            if link.after != place.last:
                kind = Fault.GAP if link.number > place.count else Fault.DISORDER
                if own_id in place.seen:
                    kind = Fault.DUPLICATE
                self._fault(kind, f"{seen.feed} {own_id} (after {link.after}) after {place.last}")
            elif link.number < place.count:
                self._fault(Fault.BACK, f"{seen.feed} {own_id}: {link.number} after {place.count}")
        if link is not None:
            place.open, place.count = False, link.number
        place.last = own_id
        place.seen.add(own_id)

    def _own_id(self, seen: Seen) -> str:
        """The part of the id that is the event's own, where the stream is of several feeds."""
        if len(self._client.feeds) == 1:
            return seen.id
        parts = seen.id.split(".")
        return parts[list(self._client.feeds).index(seen.feed)]

    def _justify(self, reset: Reset, since: float, following: Seen) -> None:
        """The first event after a reset tells what the reset was for."""
        if any(loss.begin <= reset.at and loss.end >= since for loss in self._losses):
            return
        if len(self._client.feeds) > 1:  # it may have been another feed's
            others = [feed for feed in self._client.feeds if feed != following.feed]
            if any(self._places[feed].before for feed in others):
                return
        place = self._places[following.feed]
        if not place.before:
            return
        link, steps = self._known.get((following.feed, self._own_id(following))), 0
        while link is not None and steps < self._history:
            if link.after == place.before or link.id == place.before:
                self._fault(Fault.RESET, f"{following.feed}: {steps} events after {place.before}")
                return
            link, steps = self._known.get((following.feed, link.after)), steps + 1

    def _fault(self, fault: Fault, what: str) -> None:
        before = self._client.entries[max(0, self._index - AROUND) : self._index + 1]
        around = tuple(entry for entry in before if not isinstance(entry, Heartbeat))
        self._found.append(Found(fault, self._client.name, what, around))


def published_twice(links: Sequence[Link], beat_of: dict[tuple[str, int], int]) -> list[Found]:
    """Of links in their order, those that are for a beat for which there was another, in one chain.

    beat_of: by feed and count, the beat for which it was computed.
    """
    found = []
    beats: dict[str, dict[int, int]] = {}
    last: dict[str, str] = {}
    for link in links:
        if link.after != last.get(link.feed):
            beats[link.feed] = {}  # what came before was lost, and what is lost is computed again
        last[link.feed] = link.id
        beat = beat_of.get((link.feed, link.number))
        if beat is None:
            continue
        other = beats[link.feed].setdefault(beat, link.number)
        if other != link.number:
            what = f"{link.feed}: beat {beat} has {other} and {link.number}"
            found.append(Found(Fault.TWICE, "the log", what))
    return found
