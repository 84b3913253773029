"""The watch: asks for events, and asks again.

    ask ── a stream ──▶ its events ──▶ it breaks ──▶ wait ──▶ ask for what comes after the last
     ▲                                                                 │
     ├── a document ──▶ its event ──▶ ask for one that is newer ◀──────┘
     └── it cannot answer now ──▶ wait

What the server answers decides which it is: a stream (multipart, SSE, NDJSON) is read as long as it
lasts; a document (JSON, XML) is asked for again with `If-None-Match` and `Prefer: wait`, which the
server holds until there is a newer one (RFC 7240).

Waiting is exponential backoff with full jitter: a random time between none and twice what it could
have been before, so that the clients of a server that restarts do not come back all at once.
"""

from __future__ import annotations

import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from email.message import Message
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qs

from pushdemo.client.connection import Response, get, parse_url
from pushdemo.client.errors import BadStream, Disconnected, Refused, WatchError, excerpt
from pushdemo.client.event import Event, read_date, read_value
from pushdemo.client.formats import ANY, DOCUMENTS, FORMATS, header_of, parser_for
from pushdemo.client.parser import MAXIMUM, Parser

log = logging.getLogger(__name__)

# Three of the server's heartbeats, of which two may be late: without any, the connection is dead.
TIMEOUT = 45.0
# The longest wait after a first failure, in seconds, until the server says another; and after many.
FIRST_DELAY = 2.0
LONGEST_DELAY = 60.0
# A server may not ask for less: a crowd of clients without a pause would keep it down.
SHORTEST_DELAY = 0.1

# What an id may hold, to be sent back in a header and between the quotes of an ETag.
_IN_HEADER = re.compile(r'[^\x00-\x1f\x7f"]+')

# What reads a response: it gives events, and then the seconds to wait, or None for the end.
_Reading: TypeAlias = Generator[Event, None, "float | None"]


class Watch(Iterator[Event]):
    """The events of an address: an iterator, without end unless there is a limit. One thread
    iterates; any may close it.

    url: http or https; without a path, the server's /server/index. A `limit` in its query ends the
        watch as well, after as many messages over all connections.
    accept: a format's short name, of FORMATS, or an Accept header's value. By default, whichever
        the server can give, those first that say most.
    last_event_id: of a former watch, to resume after it. As an attribute: that of the last event
        that was given out.
    limit: end after so many messages, at least 1.
    reconnect: False to raise Disconnected where the connection fails.
    timeout: seconds without a byte after which a connection is dead. Longer than the server's
        heartbeat.
    maximum: the most bytes that an event may have.
    tls: for https; by default, the system's certificates are trusted.
    sleep, clock, random: for tests. Seconds; monotonic seconds; from 0 to 1.

    Nothing is sent before the first `next`. Raises ValueError here for what cannot be right;
    iteration raises WatchError. What happens to the connection is logged, one line each time.
    """

    def __init__(
        self,
        url: str,
        *,
        accept: str | None = None,
        last_event_id: str | None = None,
        limit: int | None = None,
        reconnect: bool = True,
        timeout: float = TIMEOUT,
        maximum: int = MAXIMUM,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._url = parse_url(url)
        if last_event_id and not _IN_HEADER.fullmatch(last_event_id):
            raise ValueError(f"{last_event_id!r} cannot be an event's id")
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit}: this must be at least 1")
        if not 0 < timeout < threading.TIMEOUT_MAX:
            raise ValueError(f"timeout={timeout}: this must be more than 0")
        in_url = parse_qs(self._url.query).get("limit", [""])[-1]
        # Where it is no number, the server will say so.
        limits = [int(in_url)] if in_url.isascii() and in_url.isdigit() else []
        self._finite = bool(limits)
        self._left = min([*limits, *([] if limit is None else [limit])], default=None)
        self._accept = ANY if accept is None else FORMATS.get(accept, accept)
        self._polling = self._accept in DOCUMENTS
        self._reconnect = reconnect
        self._timeout = timeout
        self._maximum = maximum
        self._tls = tls
        self._clock = clock
        self._random = random
        self._delay = FIRST_DELAY
        self._failures = 0  # since something went well
        self._connected = False
        self._closing = threading.Event()
        self._sleep = self._closing.wait if sleep is None else sleep
        self._sock: socket.socket | None = None
        self._events = self._run()
        self.last_event_id = last_event_id

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it: iteration stops, also one that waits in another thread. Twice is no error."""
        self._closing.set()
        if (sock := self._sock) is not None:
            with suppress(OSError):
                # Not close, which would wait for the thread that reads; nor TLS's shutdown, which
                # talks to the server.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        with suppress(ValueError):  # it runs in another thread, and ends there
            self._events.close()

    # What follows runs in the thread that iterates

    def _run(self) -> Generator[Event, None, None]:
        while not self._closing.is_set():
            began = self._clock()
            pause: float | None
            try:
                with self._ask() as response:
                    pause = yield from self._read(response, began)
            except Disconnected as lost:
                if self._closing.is_set():
                    return
                if not self._reconnect:
                    raise
                if self._clock() - began >= LONGEST_DELAY:
                    self._failures = 0  # a feed that is silent for an hour is not broken
                self._connected = False
                pause = lost.after + self._backoff()
                log.warning("reconnecting in %.1f s: %s", pause, lost)
            except Refused as refused:
                # What cannot be said in the formats that we like best may still be sent.
                if refused.status != HTTPStatus.NOT_ACCEPTABLE or self._accept != ANY:
                    raise
                self._accept = FORMATS["multipart"]
                pause = 0.0
            if pause is None:
                return
            if pause > 0:
                self._sleep(pause)

    def _backoff(self) -> float:
        longest = min(LONGEST_DELAY, self._delay * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._random() * longest

    def _ask(self) -> Response:
        headers = {"Accept": self._accept.encode()}
        last_id = self.last_event_id
        if last_id is not None and not _IN_HEADER.fullmatch(last_id):
            last_id = None  # a server that gives such ids cannot be told them
        if self._polling:
            headers["Prefer"] = f"wait={self._wait}".encode()
            if last_id is not None:
                headers["If-None-Match"] = f'"{last_id}"'.encode()
        elif last_id is not None:
            headers["Last-Event-ID"] = last_id.encode()
        return get(self._url, headers, timeout=self._timeout, tls=self._tls, opened=self._opened)

    @property
    def _wait(self) -> int:
        """The seconds for which the server may hold a poll: well before the connection is dead."""
        return max(1, int(self._timeout * 2 / 3))

    def _opened(self, sock: socket.socket) -> None:
        self._sock = sock
        if self._closing.is_set():  # `close` may not have seen this one
            raise Disconnected("closed")

    def _read(self, response: Response, began: float) -> _Reading:
        """The events of a response. Returns the seconds after which to ask again, or None where
        all that was wanted has come."""
        if self._polling and response.status == HTTPStatus.NOT_MODIFIED:
            # One that was not held would come back as fast as we ask.
            held = self._clock() - began >= self._wait / 2
            return 0.0 if held else self._delay
        if response.status != HTTPStatus.OK:
            raise response.refusal()
        content_type = response.header("Content-Type") or "no Content-Type"
        parser = parser_for(content_type, maximum=self._maximum)
        if parser is None and header_of(content_type).get_content_type() not in DOCUMENTS:
            raise BadStream(
                f"{response.url} answers with {content_type}, which is no event format,"
                f" and begins with {_beginning(response)}"
            )
        if not self._connected:
            self._connected = True
            log.info("connected to %s: %s", response.url, content_type)
        if parser is not None:
            return (yield from self._read_stream(response, parser, began))
        return (yield from self._read_document(response, header_of(content_type)))

    def _read_stream(self, response: Response, parser: Parser, began: float) -> _Reading:
        self._polling = False
        for data in response.chunks():
            yield from self._give(parser.feed(data), parser)
            if self._left == 0:
                return None
            if parser.error is not None:
                raise parser.error
            if parser.ended:
                break
            # Bytes that are not understood are no sign of life.
            if self._clock() - began >= self._timeout and (complaint := parser.complaint()):
                raise complaint
        yield from self._give(parser.close(), parser)
        if self._left == 0 or (parser.ended and self._finite):
            return None
        raise Disconnected("the stream ended")

    def _read_document(self, response: Response, content_type: Message) -> _Reading:
        self._polling = True
        body = response.read(self._maximum)
        etag = response.header("ETag")
        event_id = None if etag is None else etag.removeprefix("W/").strip('"')
        if event_id is not None and event_id == self.last_event_id:
            return self._delay  # the same as before, at once: this server knows no long polls
        event = Event(
            id=event_id,
            value=read_value(content_type, body),
            content_type=content_type.get_content_type(),
            computed=read_date(response.header("Last-Modified")),
        )
        yield from self._give([event])
        if self._left == 0:
            return None
        # Without an id we cannot ask for what is newer.
        return self._delay if event_id is None else 0.0

    def _give(self, events: Iterable[Event], parser: Parser | None = None) -> Iterator[Event]:
        if parser is not None and parser.retry is not None:
            self._delay = max(SHORTEST_DELAY, parser.retry / 1000)
        for event in events:
            self._failures = 0
            if event.id is not None:
                self.last_event_id = event.id
            if event.type == "message" and self._left is not None:
                self._left -= 1
            yield event
            if self._left == 0:
                return
        if parser is not None and parser.last_event_id is not None:
            self.last_event_id = parser.last_event_id  # an event stream may give one without data


def _beginning(response: Response) -> str:
    """The first bytes of a body, for people."""
    try:
        return excerpt(next(response.chunks(), b""))
    except WatchError as error:
        return f"nothing: {error}"


# What reads well where it is called: `for event in watch(url)`.
watch = Watch
