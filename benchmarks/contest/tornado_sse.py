"""Tornado's own RequestHandler.

`write` and `flush` in one loop over the open streams, the way in which Tornado's demonstration of a
chat talks to its WebSockets: a coroutine for each client that waits for a condition and awaits its
flush costs about half as much again. uvloop makes no difference to Tornado, which only asks it what
is ready. An event is encoded once; Tornado makes a chunk of it for each client. Its access log is
one of logging's, and stays off.

Nothing is awaited, so what a client that is too slow has not taken waits in Tornado's buffer for
it, which has no bound.
"""

from __future__ import annotations

import asyncio

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from benchmarks.contest.program import (
    BACKLOG,
    HEADERS,
    HOST,
    PATH,
    begin,
    event,
    listening,
    pauses,
)
from benchmarks.feed import stamp


class Feed:
    """The newest value as an event, and the streams that are sent it."""

    def __init__(self) -> None:
        self._newest = b""
        self._streams: set[Stream] = set()

    def publish(self, value: str) -> None:
        self._newest = event(value)
        for stream in self._streams:
            stream.send(self._newest)

    def join(self, stream: Stream) -> None:
        stream.send(self._newest)
        self._streams.add(stream)

    def leave(self, stream: Stream) -> None:
        self._streams.discard(stream)


class Stream(RequestHandler):
    def initialize(self, feed: Feed) -> None:
        self._feed = feed
        self._gone = asyncio.Event()

    def set_default_headers(self) -> None:
        for name, value in HEADERS:
            self.set_header(name, value)

    async def get(self) -> None:
        self._feed.join(self)
        await self._gone.wait()

    def on_connection_close(self) -> None:
        self._feed.leave(self)
        self._gone.set()

    def send(self, data: bytes) -> None:
        self.write(data)
        self.flush()


async def _serve() -> None:
    options = begin()
    feed = Feed()
    feed.publish(stamp(options.size))
    server = HTTPServer(Application([(PATH, Stream, {"feed": feed})]))
    sockets = bind_sockets(0, HOST, backlog=BACKLOG)
    server.add_sockets(sockets)
    listening(sockets[0].getsockname()[1])
    for pause in pauses(options.interval):
        await asyncio.sleep(pause)
        feed.publish(stamp(options.size))


if __name__ == "__main__":
    asyncio.run(_serve())
