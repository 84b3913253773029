"""The checker of recorded histories. Pure: no sockets and no clock.

A feed's published events are a log: its order is the order in which clients must see them, and
the event after the one at index n is the one at n + 1. Nothing is computed from an id, so ids may
be EPOCH-NUMBER or anything else; where a publisher names the event before each, the log itself is
checked for being a chain.

A feed is state, and what a client may miss follows from that:

- Until it has seen a first event of a feed, and again after it came back without an id, a client
  may begin anywhere, but not before what it has seen.
- After an explicit reset, the next event of each feed may be any that is not older than the last.
- A client that is declared slow may skip events.
- An event that its format cannot carry (`carried=False`) may be left out.
- A repeat (an equal value under the next id) is an event like any other.

The id of an event on a stream of several feeds has a part for each feed, in the server's order: the
part of its own feed names it, and each other part names the event of that feed that came last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from tests.history import (
    Client,
    Connected,
    Disconnected,
    Entry,
    Fault,
    Kind,
    Published,
    Reset,
    Seen,
    Verdict,
)

PUBLISHER = "the publisher"  # who is named in the faults of the log itself


@dataclass(frozen=True)
class Bounds:
    """How late is too late, in seconds.

    silence: how long a connected client may see nothing at all.
    late: from when an event was published until it must have been seen.
    beats: for each feed that has a beat, how long a client may see no event of it.
    settle: after a client connected, how long events that are published may be left out.
    """

    silence: float = inf
    late: float = inf
    beats: Mapping[str, float] = field(default_factory=dict)
    settle: float = 0.0


def judge(
    published: Iterable[Published], clients: Iterable[Client], bounds: Bounds | None = None
) -> Verdict:
    """All faults of what the clients saw of what was published."""
    logs = _Logs(published)
    faults = list(logs.faults)
    for client in clients:
        faults += _Judge(logs, client, bounds or Bounds()).faults()
    return Verdict(tuple(faults))


class _Logs:
    """What was published: each feed's log, and where in it an id is."""

    def __init__(self, published: Iterable[Published]) -> None:
        self.of: dict[str, list[Published]] = {}
        self.values: dict[tuple[str, str], list[object]] = {}
        self.faults: list[Fault] = []
        self._index: dict[tuple[str, str], int] = {}
        for event in published:
            self._add(event)

    def index(self, feed: str, event_id: str) -> int | None:
        return self._index.get((feed, event_id))

    def carried(self, feed: str, first: int, end: int) -> list[int]:
        """Where in that range there are events that every client must see."""
        log = self.of.get(feed, [])
        return [index for index in range(first, end) if log[index].carried]

    def ids(self, feed: str, indexes: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.of[feed][index].id for index in indexes)

    def _add(self, event: Published) -> None:
        log = self.of.setdefault(event.feed, [])
        key = event.feed, event.id
        values = self.values.setdefault(key, [])
        if values:
            kind, what = Kind.AMBIGUOUS_ID, f"{event.id} names {values[0]!r} and {event.value!r}"
            if event.value in values:
                kind, what = Kind.DUPLICATE, f"{event.id} was published twice"
            self._fault(kind, event, event.id, what=what)
            values.append(event.value)
            return
        values.append(event.value)
        if event.after is not None and log and event.after != log[-1].id:
            what = f"{event.id} follows {event.after}, but {log[-1].id} was published before it"
            self._fault(Kind.GAP, event, event.after, event.id, what=what)
        self._index[key] = len(log)
        log.append(event)

    def _fault(self, kind: Kind, event: Published, *ids: str, what: str) -> None:
        self.faults.append(Fault(kind, PUBLISHER, event.feed, ids, what))


@dataclass
class _Place:
    """How far a client has come in a feed's log.

    last: the index of the newest event that it has; None: anywhere.
    floor: what comes may jump, but not to before this index.
    may_jump: once, and also to where it is.
    lost: it came back with an id that names nothing, and must be told.
    seen: the indexes it saw since it may last have jumped.
    missing: those it should have seen, and may still see too late.
    """

    last: int | None = None
    floor: int = 0
    may_jump: bool = True
    lost: bool = False
    seen: set[int] = field(default_factory=set)
    missing: dict[int, None] = field(default_factory=dict)

    def jump(self) -> None:
        self.floor = self.floor if self.last is None else max(self.floor, self.last)
        self.may_jump, self.lost = True, False
        self.seen = set()

    def go_on_from(self, index: int) -> None:
        self.last, self.may_jump, self.lost = index, False, False
        self.seen = set()


class _Judge:
    """Walks through what one client saw."""

    def __init__(self, logs: _Logs, client: Client, bounds: Bounds) -> None:
        self._logs = logs
        self._client = client
        self._bounds = bounds
        self._places = {feed: _Place() for feed in client.feeds}
        self._connected: float | None = None
        self._sign = 0.0  # when anything came last
        self._beats: dict[str, float] = {}  # when each feed's last event came
        self._faults: list[Fault] = []

    def faults(self) -> list[Fault]:
        at = 0.0
        for entry in self._client.entries:
            at = entry.at
            if not isinstance(entry, Connected):
                self._pass_time(at)
            self._enter(entry)
        if self._connected is not None:
            until = at if self._client.until is None else self._client.until
            self._pass_time(until)
            self._end(until)
        self._report_missing()
        return self._faults

    def _enter(self, entry: Entry) -> None:
        match entry:
            case Connected():
                self._connect(entry)
            case Seen():
                self._see(entry)
            case Reset():
                for place in self._places.values():
                    place.jump()
            case Disconnected(at, fault):
                self._end(at)
                if fault:
                    self._fault(Kind.BROKEN, "", what=fault)

    def _connect(self, entry: Connected) -> None:
        self._connected = self._sign = entry.at
        self._beats = dict.fromkeys(self._client.feeds, entry.at)
        if entry.after is None:
            for place in self._places.values():
                place.jump()
            return
        indexes = {
            feed: self._logs.index(feed, self._client.part(entry.after, feed))
            for feed in self._places
        }
        for feed, place in self._places.items():
            if (index := indexes[feed]) is not None:
                place.go_on_from(index)
            elif any(other is not None for other in indexes.values()):
                self._places[feed] = _Place()  # of this one there had been nothing
            else:
                place.lost = True

    def _see(self, seen: Seen) -> None:
        if (place := self._places.get(seen.feed)) is None:
            what = f"{seen.id} is of a feed that was not asked for"
            self._fault(Kind.UNASKED, seen.feed, seen.id, what=what)
            return
        self._beats[seen.feed] = seen.at
        part = self._client.part(seen.id, seen.feed)
        index = self._logs.index(seen.feed, part)
        if index is None:
            what = f"{part} was never published"
            self._fault(Kind.UNPUBLISHED, seen.feed, seen.id, what=what)
            place.jump()  # whatever it was: the next event need not pay for it
            return
        if seen.value not in self._logs.values[seen.feed, part]:
            right = self._logs.of[seen.feed][index].value
            what = f"{part} is {_short(right)}, and came as {_short(seen.value)}"
            self._fault(Kind.WRONG_VALUE, seen.feed, seen.id, what=what)
        self._check_late(seen, index)
        self._advance(seen, place, index)
        self._check_other_parts(seen)

    def _advance(self, seen: Seen, place: _Place, index: int) -> None:
        feed = seen.feed
        if place.lost:
            what = f"it came back with an id that names nothing, and {seen.id} came with no reset"
            self._fault(Kind.GAP, feed, seen.id, what=what)
            place.jump()
        if index in place.seen:
            self._fault(Kind.DUPLICATE, feed, seen.id, what=f"{seen.id} came again")
        elif index in place.missing:
            del place.missing[index]
            newest = self._logs.of[feed][place.last or 0].id
            self._fault(Kind.DISORDER, feed, seen.id, what=f"{seen.id} came after {newest}")
        elif place.may_jump:
            self._begin(seen, place, index)
        elif place.last is not None and index <= place.last:
            newest = self._logs.of[feed][place.last].id
            again = index == place.last
            what = f"{seen.id} came {'again' if again else f'after {newest}'}"
            self._fault(Kind.DUPLICATE if again else Kind.DISORDER, feed, seen.id, what=what)
        elif place.last is not None and not self._client.slow:
            place.missing |= dict.fromkeys(self._logs.carried(feed, place.last + 1, index))
        place.seen.add(index)
        place.last = index if place.last is None else max(place.last, index)
        place.may_jump = False

    def _begin(self, seen: Seen, place: _Place, index: int) -> None:
        """The first event of a feed, or the first that may jump."""
        if index < place.floor:
            newest = self._logs.of[seen.feed][place.floor].id
            what = f"{seen.id} came after {newest}"
            self._fault(Kind.DISORDER, seen.feed, seen.id, what=what)
        elif place.last is None and not self._client.slow:
            since = (self._connected or 0) + self._bounds.settle
            for missed in self._logs.carried(seen.feed, 0, index):
                at = self._logs.of[seen.feed][missed].at
                if at is not None and at > since:
                    place.missing[missed] = None

    def _check_other_parts(self, seen: Seen) -> None:
        """What the id says of the other feeds: a client that comes back with it goes on there."""
        for feed in self._client.feeds if len(self._client.feeds) > 1 else ():
            place = self._places[feed]
            index = self._logs.index(feed, self._client.part(seen.id, feed))
            if feed == seen.feed or place.may_jump or place.last is None or index is None:
                continue
            if index < place.last:
                what = f"{seen.id} says less of {feed} than has come"
                self._fault(Kind.DISORDER, feed, seen.id, what=what)
            elif not self._client.slow:
                skipped = self._logs.carried(feed, place.last + 1, index + 1)
                if [one for one in skipped if one not in place.missing]:
                    ids = self._logs.ids(feed, skipped)
                    what = f"{seen.id} passes over {_list(ids)}"
                    self._fault(Kind.GAP, feed, *ids, what=what)

    # Time

    def _check_late(self, seen: Seen, index: int) -> None:
        published = self._logs.of[seen.feed][index].at
        if published is None or self._connected is None:
            return
        late = seen.at - max(published, self._connected)
        if late > self._bounds.late:
            what = f"{seen.id} came {late:.2f} s after it was published"
            self._fault(Kind.STALE, seen.feed, seen.id, what=what)

    def _pass_time(self, at: float) -> None:
        """Something came, or the end did: how long had nothing come?"""
        if self._connected is None:
            return
        if at - self._sign > self._bounds.silence:
            what = f"nothing came for {at - self._sign:.2f} s, from {self._sign:.2f} on"
            self._fault(Kind.STALE, "", what=what)
        self._sign = at
        for feed, last in self._beats.items():
            if at - last > self._bounds.beats.get(feed, inf):
                what = f"no event came for {at - last:.2f} s, from {last:.2f} on"
                self._fault(Kind.STALE, feed, what=what)
                self._beats[feed] = at

    def _end(self, at: float) -> None:
        """The end of a connection: has all come that should have?"""
        if self._connected is None:
            return
        since = self._connected + self._bounds.settle
        for feed, place in self._places.items():
            begin = 0 if place.last is None else place.last + 1
            for index in self._logs.carried(feed, begin, len(self._logs.of.get(feed, []))):
                event = self._logs.of[feed][index]
                if event.at is not None and since < event.at < at - self._bounds.late:
                    what = f"{event.id} did not come, {at - event.at:.2f} s after it was published"
                    self._fault(Kind.STALE, feed, event.id, what=what)
                    break
        self._connected = None

    def _report_missing(self) -> None:
        for feed, place in self._places.items():
            for run in _runs(place.missing):
                ids = self._logs.ids(feed, run)
                self._fault(Kind.GAP, feed, *ids, what=f"{_list(ids)} did not come")

    def _fault(self, kind: Kind, feed: str, *ids: str, what: str) -> None:
        self._faults.append(Fault(kind, self._client.name, feed, ids, what))


def _runs(indexes: Iterable[int]) -> Iterator[list[int]]:
    """Those that follow each other, together."""
    run: list[int] = []
    for index in sorted(indexes):
        if run and index != run[-1] + 1:
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _list(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]} ({len(ids)} events)"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
