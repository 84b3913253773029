"""A mix: several channels as one, their events in the order in which they came.

Its events have numbers of its own, which only its subscribers see. An event's id is made of the
ids that the channels had reached, one each, in the mix's order: so it stays good while the mix has
no subscribers, and hears nothing, and for another mix of the same channels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from weakref import WeakValueDictionary

from pushdemo.push.channel import Channel, Listener, Listeners, Source
from pushdemo.push.event import Encoder, Event, Trouble
from pushdemo.push.position import Place, Position, id_of


class _Part:
    """One channel of a mix, and which of its events the mix has made its own.

    reached: the channel's number of the last.
    events: the last few, each with the channel's number and as the mix sends it.
    """

    def __init__(self, channel: Channel, listener: Listener) -> None:
        self.channel = channel
        self.listener = listener
        self.reached = 0
        self.events: deque[tuple[int, Event]] = deque(maxlen=channel.history)


class Mix:
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
        if len(position) != len(self._parts):
            return None
        places = list(position)
        missed: list[tuple[int, Event, Event | None]] = []
        with self._lock:
            for number, (part, place) in enumerate(zip(self._parts, position, strict=True)):
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
                # From before the mix had subscribers, or from its start, which puts what there is
                # in an order that need not be the one in which this client has seen some of it.
                # It gets its id now, and no number: it is old.
                own = Event(0, own_id, event.feed, event.value)
            resumed.append(own)
        return resumed

    def troubles(self) -> list[Trouble]:
        return [trouble for part in self._parts for trouble in part.channel.troubles()]

    def subscribe(self, listener: Listener, encoder: Encoder | None = None) -> None:
        with self._lock:
            first = not self._listeners
            self._listeners[listener] = encoder
            if first:
                self._start()

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                del self._listeners[listener]
                if not self._listeners:
                    self._stop()

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
        """Make a channel's events the mix's own."""
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
            listeners = Listeners(self._listeners)
        for event in taken:
            listeners.prepare(event)
        listeners.tell()  # though nothing was taken: then it is of a trouble


class Mixes:
    """The mixes in use: one for all streams of the same channels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Weak, so that a mix lives as long as its streams, whatever combinations are asked for.
        self._mixes: WeakValueDictionary[tuple[Channel, ...], Mix] = WeakValueDictionary()

    def source(self, channels: Sequence[Channel]) -> Source:
        """What streams of these channels, at least one, are streams of."""
        if len(channels) == 1:
            return channels[0]
        key = tuple(channels)
        with self._lock:
            mix = self._mixes.get(key)
            if mix is None:
                mix = self._mixes[key] = Mix(channels)
            return mix
