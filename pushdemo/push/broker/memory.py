"""A broker in memory: for the processes of one machine that are one process.

It is what the contract means, in the fewest lines, and what tests of several nodes use that need no
engine. An application with a single process needs no broker at all: it numbers its events itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.broker.protocol import Entry, Fenced, Follower, Lease, Notice, hear
from pushdemo.push.compute.feed import SECOND
from pushdemo.push.loop import Health


@dataclass
class _Feed:
    entries: deque[Entry] = field(default_factory=deque)
    notice: Notice | None = None
    tip: str = ""
    beat: int = 0
    last_once: tuple[str, str] = ("", "")
    known: dict[str, tuple[int, str]] = field(default_factory=dict)
    holder: str = ""
    until: int = 0
    followers: list[Follower] = field(default_factory=list)


class MemoryBroker:
    """See the module. clock: nanoseconds."""

    address = "memory"
    health = Health(True, 0, 0, "")

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock = EngineClock(clock)
        self.clock.offset = 0
        self._lock = threading.RLock()  # held while followers hear: so all hear in one order
        self._feeds: dict[str, _Feed] = {}
        self._sequence = 0

    def check(self) -> None:
        """There is nothing that could be wrong."""

    def follow(self, feed: str, follower: Follower, after: str = "") -> None:
        with self._lock:
            its = self._feed(feed)
            entries = list(its.entries)
            ids = [entry.id for entry in entries]
            if after in ids:
                entries = entries[ids.index(after) + 1 :]
            for entry in entries:
                hear(follower, entry)
            if its.notice is not None:
                hear(follower, its.notice)
            its.followers.append(follower)
            follower.caught_up()

    def publish(
        self,
        feed: str,
        body: bytes,
        *,
        once: str,
        beat: int = 0,
        keep: int = 8,
        lease: Lease | None = None,
        remember: float = 0.0,
    ) -> str:
        with self._lock:
            its = self._feed(feed)
            self._check(its, lease)
            now = self.clock.now()
            its.known = {name: seen for name, seen in its.known.items() if seen[0] > now}
            if once == its.last_once[0]:
                return its.last_once[1]
            if once in its.known:
                return its.known[once][1]
            self._sequence += 1
            entry = Entry(feed, f"{now // 1_000_000}-{self._sequence}", its.tip, beat, body)
            its.entries.append(entry)
            while len(its.entries) > keep:
                its.entries.popleft()
            its.tip, its.beat = entry.id, beat or its.beat
            if lease is not None:
                its.last_once = once, entry.id
            elif remember:
                its.known[once] = now + round(remember * SECOND), entry.id
            self._tell(its, entry)
            return entry.id

    def tell(self, feed: str, body: bytes, *, lease: Lease, beat: int = 0) -> None:
        with self._lock:
            its = self._feed(feed)
            self._check(its, lease)
            its.notice, its.beat = Notice(feed, beat, body), beat or its.beat
            self._tell(its, its.notice)

    def lease(self, feed: str, held: Lease | None, fresh: str, seconds: float) -> Lease | None:
        with self._lock:
            its = self._feed(feed)
            now = self.clock.now()
            mine = its.holder in (fresh, *([held.token] if held else []))
            if now < its.until and not mine:
                return None
            if now >= its.until:
                its.holder = fresh
            its.until = now + round(seconds * SECOND)
            return Lease(feed, its.holder, its.beat)

    def release(self, lease: Lease) -> None:
        with self._lock:
            its = self._feed(lease.feed)
            if its.holder == lease.token:
                its.until = 0

    def close(self) -> None:
        """There is nothing to end."""

    def _feed(self, name: str) -> _Feed:
        return self._feeds.setdefault(name, _Feed())

    def _check(self, its: _Feed, lease: Lease | None) -> None:
        if lease is None:
            return
        if its.holder != lease.token or self.clock.now() >= its.until:
            raise Fenced(f"feed {lease.feed}: the lease is not held any more")

    @staticmethod
    def _tell(its: _Feed, said: Entry | Notice) -> None:
        for follower in its.followers:
            hear(follower, said)
