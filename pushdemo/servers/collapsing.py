"""Collapsing: equal requests for a stream, answered by one call of the application.

When a server comes back, so do all its clients, in the same moment and with the same request. The
application is asked by the first of them; its answer is given to the others, without a worker (RFC
9111, section 4, has the name for it).

That is right only where the answer is known to depend on nothing else, and there it is exact:

- The application that the server was given must have said by which headers its streams are made. A
  middleware around it or in it, which may look at a session or count requests, has not, and sees
  every request.
- The stream must say that it still is the answer (see `Streams.open`).
- Two requests are equal if the same bytes are left of them without the fields that the answer does
  not depend on. What is not plainly such a field stays: in doubt they differ.

Of equal requests whose answer is not known, only as many are asked at a time as there are workers;
the others stand in line here, and not in the workers' queue, where they would have to be asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pushdemo.push.answer import Headers, MakeHead
from pushdemo.push.stream import Stream
from pushdemo.servers.acceptor import Request

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
        """Whether equal requests may have it, too. A cookie is one client's, whoever set it."""
        return self.stream.stands and not any(
            name.lower() == "set-cookie" for name, _ in self.headers
        )


@dataclass
class _Line:
    """Equal requests, while the application is asked by some of them.

    asked: by how many.
    waiting: the others, in the order in which they came.
    """

    asked: int = 0
    waiting: list[Request] = field(default_factory=list)


class Collapsing:
    """What is known of the requests there are. Any thread.

    headers: those by which streams are made.
    workers: how many equal requests are asked at a time.
    make_head: makes a response's head.
    ask: has a worker serve a request, and then call `settle`, whatever came of it.
    """

    def __init__(
        self,
        headers: Sequence[str],
        *,
        workers: int,
        make_head: MakeHead,
        ask: Callable[[Request], None],
    ) -> None:
        kept = "|".join(map(re.escape, headers)) or "(?!)"
        # A whole line with a plain name (RFC 9110, section 5.6.2) that no folded line continues. A
        # name with `_` is not plain: WSGI's names of headers have it for `-`, too.
        self._other_field = re.compile(
            rf"^(?!(?:{kept})[ \t]*:)[a-z0-9!#$%&'*+.^`|~-]+:[^\r\n]*\r\n(?![ \t])".encode(),
            re.I | re.M,
        )
        self._workers = workers
        self._make_head = make_head
        self._ask = ask
        self._lock = threading.Lock()
        self._lines: dict[bytes, _Line] = {}
        self._precedents: dict[bytes, Precedent] = {}

    def serve(self, requests: Sequence[Request]) -> None:
        """Give these an answer, or have them ask for it."""
        equal: dict[bytes, list[Request]] = {}
        for request in requests:
            if key := self._key(request):
                equal.setdefault(key, []).append(request)
            else:
                self._ask(request)
        for key, together in equal.items():
            with self._lock:
                line = self._lines.setdefault(key, _Line())
                line.waiting += together
                first = self._advance(key, line)
            for request in first:
                self._ask(request)

    def settle(self, request: Request, precedent: Precedent | None) -> None:
        """A request was answered by that stream, or by something else."""
        if not (key := self._key(request)):
            return
        with self._lock:
            if precedent is not None and precedent.is_for_all:
                self._precedents.pop(key, None)
                self._precedents[key] = precedent  # the newest is the last
                if len(self._precedents) > MOST:
                    del self._precedents[next(iter(self._precedents))]
            line = self._lines[key]
            line.asked -= 1
            first = self._advance(key, line)
        for request in first:
            self._ask(request)

    def _key(self, request: Request) -> bytes:
        """The same for equal requests; nothing for one that asks for no stream, or has a body."""
        received = request.received
        if not received.startswith(b"GET ") or received.find(b"\n\r\n") != len(received) - 3:
            return b""
        return self._other_field.sub(b"", received)

    def _advance(self, key: bytes, line: _Line) -> list[Request]:
        """Give those in a line the answer, if there is one. Returns those that are to ask. With the
        lock, and what it takes inside takes no other of ours."""
        waiting = line.waiting
        precedent = self._precedents.get(key)
        if waiting and precedent is not None:
            if precedent.stream.stands:
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

    def _give(self, precedent: Precedent, requests: Sequence[Request]) -> int:
        """Returns to how many, from the first on."""
        places = precedent.stream.take_places(len(requests))
        if places:
            head = self._make_head(precedent.status, precedent.headers)
            socks = [request.sock for request in requests[:places]]
            precedent.stream.hand_off_more(socks, head, self._make_head)
        return places
