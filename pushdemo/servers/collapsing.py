"""Collapsing: equal requests for a stream, answered by one call of the application.

When a server comes back, so do all its clients, in the same moment and with the same request. The
application is asked by the first of them; its answer is given to the others, without a worker (RFC
9111, section 4, has the name for it).

That is right only where the answer is known to depend on nothing else, and there it is exact:

- The application that the server was given must have said by which headers its streams are made. A
  middleware around it or in it, which may look at a session or count requests, has not, and sees
  every request.
- The stream must say that it still is the answer (see `Streams.open`).
- Two requests are equal if method, target, version and the fields that the answer depends on are.
  Only a GET without a body can be equal to another.

Of equal requests whose answer is not known, only as many are asked at a time as there are workers;
the others stand in line here, and not in the workers' queue, where they would have to be asked.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pushdemo.push.response import Headers, MakeHead
from pushdemo.push.stream import Stream
from pushdemo.servers.request import Exchange, Request

log = logging.getLogger(__name__)

# The method by which an application names the headers, if it does. Of its class itself: what
# inherits from that, or stands in for it, may do more.
COLLAPSES = "pushdemo_collapses"

MOST = 64  # precedents that are kept


def collapses(application: Any) -> Sequence[str] | None:
    """The headers by which an application's streams are made; None if it does not say."""
    says: Callable[[Any], Sequence[str] | None] | None = vars(type(application)).get(COLLAPSES)
    return None if says is None else says(application)


@dataclass(frozen=True)
class Precedent:
    """A stream that was the answer to a request, and the head of its response."""

    stream: Stream
    status: str
    headers: Headers

    @property
    def is_for_all(self) -> bool:
        """Whether equal requests may have it, too. A cookie is for one client, whichever layer set
        it."""
        return self.stream.still_valid and not any(
            name.lower() == "set-cookie" for name, _ in self.headers
        )


# What equal requests have in common.
Key = tuple[str, str, tuple[tuple[bytes, bytes], ...]]


@dataclass
class _Line:
    """Equal requests, while the application is asked by some of them.

    asked: by how many.
    waiting: the others, in the order in which they came.
    """

    asked: int = 0
    waiting: list[Exchange] = field(default_factory=list)


class Collapsing:
    """What is known of the requests there are. Any thread.

    headers: those by which streams are made.
    workers: how many equal requests are asked at a time.
    make_head: makes a response's head.
    ask: has a worker serve a request, and then call `settle`, whatever came of it.
    given: called for each that was given an answer without that.
    """

    def __init__(
        self,
        headers: Sequence[str],
        *,
        workers: int,
        make_head: MakeHead,
        ask: Callable[[Exchange], None],
        given: Callable[[Exchange], None],
    ) -> None:
        self._names = frozenset(header.lower().encode("ascii") for header in headers)
        self._workers = workers
        self._make_head = make_head
        self._ask = ask
        self._given = given
        self._lock = threading.Lock()
        self._lines: dict[Key, _Line] = {}
        self._precedents: dict[Key, Precedent] = {}

    def serve(self, exchanges: Sequence[Exchange]) -> None:
        """Give these an answer, or have them ask for it."""
        equal: dict[Key, list[Exchange]] = {}
        for exchange in exchanges:
            if (key := self._key(exchange.request)) is not None:
                equal.setdefault(key, []).append(exchange)
            else:
                self._ask(exchange)
        for key, together in equal.items():
            with self._lock:
                line = self._lines.setdefault(key, _Line())
                line.waiting += together
                first = self._advance(key, line)
            for exchange in first:
                self._ask(exchange)

    def settle(self, exchange: Exchange, precedent: Precedent | None) -> None:
        """A request was answered by that stream, or by something else."""
        if (key := self._key(exchange.request)) is None:
            return
        with self._lock:
            if precedent is not None and _holds(lambda: precedent.is_for_all):
                self._precedents.pop(key, None)
                self._precedents[key] = precedent  # the newest is the last
                if len(self._precedents) > MOST:
                    del self._precedents[next(iter(self._precedents))]
            line = self._lines[key]
            line.asked -= 1
            first = self._advance(key, line)
        for exchange in first:
            self._ask(exchange)

    def _key(self, request: Request) -> Key | None:
        """The same for equal requests; None for one that asks for no stream, or has a body."""
        if request.method != "GET" or request.body:
            return None
        names = self._names
        return (
            request.target,
            request.version,
            tuple([field for field in request.fields if field[0] in names]),
        )

    def _advance(self, key: Key, line: _Line) -> list[Exchange]:
        """Give those in a line the answer, if there is one. Returns those that are to ask. With the
        lock, and what it takes inside takes no other of ours."""
        waiting = line.waiting
        precedent = self._precedents.get(key)
        if waiting and precedent is not None:
            if _holds(lambda: precedent.stream.still_valid):
                # The application says what comes where there is no place for more streams.
                del waiting[: self._give(precedent, waiting)]
            else:
                del self._precedents[key]
        free = max(0, self._workers - line.asked)
        first = waiting[:free]
        del waiting[:free]
        line.asked += len(first)
        if not line.asked:
            del self._lines[key]
        return first

    def _give(self, precedent: Precedent, exchanges: Sequence[Exchange]) -> int:
        """Returns to how many, from the first on."""
        try:
            head = self._make_head(precedent.status, precedent.headers)
            places = precedent.stream.take_places(len(exchanges))
        except Exception:
            log.exception("equal requests are not given the stream that they could have")
            return 0
        if places:
            self._hand_off(precedent.stream, exchanges[:places], head)
        return places

    def _hand_off(self, stream: Stream, exchanges: Sequence[Exchange], head: bytes) -> None:
        socks = [exchange.sock for exchange in exchanges]
        try:
            stream.hand_off_more(socks, head, self._make_head)
        except Exception:
            # Some may have been taken over: they cannot be answered in another way.
            log.exception("%d connections are closed that no stream could take", len(socks))
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.close()
        for exchange in exchanges:
            self._given(exchange)


def _holds(says: Callable[[], bool]) -> bool:
    """What a stream says of itself; False if it fails in that: then the application is asked."""
    try:
        return says()
    except Exception:
        log.exception("a stream cannot say whether it is the answer to equal requests")
        return False
