"""An engine: what computes the values of all feeds, and delivers them, in one process.

It starts nothing when it is made. Its threads and descriptors are those of the process in which the
first stream is opened, and are not usable after a fork: `abandon` then gives the descriptors up.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from pushdemo.push.board import Board
from pushdemo.push.broker.cluster import Cluster
from pushdemo.push.broker.nodes import Nodes
from pushdemo.push.broker.protocol import Broker
from pushdemo.push.channel import Channel, Source
from pushdemo.push.combined import CombinedChannel, CombinedChannels
from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.compute.publisher import Publisher
from pushdemo.push.counting import Counts
from pushdemo.push.deliver import descriptors
from pushdemo.push.deliver.answer import Answer
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.continuation import Departing
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.event import Value
from pushdemo.push.failure import failure_of
from pushdemo.push.gate import Gate
from pushdemo.push.loop import Health
from pushdemo.push.places import Places
from pushdemo.push.published import Published
from pushdemo.push.relay import Relay
from pushdemo.push.settings import Settings
from pushdemo.push.snapshot import codec
from pushdemo.push.snapshot.state import VOCABULARY, EngineState, OfferState
from pushdemo.push.status import Report, Status, readable
from pushdemo.push.stream import Streams, TooManyStreams

log = logging.getLogger(__name__)


class UnknownFeed(LookupError):
    """A feed that is not declared. The message names those that are."""


class Engine:
    """See the module.

    channels: the feeds' channels by name, in the order of their declaration.
    status: what there is to say of it.
    combined: several of them as one.
    gate: what is published goes through it, and what is attached.
    counts: what it has computed and sent.
    framings: the streams' wire formats, by the names of pushdemo.wsgi.formats.
    streams: opens streams whose connections are handed to the broadcaster.

    broker: carries events between this process and others; None where there are no others. It is
        the engine's to close.
    """

    def __init__(
        self,
        settings: Settings,
        declarations: Iterable[Declaration],
        broker: Broker | None = None,
    ) -> None:
        descriptors.raise_limit()
        self.framings = settings.framings
        self.combined = CombinedChannels()
        self._heartbeat = settings.heartbeat
        self.gate = Gate()
        self.counts = Counts()
        self._broadcaster = Broadcaster(
            send_timeout=settings.send_timeout,
            heartbeat=settings.heartbeat,
            senders=settings.senders,
            drain=settings.drain,
            retry=settings.retry,
            gate=self.gate,
            counts=self.counts,
        )
        self._places = Places(settings.max_streams or most_streams())
        self.streams = Streams(self._broadcaster, self._places, settings.heartbeat, self.counts)
        self._threaded: Streams | None = None
        self._lock = threading.Lock()
        self._publisher = Publisher(self.gate, self.counts)
        self._cluster = None if broker is None else Cluster(broker, self.gate)
        self._channels: dict[str, Channel] = {}
        self._internal: dict[str, Channel] = {}
        self._declarations: dict[str, Declaration] = {}
        self._board: Board | None = None
        self.status = Status(
            self._channels,
            self._declarations,
            self.counts,
            facts=self._facts,
            others=self._others,
        )
        self._nodes = None if broker is None else Nodes(broker, self.status.process)
        self._relays: list[Relay] = []
        self._begun = False
        self._published = Published()
        for declaration in declarations:
            self.add(declaration)
        for declaration in self.status.declarations():
            self._add_internal(declaration)

    @property
    def channels(self) -> Mapping[str, Channel]:
        return self._channels

    @property
    def all_channels(self) -> Mapping[str, Channel]:
        """Those of the feeds, and then those that tell of them: see status.py."""
        return {**self._channels, **self._internal}

    def has_template(self, channel: Channel) -> bool:
        """Whether there is HTML of a feed's values."""
        declared = self._declarations.get(channel.name)
        return declared is not None and declared.template is not None

    @property
    def full(self) -> bool:
        """Whether no more streams can be opened."""
        return self._places.taken >= self._places.maximum

    @property
    def open_now(self) -> int:
        """How many streams and polls are open."""
        return self._places.taken

    def add(self, declaration: Declaration) -> None:
        """A feed more."""
        # A relay is each process's own: its events have their ids already.
        cluster = None if declaration.origin is not None else self._cluster
        has_ids = cluster is not None or declaration.origin is not None
        epoch = "" if has_ids else None
        channel = Channel(declaration.name, history=declaration.history, epoch=epoch)
        if cluster is not None:
            cluster.add(channel)
        if declaration.origin is not None:
            relay = Relay(declaration.origin, channel, self.gate)
            self._relays.append(relay)
            if self._begun:
                relay.begin()
        if (feed := declaration.feed()) is not None:
            self._publisher.add(feed, channel, cluster)
        self._declarations[declaration.name] = declaration
        self._channels[declaration.name] = channel

    def _add_internal(self, declaration: Declaration) -> None:
        """A feed of what this process is: no other one has a part in it."""
        channel = Channel(declaration.name, local=True)
        if (feed := declaration.feed()) is not None:
            self._publisher.add(feed, channel)
        self._internal[declaration.name] = channel

    def begin(self) -> None:
        """Hear of what other processes publish. More than once is no error."""
        self._begun = True
        if self._cluster is not None:
            self._cluster.begin()
            atexit.register(self._publisher.close)  # others may go on with its feeds at once
        if self._nodes is not None:
            self._nodes.begin()
        for relay in self._relays:
            relay.begin()

    def share_reports(self) -> None:
        """The server has several workers, each with an engine: tell each other how they are. More
        than once is no error."""
        with self._lock:
            if self._board is not None:
                return
            self._board = board = Board(self.status.report, os.getppid())
        try:
            board.begin()
        except OSError as error:
            log.warning("status and metrics are of one worker each: %s", error)
        else:
            atexit.register(board.close)

    def reports(self) -> list[Report]:
        """This process's, and those of the other workers of its server: see status.py."""
        if self._board is not None:
            with contextlib.suppress(OSError):  # of a full disk, for one: then each is alone
                return self._board.all()
        return [self.status.report()]

    def _others(self) -> Iterable[Report]:
        board, nodes, now = self._board, self._nodes, time.time()
        workers = [one for one in board.others() if not one.get("gone")] if board else []
        yield from (readable(one, now) for one in workers)
        known = {f"{one['node']} {one['pid']}" for one in workers}
        for one in nodes.others() if nodes is not None else ():
            if known.isdisjoint(row.get("process") for row in one.get("processes", ())):
                yield one

    def _facts(self) -> Report:
        broker = None
        if self._cluster is not None:
            broker = {"address": self._cluster.broker.address, "away": self._cluster.away}
        return {
            "streams": self._places.taken,
            "max_streams": self._places.maximum,
            "threads": {name: one._asdict() for name, one in self.health().items()},
            "broker": broker,
        }

    def publish(self, feed: str, value: Value, key: str | None = None) -> str:
        """Publish a value to the clients of this process, which is the only one; the event's id.

        key: see Published.

        Raises Gone where another process has taken over.
        """
        with self.gate:
            channel = self._channels[feed]
            return self._published.once(feed, key, lambda: channel.publish(value).id)

    def threaded(self, most: int) -> Streams:
        """Opens streams that hold a thread of the server each, at most so many at a time. The first
        call decides how many."""
        with self._lock:
            if self._threaded is None:
                places = Places(most, within=self._places)
                self._threaded = Streams(self._broadcaster, places, self._heartbeat, self.counts)
            return self._threaded

    def health(self) -> Mapping[str, Health]:
        """How the threads are that serve all feeds and all streams, by name."""
        health = {"publisher": self._publisher.health, "broadcaster": self._broadcaster.health}
        if self._cluster is not None:
            health["broker"] = self._cluster.health
        return health | {f"relay {one.name}": one.health for one in self._relays}

    def close(self) -> None:
        """End the streams, over `push.drain` seconds, and the threads. Otherwise they end with the
        process."""
        if self.open_now:
            log.info("%d streams end: this process stops", self.open_now)
        self._broadcaster.stop()
        self._publisher.close()
        self._hear_no_more()

    # To another process

    def hold(self) -> None:
        """Compute, publish and send nothing until `go_on`. Clients that come wait for that, and so
        does who publishes. Raises TimeoutError where something does not come to its end."""
        self.gate.shut()
        try:
            self._broadcaster.hold()
        except BaseException:
            self.gate.open()
            raise

    def go_on(self) -> None:
        """The end of `hold`, or of `restore`."""
        self._broadcaster.go_on()
        self.gate.open()
        self.begin()

    def snapshot(self) -> tuple[bytes, list[socket.socket]]:
        """While it is held: what another process needs to go on with all feeds and streams, and
        the clients' connections, which are still this engine's. Streams that hold a thread of the
        server are not among them."""
        departing = self._broadcaster.snapshot()
        sources = [
            self._source(state.feeds) for state in departing.audiences if len(state.feeds) > 1
        ]
        combined = {source for source in sources if isinstance(source, CombinedChannel)}
        state = EngineState(
            channels=tuple(channel.snapshot() for channel in self.all_channels.values()),
            combined=tuple(source.snapshot() for source in combined),
            beats=self._publisher.snapshot(),
            audiences=departing.audiences,
            published=self._published.snapshot(),
        )
        return codec.encode(state), departing.socks

    def restore(self, snapshot: bytes, socks: list[socket.socket]) -> None:
        """Before its first stream: go on with another engine's, from `go_on` on. Feeds that are not
        declared here are left out, with their streams.

        Raises ValueError for what is no snapshot of an engine.
        """
        state = VOCABULARY.decode(EngineState, snapshot)
        self.gate.shut()
        try:
            # The subscribers first: what a feed's first subscriber would begin, has begun.
            departing = Departing(state.audiences, socks)
            members = self._broadcaster.restore(departing, self._source, self._places.leave)
            self._places.occupy(members)
            for channel in state.channels:
                if channel.name in self.all_channels:
                    self.all_channels[channel.name].restore(channel)
            for combined in state.combined:
                source = self._source(combined.feeds)
                if isinstance(source, CombinedChannel):
                    source.restore(combined)
            self._publisher.restore(state.beats)
            self._published.restore(state.published)
        except BaseException:
            self.gate.open()
            raise

    def leave(self, offer: Callable[[bytes, socket.socket], None]) -> None:
        """While it is held: its feeds and streams are another process's now.

        offer: gives that process a client that comes from now on, as `adopt` takes it.
        """

        def forward(sock: socket.socket, answer: Answer, subscription: Subscription) -> None:
            feeds = tuple(subscription.source.name.split("+"))
            state = OfferState(
                feeds,
                subscription.framing,
                answer,
                subscription.limit,
                subscription.resume_from,
                subscription.reached,
                subscription.known,
            )
            try:
                offer(codec.encode(state), sock)
            except Exception as error:
                log.error("a client that came late has no stream: %s", failure_of(error))

        self.gate.leave()
        self._broadcaster.leave(forward)
        self._publisher.close(give_back=False)
        self._hear_no_more()

    def adopt(self, offered: bytes, sock: socket.socket) -> None:
        """Serve a client that another engine could not any more. The connection belongs to the
        broadcaster then.

        Raises ValueError for what is no offer, UnknownFeed, TooManyStreams, and OSError.
        """
        state = VOCABULARY.decode(OfferState, offered)
        source = self._source(state.feeds)
        if source is None:
            raise UnknownFeed(f"there is no feed {'+'.join(state.feeds)}")
        if not self._places.take():
            raise TooManyStreams
        try:
            subscription = Subscription(
                source,
                state.framing,
                state.limit,
                state.resume_from,
                state.reached,
                state.known,
            )
            self._broadcaster.attach([sock], state.answer, subscription, self._places.leave)
        except BaseException:
            self._places.leave()
            raise

    def _hear_no_more(self) -> None:
        atexit.unregister(self._publisher.close)
        if self._board is not None:
            atexit.unregister(self._board.close)
            self._board.close()
        if self._nodes is not None:
            self._nodes.close()
        for relay in self._relays:
            relay.close()
        if self._cluster is not None:
            self._cluster.close()

    def _source(self, feeds: tuple[str, ...]) -> Source | None:
        """That of streams of these feeds; None where one of them is not declared."""
        known = self.all_channels
        channels = [known[name] for name in feeds if name in known]
        if not channels or len(channels) != len(feeds):
            return None
        return self.combined.source(channels)

    def abandon(self) -> None:
        """In a process that was forked from the engine's: close this process's copies of the
        clients' connections. They would stay open for as long as it lives otherwise."""
        atexit.unregister(self._publisher.close)
        if self._board is not None:
            atexit.unregister(self._board.close)
        self._broadcaster.abandon()


def most_streams() -> int:
    """As many streams as there are descriptors for."""
    return max(1, descriptors.limit() - 2 * descriptors.RESERVE)
