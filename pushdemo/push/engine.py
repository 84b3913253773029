"""An engine: what computes the values of all feeds, and delivers them, in one process.

It starts nothing when it is made. Its threads and descriptors are those of the process in which the
first stream is opened, and are not usable after a fork: `abandon` then gives the descriptors up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from pushdemo.push.channel import Channel
from pushdemo.push.combined import CombinedChannels
from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.compute.publisher import Publisher
from pushdemo.push.deliver import descriptors
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.loop import Health
from pushdemo.push.places import Places
from pushdemo.push.settings import Settings
from pushdemo.push.stream import Streams


class UnknownFeed(LookupError):
    """A feed that is not declared. The message names those that are."""


class Engine:
    """See the module.

    channels: the feeds' channels by name, in the order of their declaration.
    combined: several of them as one.
    framings: the streams' wire formats, by the names of pushdemo.wsgi.formats.
    streams: opens streams whose connections are handed to the broadcaster.
    """

    def __init__(self, settings: Settings, declarations: Iterable[Declaration]) -> None:
        descriptors.raise_limit()
        self.framings = settings.framings
        self.combined = CombinedChannels()
        self._heartbeat = settings.heartbeat
        self._broadcaster = Broadcaster(
            send_timeout=settings.send_timeout, heartbeat=settings.heartbeat
        )
        self._places = Places(settings.max_streams or most_streams())
        self.streams = Streams(self._broadcaster, self._places, settings.heartbeat)
        self._threaded: Streams | None = None
        self._lock = threading.Lock()
        self._publisher = Publisher()
        self._channels: dict[str, Channel] = {}
        for declaration in declarations:
            self.add(declaration)

    @property
    def channels(self) -> Mapping[str, Channel]:
        return self._channels

    @property
    def open_now(self) -> int:
        """How many streams and polls are open."""
        return self._places.taken

    def add(self, declaration: Declaration) -> None:
        """A feed more."""
        channel = Channel(
            declaration.name, history=declaration.history, on_watched=self._publisher.wake
        )
        if (feed := declaration.feed()) is not None:
            self._publisher.add(feed, channel)
        self._channels[declaration.name] = channel

    def threaded(self, most: int) -> Streams:
        """Opens streams that hold a thread of the server each, at most so many at a time. The first
        call decides how many."""
        with self._lock:
            if self._threaded is None:
                places = Places(most, within=self._places)
                self._threaded = Streams(self._broadcaster, places, self._heartbeat)
            return self._threaded

    def health(self) -> Mapping[str, Health]:
        """How the threads are that serve all feeds and all streams, by name."""
        return {"publisher": self._publisher.health, "broadcaster": self._broadcaster.health}

    def close(self) -> None:
        """End the threads and the streams, which otherwise end with the process."""
        self._publisher.close()
        self._broadcaster.close()

    def abandon(self) -> None:
        """In a process that was forked from the engine's: close this process's copies of the
        clients' connections. They would stay open for as long as it lives otherwise."""
        self._broadcaster.abandon()


def most_streams() -> int:
    """As many streams as there are descriptors for."""
    return max(1, descriptors.limit() - 2 * descriptors.RESERVE)
