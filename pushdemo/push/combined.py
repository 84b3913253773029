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

from pushdemo.push.channel import Channel, Listener, Listeners, Source
from pushdemo.push.event import Encoder, Event, FeedStatus
from pushdemo.push.position import Place, Position, id_of
from pushdemo.push.snapshot.state import CombinedState, EventState, PartState


class _Part:
    """One of the channels, and those of its events that the combined channel has taken.

    reached: the last of them, by the number that it has in its own channel.
    events: the last few of them: the number in its own channel, and the event as it is sent.
    """

    def __init__(self, channel: Channel, listener: Listener) -> None:
        self.channel = channel
        self.listener = listener
        self.reached = 0
        self.events: deque[tuple[int, Event]] = deque(maxlen=channel.history)


class CombinedChannel:
    """See the module. Every method may be called from any thread."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.name = "+".join(channel.name for channel in channels)
        self.reached = 0
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

    def resume(self, position: Position) -> list[Event] | None:
        # By epoch: the feeds may have been declared in another order when the id was given away.
        place_of = {place.epoch: place for place in position}
        if len(position) != len(place_of) or place_of.keys() != {
            part.channel.epoch for part in self._parts
        }:
            return None
        places = [place_of[part.channel.epoch] for part in self._parts]
        missed: list[tuple[int, Event, Event | None]] = []
        with self._lock:
            for number, (part, place) in enumerate(zip(self._parts, tuple(places), strict=True)):
                events = part.channel.resume((place,))
                if events is None:
                    return None
                own_events = dict(part.events)
                # What has come in this moment is still to be heard, and told of.
                missed += [
                    (number, event, own_events.get(event.sequence))
                    for event in events
                    if event.sequence <= part.reached
                ]
        missed.sort(key=lambda entry: (entry[2].sequence if entry[2] else 0, entry[1].sequence))
        resumed = []
        for number, event, own in missed:
            places[number] = places[number]._replace(sequence=event.sequence)
            own_id = id_of(places)
            if own is None or own.id != own_id:
                # The event is from before there were subscribers, or from `_start`, whose order of
                # the events may differ from the order in which this client received some of them.
                # It is given its id now, and no number, because it is old.
                own = Event(0, own_id, event.feed, event.value)
            resumed.append(own)
        return resumed

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
                    tuple((number, EventState.of(event)) for number, event in part.events),
                )
                for part in self._parts
            ]
            feeds = tuple(part.channel.name for part in self._parts)
            return CombinedState(feeds, self.reached, tuple(parts))

    def restore(self, state: CombinedState) -> None:
        """Go on with another process's, of the same channels. Its subscribers are there already."""
        with self._lock:
            self.reached = state.reached
            for part, its in zip(self._parts, state.parts, strict=True):
                part.reached = its.reached
                part.events.extend((number, event.event()) for number, event in its.events)

    # With the lock. A channel tells its listeners while it holds none of its own, so that asking
    # it here cannot end in two threads waiting for each other.

    def _start(self) -> None:
        states = []
        for part in self._parts:
            part.channel.subscribe(part.listener)
            reached, state = part.channel.reached, part.channel.state()
            part.reached = state[0].sequence - 1 if state else reached
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
            part.reached = event.sequence
            self.reached += 1
            places = (Place(part.channel.epoch, part.reached) for part in self._parts)
            own = Event(self.reached, id_of(places), event.feed, event.value)
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
