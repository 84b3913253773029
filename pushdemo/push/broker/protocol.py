"""The protocol of a broker, and what goes through it.

A broker keeps a log for each feed: the last few entries, in one order for all processes. Each entry
has an id, which the broker makes and which grows, and names the entry before it. A broker also has
one lease for each feed: the process that holds it computes the feed, and no other can publish its
values meanwhile. The check of the lease and the appending are one step.

tests/test_brokers.py is the contract. What passes it is a broker.
"""

from __future__ import annotations

import logging
from typing import NamedTuple, Protocol

from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.failure import failure_of
from pushdemo.push.loop import Health

log = logging.getLogger(__name__)


class BrokerError(Exception):
    """The message is one line, for a log or a shell."""


class Fenced(BrokerError):
    """The lease is not held any more: another process computes the feed now, or may do so."""


class BrokerUnavailable(BrokerError):
    """The engine is down, slow, full, read-only or loading. Whether it has done what it was asked
    is not known. To ask again may help, and does no harm."""


class Misconfigured(BrokerError):
    """To ask again does not help: a wrong password, for one, or a version that cannot do it."""


class Entry(NamedTuple):
    """An event of a feed, as the log has it.

    after: the id of the entry before it, when it was written; empty where there was none.
    beat: the number of the beat it is for; 0 where it is for none.
    body: any bytes.
    """

    feed: str
    id: str
    after: str
    beat: int
    body: bytes


class Notice(NamedTuple):
    """How a feed is, beside its events: that it fails, for one. Only the newest is kept.

    beat: the number of the beat for which there is no new value; 0 for none.
    """

    feed: str
    beat: int
    body: bytes


class Lease(NamedTuple):
    """feed: whose.
    token: of this acquisition; no other has the same.
    beat: the newest beat for which there is an entry or a notice, by whomever.
    """

    feed: str
    token: str
    beat: int


class Follower(Protocol):
    """Who hears of everything. The methods are called in one thread, and return soon."""

    def hear(self, said: Entry | Notice) -> None: ...

    def caught_up(self) -> None:
        """All that the broker has kept was heard, or what has come since is. Called again after
        each connection."""

    def cut_off(self, why: str) -> None:
        """Nothing can be heard for now."""


def hear(follower: Follower, said: Entry | Notice) -> None:
    """Have it hear of something. An error in that is of one feed: the others go on."""
    try:
        follower.hear(said)
    except Exception as error:
        log.error("feed %s: what came from the broker is left out: %s",
                  said.feed, failure_of(error))  # fmt: skip


class Broker(Protocol):
    """See the module. Any thread; nothing is opened before the first call, and each process opens
    its own. All methods but `close` raise BrokerUnavailable and Misconfigured.

    address: for a log; without a password.
    clock: the engine's, by which leases end and beats are counted.
    """

    @property
    def address(self) -> str: ...

    @property
    def clock(self) -> EngineClock: ...

    @property
    def health(self) -> Health:
        """How the thread is in which followers hear."""

    def check(self) -> None:
        """Raises Misconfigured or BrokerUnavailable where it cannot be used. Leaves nothing open,
        so that a process may fork afterwards."""

    def follow(self, feed: str, follower: Follower, after: str = "") -> None:
        """Have somebody hear of a feed: first what the log has after that id, or all it has where
        it does not have that, and then each entry once, in the log's order. Where what is kept no
        longer joins what was heard, that shows in the next entry's `after`. A broken connection is
        made again. Raises nothing."""

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
        """Append an entry; its id.

        once: names this entry: asked again, with the same, there is no second, and the id of the
            first is returned.
        keep: how many entries the log is to have.
        lease: append only while it is held; otherwise Fenced.
        remember: for how many seconds `once` is known, without a lease. With one, it is known until
            the next entry: there is one publisher then.
        """

    def tell(self, feed: str, body: bytes, *, lease: Lease, beat: int = 0) -> None:
        """Make this the feed's notice. Raises Fenced.

        beat: for which it was computed that there is no new value; 0 for none.
        """

    def lease(self, feed: str, held: Lease | None, fresh: str, seconds: float) -> Lease | None:
        """Prolong a lease, or take it where nobody holds it; None where another does.

        held: the lease as it was had last; None where there is none.
        fresh: the token of a lease that is new: another for each acquisition, and the same when an
            attempt was not answered, because that may have taken it.
        seconds: after which it ends, from now.
        """

    def release(self, lease: Lease) -> None:
        """Give it back, if it is held still."""

    def close(self) -> None:
        """End within about a second. Raises nothing."""
