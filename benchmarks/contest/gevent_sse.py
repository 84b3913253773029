"""gevent's pywsgi: a WSGI application's generator for each client, each in a greenlet.

All of them wait for one gevent.event.Event, which wakes them in one turn of gevent's loop and is
cleared at once; an event is encoded once. `log=None` is gevent's way to have no access log. Nothing
is monkey-patched: the server brings its own sockets, and `--busy` wants a real thread.

A client that is too slow makes its greenlet's `sendall` wait, and skips to the newest value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from benchmarks.contest.program import (
    BACKLOG,
    HEADERS,
    HOST,
    begin,
    event,
    listening,
    pauses,
)
from benchmarks.feed import stamp

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Feed:
    """The newest value as an event, and those who wait for the next."""

    def __init__(self) -> None:
        self._newest = b""
        self._changed = Event()

    def publish(self, value: str) -> None:
        self._newest = event(value)
        self._changed.set()
        self._changed.clear()

    def application(
        self, _environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        sent = b""
        while True:
            if self._newest is sent:
                self._changed.wait()
            sent = self._newest
            yield sent


def main() -> None:
    options = begin()
    feed = Feed()
    feed.publish(stamp(options.size))
    server = WSGIServer((HOST, 0), feed.application, backlog=BACKLOG, log=None)
    server.start()
    listening(server.server_port)
    for pause in pauses(options.interval):
        gevent.sleep(pause)
        feed.publish(stamp(options.size))


if __name__ == "__main__":
    main()
