"""A broker and the channels of one process: what is heard becomes events.

It starts nothing when it is made. A process hears of all feeds from `begin` on, whether they are
watched there or not, so that a newcomer has a value at once.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from pushdemo.push.broker.body import (
    OtherVersion,
    Sent,
    Status,
    Unreadable,
    decode_sent,
    decode_status,
    encode_sent,
)
from pushdemo.push.broker.leading import Elected, Task, entries_to_keep
from pushdemo.push.broker.line import Line
from pushdemo.push.broker.protocol import (
    Broker,
    BrokerUnavailable,
    Entry,
    Notice,
)
from pushdemo.push.channel import Channel
from pushdemo.push.compute.feed import SECOND
from pushdemo.push.event import Value
from pushdemo.push.gate import Gate, Gone
from pushdemo.push.loop import Health

log = logging.getLogger(__name__)

# Seconds for which a value that is published is sent again, when the engine does not answer, and
# for which the engine knows it, so that this is done once.
PATIENCE = 5.0
MEMORY = 60.0
KEY_MEMORY = 24 * 3600.0  # for who names it, and may come again by himself
PAUSE = 0.1


class Cluster:
    """See the module.

    gate: what is heard goes through it.
    """

    def __init__(self, broker: Broker, gate: Gate) -> None:
        self.broker = broker
        self.line = Line(broker.address, self._tell_change)
        self._gate = gate
        self._lock = threading.Lock()
        self._channels: dict[str, Channel] = {}
        self._leaders: dict[str, Elected] = {}
        self._intervals: dict[str, float] = {}
        self._followed: set[str] = set()
        self._begun = False
        self._complained: set[str] = set()

    @property
    def away(self) -> str:
        """Why the engine is away; empty where it is not."""
        return self.line.failing

    @property
    def health(self) -> Health:
        """How the thread is that hears. While the engine is away it is alive, and says why in
        `last_error`."""
        health = self.broker.health
        return health._replace(last_error=self.away) if self.away else health

    def add(self, channel: Channel) -> None:
        """A feed."""
        with self._lock:
            self._channels = {**self._channels, channel.name: channel}
            begun = self._begun
        if begun:
            self._follow([channel])

    def leader(
        self, channel: Channel, interval: int, call: Task, execute: Callable[[Task], None]
    ) -> Elected:
        """Who decides whether this process computes a feed, that was added.

        interval: in nanoseconds.
        """
        leader = Elected(channel, interval, self.broker, self.line, call=call, execute=execute)
        self._intervals[channel.name] = interval / SECOND
        self._leaders[channel.name] = leader
        return leader

    def begin(self) -> None:
        """Hear of all feeds, from their newest events on."""
        with self._lock:
            self._begun = True
            channels = list(self._channels.values())
        self._follow(channels)

    def _follow(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            with self._lock:
                known = channel.name in self._followed
                self._followed.add(channel.name)
            if not known:
                self.broker.follow(channel.name, self, str(channel.place))

    def close(self) -> None:
        self.broker.close()

    def _tell_change(self, away: bool) -> None:
        """What there is, is all that can be shown while the engine is away. Any thread."""
        for channel in list(self._channels.values()):
            with suppress(Gone), self._gate:
                channel.show_old(away)

    # What is heard, in the broker's thread

    def hear(self, said: Entry | Notice) -> None:
        channel = self._channels[said.feed]
        try:
            with self._gate:
                if isinstance(said, Entry):
                    self._take(channel, said)
                else:
                    self._apply(channel, decode_status(said.body, self.broker.clock))
        except Gone:
            return
        except OtherVersion as error:
            self._complain(said.feed, f"what another release has published is left out: {error}")
        except Unreadable as error:
            self._complain(said.feed, f"what came from the broker is left out: {error}")
        finally:
            leader = self._leaders.get(said.feed)
            if leader is not None and said.beat:
                leader.hear(said.beat)

    def caught_up(self) -> None:
        self.line.works("follow")
        for leader in self._leaders.values():
            leader.catch_up()

    def cut_off(self, why: str) -> None:
        self.line.fails("follow", why)

    def _take(self, channel: Channel, entry: Entry) -> None:
        sent = decode_sent(entry.body, self.broker.clock)
        if sent.status is not None:
            self._apply(channel, sent.status)
        channel.take(entry.id, entry.after, sent.value)
        self.line.works(f"publish {channel.name}")  # whoever it was
        own = self._intervals.get(channel.name)
        if own is not None and sent.interval is not None and abs(own - sent.interval) > 1e-6:
            self._complain(
                channel.name,
                f"its interval is {own:g} s here and {sent.interval:g} s in another process:"
                " each uses its own while it computes",
            )

    @staticmethod
    def _apply(channel: Channel, status: Status) -> None:
        if status.failing_since is not None:
            channel.fail(status.failing_since, status.retry_at)
            return
        if channel.failing:
            channel.recover()
        if status.fresh_until:
            channel.renew(status.fresh_until)

    def _complain(self, feed: str, what: str) -> None:
        if feed not in self._complained:
            self._complained.add(feed)
            log.warning("feed %s: %s", feed, what)


def publish_value(
    broker: Broker, feed: str, value: Value, history: int, key: str | None = None
) -> str:
    """Publish a value to all processes; the event's id. It waits for an engine that is away, for
    PATIENCE.

    key: names this value: published again with the same, in whatever process and within a day, it
        is one event.

    Raises BrokerUnavailable, and Misconfigured.
    """
    once = f"k{key}" if key is not None else f"r{secrets.token_hex(12)}"
    remember = MEMORY if key is None else KEY_MEMORY
    body = encode_sent(Sent(value), broker.clock)
    keep = entries_to_keep(history, len(body))
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return broker.publish(feed, body, once=once, keep=keep, remember=remember)
        except BrokerUnavailable:
            if time.monotonic() >= until:
                raise
        time.sleep(PAUSE)
