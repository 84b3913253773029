"""A thread for each stream, the way of the post: a generator under Paste's own HTTP server.

Paste with `use_threadpool` off, which is its way to have a thread for each request: a pool would
have to be as large as the audience. An event is encoded once, and all wait for one threading.Event,
which each value replaces. With 10,000 streams that is more than twice as fast as one Condition for
ever, at whose lock those who wait for the next value stand in the way of those who have not yet got
this one. A thread's stack is made small, so that ten thousand fit; but then an event takes six
seconds to reach them all, and so no more than a thousand are asked of it.

A client that is too slow makes its thread's `sendall` wait, and skips to the newest value.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from paste.httpserver import serve

from benchmarks.contest.program import (
    BACKLOG,
    HEADERS,
    HOST,
    Options,
    begin,
    event,
    listening,
    pauses,
)
from benchmarks.feed import stamp

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

STACK = 128 * 1024  # bytes


class Feed:
    """The newest value as an event, and those who wait for the next."""

    def __init__(self) -> None:
        self._newest = b""
        self._replaced = threading.Event()

    def publish(self, value: str) -> None:
        self._newest = event(value)
        replaced, self._replaced = self._replaced, threading.Event()
        replaced.set()

    def run(self, options: Options) -> None:
        """Make values for ever."""
        for pause in pauses(options.interval):
            time.sleep(pause)
            self.publish(stamp(options.size))

    def events(self) -> Iterator[bytes]:
        """The newest value and those that follow, for one client."""
        sent = b""
        while True:
            # In this order: what is published between the two lines sets this event.
            replaced = self._replaced
            if self._newest is sent:
                replaced.wait()
            sent = self._newest
            yield sent

    def application(
        self, _environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterator[bytes]:
        start_response("200 OK", HEADERS)
        return self.events()


def main() -> None:
    options = begin()
    threading.stack_size(STACK)
    feed = Feed()
    feed.publish(stamp(options.size))
    server = serve(
        feed.application,
        HOST,
        0,
        start_loop=False,
        use_threadpool=False,
        daemon_threads=True,
        request_queue_size=BACKLOG,
    )
    listening(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    feed.run(options)


if __name__ == "__main__":
    main()
