"""Histories: what was published, what each client saw, and what is wrong with that.

Three modules, each of one thing: these are the words; tests/recording.py records what clients see,
from bytes; tests/judging.py judges it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

SEPARATOR = "."  # between the parts of an id
MOST_UNSEEN = 1000  # events in a row that nobody saw: a wrong number may be of any size


class Kind(Enum):
    """What can be wrong."""

    GAP = "gap"
    DUPLICATE = "duplicate"
    DISORDER = "disorder"
    STALE = "stale"
    WRONG_VALUE = "wrong value"
    UNPUBLISHED = "never published"
    AMBIGUOUS_ID = "id names two values"
    UNASKED = "feed not asked for"
    BROKEN = "broken stream"


@dataclass(frozen=True)
class Published:
    """An event, as its publisher knows it.

    value: anything that equals what clients see of it.
    at: when it was published, in seconds of the clients' clock; None: not known, nor judged by.
    after: the id of the event before it; None: the publisher does not say.
    carried: whether every client must see it.
    """

    feed: str
    id: str
    value: object
    at: float | None = None
    after: str | None = None
    carried: bool = True


@dataclass(frozen=True)
class Connected:
    """The head of a stream came. after: the Last-Event-ID that was sent."""

    at: float
    after: str | None = None


@dataclass(frozen=True)
class Seen:
    """An event came. id: all of it, as it came."""

    at: float
    feed: str
    id: str
    value: object


@dataclass(frozen=True)
class Reset:
    """The server said that events may be missing."""

    at: float


@dataclass(frozen=True)
class Notice:
    """The server said that a feed fails, or works again."""

    at: float
    name: str
    feed: str


@dataclass(frozen=True)
class Heartbeat:
    """Something came that says nothing."""

    at: float


@dataclass(frozen=True)
class Disconnected:
    """The stream ended. fault: why it should not have; empty where the client ended it."""

    at: float
    fault: str = ""


Entry = Connected | Seen | Reset | Notice | Heartbeat | Disconnected


@dataclass
class Client:
    """What one client saw, in the order in which it saw it.

    feeds: those it asked for, in the server's order.
    slow: it may skip events.
    until: how long it was watched, in seconds of its clock; None: until its last entry.
    """

    name: str
    feeds: Sequence[str]
    entries: list[Entry] = field(default_factory=list)
    slow: bool = False
    until: float | None = None

    @property
    def seen(self) -> list[Seen]:
        """Its events."""
        return [entry for entry in self.entries if isinstance(entry, Seen)]

    @property
    def resets(self) -> int:
        """How often it was told that events may be missing."""
        return sum(isinstance(entry, Reset) for entry in self.entries)

    def last(self, feed: str) -> Seen | None:
        """The event of a feed that it saw last."""
        return next((seen for seen in reversed(self.seen) if seen.feed == feed), None)

    def part(self, event_id: str, feed: str) -> str:
        """The part of an id that is of one feed."""
        if len(self.feeds) < 2 or feed not in self.feeds:
            return event_id
        parts = event_id.split(SEPARATOR)
        return parts[self.feeds.index(feed)] if len(parts) == len(self.feeds) else event_id


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. events: the ids it is about."""

    kind: Kind
    client: str
    feed: str
    events: tuple[str, ...]
    explanation: str

    def __str__(self) -> str:
        return f"{self.client}, {self.feed or 'stream'}: {self.kind.value}: {self.explanation}"


@dataclass(frozen=True)
class Verdict:
    """All that is wrong with a history; false if anything is."""

    faults: tuple[Fault, ...] = ()

    def __bool__(self) -> bool:
        return not self.faults

    @property
    def kinds(self) -> set[Kind]:
        """What kinds of faults there are."""
        return {fault.kind for fault in self.faults}

    def __str__(self) -> str:
        if not self.faults:
            return "no fault"
        counts = Counter(fault.kind.value for fault in self.faults)
        summary = ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())
        shown = [f"  {fault}" for fault in self.faults[:20]]
        if (more := len(self.faults) - len(shown)) > 0:
            shown.append(f"  and {more} more")
        return "\n".join((summary, *shown))


def witnessed(
    clients: Sequence[Client], *, timed: bool = False, nobody_saw: bool = True
) -> list[Published]:
    """What must have been published, by what all clients together saw, where nobody else says it.
    Of ids of the form EPOCH-NUMBER: so an event that nobody saw is known, too.

    timed: each event was published when the first client saw it. Otherwise times are not judged.
    nobody_saw: an event that nobody saw should have been seen.
    """
    found: dict[str, dict[str, dict[int, list[Published]]]] = {}
    witnesses = ((seen, client) for client in clients for seen in client.seen)
    for seen, witness in sorted(witnesses, key=lambda pair: pair[0].at):
        part = witness.part(seen.id, seen.feed)
        epoch, _, number = part.rpartition("-")
        if not (number.isascii() and number.isdigit()):
            continue  # no such id can have been published
        events = found.setdefault(seen.feed, {}).setdefault(epoch, {}).setdefault(int(number), [])
        if all(event.value != seen.value for event in events):
            events.append(Published(seen.feed, part, seen.value, seen.at if timed else None))
    published: list[Published] = []
    for feed, epochs in found.items():
        for epoch, numbers in epochs.items():
            before: int | None = None
            for known in sorted(numbers):
                first = known if before is None else max(before + 1, known - MOST_UNSEEN)
                published += [
                    Published(feed, f"{epoch}-{unseen}", None, carried=nobody_saw)
                    for unseen in range(first, known)
                ]
                published += numbers[known]
                before = known
    return published
