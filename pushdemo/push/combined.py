"""A combined channel: several channels as one, with their events in the order of their arrival.

Its events have sequence numbers of its own, which only its subscribers see. An event's id contains
one place for each channel, in the order of the channels: the last event of that channel so far. So
an id stays valid while the combined channel has no subscribers, and receives no events, and it is
valid for another combined channel of the same channels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from weakref import WeakValueDictionary

from pushdemo.push.channel import AHEAD, Channel, Listener, Listeners, Missed, Source
from pushdemo.push.event import Encoder, Event, FeedStatus
from pushdemo.push.position import UNSEEN, Place, Position, id_of, position_of
from pushdemo.push.snapshot.state import CombinedState, EventState, PartState


class _Part:
    """One of the channels, and those of its events that the combined channel has taken.

    reached: the last of them, by the number that it has in its own channel.
    place: where who has seen that one is.
    events: the last few of them: the number in its own channel, and the event as it is sent.
    """

    def __init__(self, channel: Channel, listener: Listener) -> None:
        self.channel = channel
        self.listener = listener
        self.reached = 0
        self.place = UNSEEN
        self.events: deque[tuple[int, Event]] = deque(maxlen=channel.history)


class CombinedChannel:
    """See the module. Every method may be called from any thread."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.name = "+".join(channel.name for channel in channels)
        self.reached = 0
        self._broke_at = 0  # the number of the last event that broke the chain of its channel
        self._parts = [_Part(channel, partial(self._hear, n)) for n, channel in enumerate(channels)]
        self._lock = threading.Lock()
        self._listeners = Listeners()

    def state(self) -> list[Event]:
        with self._lock:
            newest = [part.events[-1][1] for part in self._parts if part.events]
        return sorted(newest, key=lambda event: event.sequence)

    def since(self, sequence: int) -> list[Event]:
        with self._lock:
            events = [event for part in self._parts for _, event in part.events]
        later = [event for event in events if event.sequence > sequence]
        return sorted(later, key=lambda event: event.sequence)

    def breaks_after(self, sequence: int) -> bool:
        return self._broke_at > sequence

    def resume(self, position: Position, reached: int | None = None) -> Missed:
        places = self._in_order(position)
        if len(places) != len(self._parts):
            return None
        missed: list[tuple[int, Event, Event | None]] = []
        is_ahead = False
        with self._lock:
            for number, (part, place) in enumerate(zip(self._parts, tuple(places), strict=True)):
                events = part.channel.follow(place, part.reached)
                unseen = place == UNSEEN and not part.channel.epoch
                if events is None and (unseen or part.channel.local):
                    # To this part it is a newcomer.
                    events = part.channel.state()
                if events is None:
                    return None
                own_events = dict(part.events)
                seen = own_events.get(part.channel.number_of(place))
                if seen is not None and reached is not None and seen.sequence > reached:
                    is_ahead = True
                if events is AHEAD:
                    is_ahead = True
                    continue
                # What has come in this moment is still to be heard, and told of.
                missed += [
                    (number, event, own_events.get(event.sequence))
                    for event in events
                    if event.sequence <= part.reached
                ]
        if is_ahead:
            return AHEAD
        missed.sort(key=lambda entry: (entry[2].sequence if entry[2] else 0, entry[1].sequence))
        resumed = []
        for number, event, own in missed:
            places[number] = _place_of(event)
            own_id = id_of(places)
            if own is None or own.id != own_id:
                # The event is from before there were subscribers, or from `_start`, whose order of
                # the events may differ from the order in which this client received some of them.
                # It is given its id now, and no number, because it is old.
                own = Event(0, own_id, event.feed, event.value)
            resumed.append(own)
        return resumed

    def _in_order(self, position: Position) -> list[Place]:
        """The places in the order of the parts. Where each feed has its own epoch, the feeds may
        have been declared in another order when the id was given away."""
        place_of = {place.epoch: place for place in position}
        epochs = [part.channel.epoch for part in self._parts]
        if all(epochs) and len(position) == len(epochs) and place_of.keys() == set(epochs):
            return [place_of[epoch] for epoch in epochs]
        return list(position)

    def statuses(self) -> list[FeedStatus]:
        return [status for part in self._parts for status in part.channel.statuses()]

    def subscribe(self, listener: Listener, encoder: Encoder | None = None) -> None:
        with self._lock:
            first = not self._listeners
            self._listeners = self._listeners.with_(listener, encoder)
            if first:
                self._start()

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners = self._listeners.without(listener)
                if not self._listeners:
                    self._stop()

    def snapshot(self) -> CombinedState:
        """What another process needs to go on with it."""
        with self._lock:
            parts = [
                PartState(
                    part.reached,
                    part.place,
                    tuple((number, EventState.of(event)) for number, event in part.events),
                )
                for part in self._parts
            ]
            feeds = tuple(part.channel.name for part in self._parts)
            return CombinedState(feeds, self.reached, self._broke_at, tuple(parts))

    def restore(self, state: CombinedState) -> None:
        """Go on with another process's, of the same channels. Its subscribers are there already."""
        with self._lock:
            self.reached = state.reached
            self._broke_at = state.broke_at
            for part, its in zip(self._parts, state.parts, strict=True):
                part.reached = its.reached
                part.place = its.place
                part.events.extend((number, event.event()) for number, event in its.events)

    # With the lock. A channel tells its listeners while it holds none of its own, so that asking
    # it here cannot end in two threads waiting for each other.

    def _start(self) -> None:
        states = []
        for part in self._parts:
            part.channel.subscribe(part.listener)
            seen, state = part.channel.last, part.channel.state()
            if state:
                part.reached = state[0].sequence - 1
                part.place = (position_of(state[0].after) or (UNSEEN,))[0]
            else:
                part.reached = 0 if seen is None else seen.sequence
                part.place = part.channel.place if seen is None else _place_of(seen)
            states.append(state)
        for number, state in enumerate(states):
            self._take(number, state)

    def _stop(self) -> None:
        for part in self._parts:
            part.channel.unsubscribe(part.listener)
            part.events.clear()

    def _take(self, number: int, events: list[Event]) -> list[Event]:
        """Take a channel's events, and return them with ids and numbers of the combined channel."""
        part = self._parts[number]
        taken = []
        for event in events:
            part.reached, part.place = event.sequence, _place_of(event)
            self.reached += 1
            if event.breaks:
                self._broke_at = self.reached
            own = Event(
                self.reached,
                id_of(part.place for part in self._parts),
                event.feed,
                event.value,
                breaks=event.breaks,
            )
            part.events.append((event.sequence, own))
            taken.append(own)
        return taken

    def _hear(self, number: int) -> None:
        """A channel's listener, in the publisher's thread."""
        part = self._parts[number]
        with self._lock:
            taken = self._take(number, part.channel.since(part.reached))
            listeners = self._listeners
        for event in taken:
            listeners.prepare(event)
        listeners.tell()  # also when no event was taken: then there is a new status


def _place_of(event: Event) -> Place:
    """That of an event of one channel."""
    return (position_of(event.id) or (UNSEEN,))[0]


class CombinedChannels:
    """The combined channels in use: one for all streams of the same channels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Weak references: clients choose the combinations, and each lives as long as its streams.
        self._combined: WeakValueDictionary[tuple[Channel, ...], CombinedChannel] = (
            WeakValueDictionary()
        )

    def source(self, channels: Sequence[Channel]) -> Source:
        """The source for a stream of these channels, of which there is at least one."""
        if len(channels) == 1:
            return channels[0]
        key = tuple(channels)
        with self._lock:
            combined = self._combined.get(key)
            if combined is None:
                combined = self._combined[key] = CombinedChannel(channels)
            return combined
