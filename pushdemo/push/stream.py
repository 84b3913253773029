"""A stream: the body of one client's response.

To a WSGI server that knows nothing of it, it is an iterable like any other, and holds a thread of
that server while it lasts. A server that knows it may take the connection out of HTTP's hands
instead and call `hand_off`: then it costs no thread. Both ways send the same bytes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

from pushdemo.push.broadcaster import Broadcaster
from pushdemo.push.channel import Channel
from pushdemo.push.framing import Framing


class TooManyStreams(Exception):
    """As many streams are open as may be. To a client: 503, and to try again later."""


class Streams:
    """Opens streams, at most `maximum` at a time."""

    def __init__(self, broadcaster: Broadcaster, maximum: int) -> None:
        self._broadcaster = broadcaster
        self._maximum = maximum
        self._lock = threading.Lock()
        self.open_now = 0

    def open(self, channel: Channel, framing: Framing, *, limit: int | None = None) -> Stream:
        """A new stream of `channel`, of `limit` events where that is not None.

        Raises TooManyStreams. What is opened must be closed, by a WSGI server as by others.
        """
        with self._lock:
            if self.open_now >= self._maximum:
                raise TooManyStreams
            self.open_now += 1
        return Stream(self._broadcaster, channel, framing, limit, self._closed)

    def _closed(self) -> None:
        with self._lock:
            self.open_now -= 1


class Stream:
    """See the module. Made by `Streams.open`."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        channel: Channel,
        framing: Framing,
        limit: int | None,
        on_close: Callable[[], None],
    ) -> None:
        self._broadcaster = broadcaster
        self._channel = channel
        self._framing = framing
        self._limit = limit
        self._on_close: Callable[[], None] | None = on_close
        self._parts: Iterator[bytes] | None = None

    def hand_off(self, sock: socket.socket, head: bytes) -> None:
        """Give a connected socket away, with the response's head still to be sent on it. From here
        on both it and this stream belong to the broadcaster; `close` does nothing any more.

        Raises OSError where the broadcaster cannot start; the socket is still the caller's then.
        """
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            raise RuntimeError("this stream is closed, or was handed off before")
        try:
            self._broadcaster.attach(
                sock, head, self._channel, self._framing, limit=self._limit, on_close=on_close
            )
        except BaseException:
            on_close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        self._parts = self._iterate()
        return self._parts

    def close(self) -> None:
        """End it (PEP 3333 has the server call this). More than once is no error."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()  # type: ignore[attr-defined]  # a generator
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    # A server that forgets to close must not cost a place for ever.
    __del__ = close

    def _iterate(self) -> Iterator[bytes]:
        channel, framing = self._channel, self._framing
        before = framing.opening
        left = self._limit
        reached = 0
        news = threading.Event()
        channel.subscribe(news.set, framing)
        try:
            while True:
                news.clear()
                for event in channel.since(reached):
                    reached = event.sequence
                    frame = event.frame(framing)
                    if left is not None:
                        left -= 1
                        if left == 0:
                            yield before + framing.last(frame)
                            return
                    yield before + frame
                    before = b""
                if before:  # nothing there yet: let the client have the headers meanwhile
                    yield before
                    before = b""
                news.wait()
        finally:
            channel.unsubscribe(news.set)
