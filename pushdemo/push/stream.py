"""Streams and polls: the bodies of the responses that wait for events.

To a WSGI server that knows nothing of them, a stream is an iterable like any other and holds a
thread of that server while it lasts. A server that knows them may take the connection out of
HTTP's hands instead, and call `hand_off`: then they cost no thread. Both ways send the same bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from pushdemo.push.channel import AHEAD, Source
from pushdemo.push.counting import Counts
from pushdemo.push.deliver.answer import Condition, Fallbacks, PollAnswer, StreamAnswer
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.delivery import AHEAD_PATIENCE
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.document import Document, DocumentFraming
from pushdemo.push.encode.framing import Framing, heartbeat_of
from pushdemo.push.encode.variants import name_of
from pushdemo.push.event import Event, FeedStatus
from pushdemo.push.places import Places
from pushdemo.push.response import MakeHead

# In environ, from a server that hands off what has a `hand_off`.
HANDS_OFF = "pushdemo.hands_off"


class TooManyStreams(Exception):
    """As many streams are open as may be. To a client: 503, and to try again later."""


@runtime_checkable
class HandsOff(Protocol):
    """The body of a response that can do without its server."""

    def hand_off(self, sock: socket.socket, head: bytes, make_head: MakeHead) -> None:
        """Give away a connected socket, and the response's head still to be sent on it, or another
        one that `make_head` makes. Both the socket and this body belong to the broadcaster then.

        Raises OSError where that cannot start; the socket is still the caller's then.
        """

    def close(self) -> None:
        """End it, if it was not handed off. More than once is no error."""


class Streams:
    """Opens streams and polls, each of which takes a place while it is open.

    heartbeat: seconds of silence after which a stream that holds a thread sends a heartbeat.
    counts: what is counted.
    """

    def __init__(
        self,
        broadcaster: Broadcaster,
        places: Places,
        heartbeat: float = 15.0,
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self.heartbeat = heartbeat
        self.broadcaster = broadcaster
        self.places = places

    def open(
        self,
        subscription: Subscription,
        fallbacks: Fallbacks,
        *,
        watch: Watch | None = None,
        still_valid: Callable[[], bool] = lambda: False,
    ) -> Stream:
        """A new stream.

        watch: one of the source, that the stream goes on with and closes.
        still_valid: whether an equal request would now be answered by an equal stream. A server
            asks this instead of the application, in any thread.

        Raises TooManyStreams. What is opened must be closed, by a WSGI server as by others.
        """
        self._take_place()
        return Stream(self, subscription, fallbacks, watch, still_valid)

    def poll(
        self, source: Source, document: Document, condition: Condition, fallbacks: Fallbacks
    ) -> Poll:
        """A new poll: the first event that fulfils the condition, as `document` has it. Raises
        TooManyStreams."""
        self._take_place()
        return Poll(self, source, document, condition, fallbacks)

    def _take_place(self) -> None:
        if not self.places.take():
            raise TooManyStreams


class Watch:
    """Keeps a source watched, from its making until `close`, and waits for its events, in the
    caller's thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._news = threading.Event()
        self._statuses = source.statuses()
        source.subscribe(self._news.set)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """More than once is no error."""
        self._source.unsubscribe(self._news.set)

    def encode(self, framing: Framing) -> None:
        """Have each event encoded before it is told of."""
        self._source.subscribe(self._news.set, framing)

    def wait(self, seconds: float) -> bool:
        """Until there are news, which were not waited for before; False if there are none."""
        came = self._news.wait(seconds)
        self._news.clear()
        return came

    def first(self, reached: int, seconds: float, known: tuple[str, ...] = ()) -> Event | None:
        """The newest event, when there is one with a number above `reached`, and with none of the
        ids that are known; None if there is none for so long, or a feed fails meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            for event in self._source.state():
                if event.sequence > reached and event.id not in known:
                    return event
            if not self._source.state() and self._source.statuses() != self._statuses:
                return None
            if not self.wait(deadline - time.monotonic()):
                return None


class _Body:
    """What has a place among the streams, and gives it back once."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._open = True

    def close(self) -> None:
        """End it (PEP 3333 has the server call this). More than once is no error."""
        if self._take_open():
            self._streams.places.leave()

    # A server that forgets to close must not cost a place for ever.
    def __del__(self) -> None:
        self.close()

    def _take_open(self) -> bool:
        was_open, self._open = self._open, False
        return was_open

    def _give_away(self, attach: Callable[[Callable[[], None]], None]) -> None:
        if not self._take_open():
            raise RuntimeError("this is closed, or was handed off before")
        try:
            attach(self._streams.places.leave)
        except BaseException:
            self._streams.places.leave()
            raise


class Stream(_Body):
    """An endless response. Made by `Streams.open`."""

    def __init__(
        self,
        streams: Streams,
        subscription: Subscription,
        fallbacks: Fallbacks,
        watch: Watch | None,
        still_valid: Callable[[], bool],
    ) -> None:
        super().__init__(streams)
        self._subscription = subscription
        self._fallbacks = fallbacks
        self._watch = watch
        self._still_valid = still_valid
        self._pieces: Iterator[bytes] | None = None

    def hand_off(self, sock: socket.socket, head: bytes, make_head: MakeHead) -> None:
        """See HandsOff."""
        self._give_away(lambda on_close: self._attach([sock], head, make_head, on_close))

    def take_places(self, wanted: int) -> int:
        """Places for more of the same, as far as there are any; returns how many are taken."""
        return self._streams.places.take(wanted)

    def hand_off_more(
        self, socks: Sequence[socket.socket], head: bytes, make_head: MakeHead
    ) -> None:
        """The same for the connections of equal requests, after `take_places`. Of a stream
        that is `still_valid`, and was handed off itself."""
        self._attach(socks, head, make_head, self._streams.places.leave)

    @property
    def still_valid(self) -> bool:
        """See `Streams.open`."""
        return self._still_valid()

    def _attach(
        self,
        socks: Sequence[socket.socket],
        head: bytes,
        make_head: MakeHead,
        on_close: Callable[[], None],
    ) -> None:
        framing = self._subscription.framing
        answer = StreamAnswer(framing, head, make_head, self._fallbacks)
        self._streams.broadcaster.attach(socks, answer, self._subscription, on_close)

    def __iter__(self) -> Iterator[bytes]:
        self._pieces = self._iterate()
        return self._pieces

    def _iterate(self) -> Iterator[bytes]:
        # By way of self, so that the stream is open for as long as its iterator is.
        streams = self._streams
        pieces = _Pieces(self._subscription, streams.heartbeat, streams.counts)
        yield from pieces.iterate(self._watch)

    def close(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            pieces.close()  # type: ignore[attr-defined]  # a generator
        if self._watch is not None:
            self._watch.close()
        super().close()


class _Pieces:
    """What a server that cannot hand off sends of a stream, piece by piece."""

    def __init__(self, subscription: Subscription, heartbeat: float, counts: Counts) -> None:
        self._counts = counts.streams(subscription.source.name, name_of(subscription.framing))
        self._source = subscription.source
        self._framing = subscription.framing
        self._resume_from = subscription.resume_from
        self._left = subscription.limit
        self._heartbeat = heartbeat
        self._told: dict[str, FeedStatus] = {}

    def iterate(self, watch: Watch | None) -> Iterator[bytes]:
        """Each piece, as soon as it is there."""
        for counts in self._counts.values():
            counts.open()
        try:
            yield from self._iterate(watch)
        finally:
            for counts in self._counts.values():
                counts.close()

    def _iterate(self, watch: Watch | None) -> Iterator[bytes]:
        source, framing = self._source, self._framing
        with watch or Watch(source) as watch:
            watch.encode(framing)
            before, due = framing.opening, self._next_heartbeat()
            reached, events = self._first_events(watch)
            if events is None:
                before += framing.reset
                events = source.state()
            while True:
                for event in events:
                    reached = max(reached, event.sequence)
                    if frame := self._next_frame(event):
                        yield before + frame
                        # The server asks for what comes next, so it has sent this.
                        self._counts[event.feed].deliver(len(frame))
                        before, due = b"", self._next_heartbeat()
                    if self._left == 0:
                        return
                # Where nothing is there yet, the client is to have the headers meanwhile.
                if before := before + self._notices():
                    yield before
                    before, due = b"", self._next_heartbeat()
                if not watch.wait(due - time.monotonic()):
                    yield heartbeat_of(framing, source.state())
                    due = self._next_heartbeat()
                if source.breaks_after(reached):
                    before += framing.reset
                events = source.since(reached)

    def _next_frame(self, event: Event) -> bytes:
        """The event's frame, counted."""
        frame = event.frame(self._framing)
        if frame and self._left is not None:
            self._left -= 1
            if self._left == 0:
                frame = self._framing.last(frame)
        return frame

    def _notices(self) -> bytes:
        """The bytes for statuses that the client has not been told yet."""
        told, self._told = self._told, {one.feed: one for one in self._source.statuses()}
        return b"".join(
            self._framing.encode_status(status)
            for status in self._told.values()
            # That a feed works again is news only to a client that was told that it did not.
            if status != told.get(status.feed) and (status.failing_since is not None or told)
        )

    def _next_heartbeat(self) -> float:
        return time.monotonic() + self._heartbeat

    def _first_events(self, watch: Watch) -> tuple[int, list[Event] | None]:
        """How far the source has come, and what to begin with; None where a reset is due."""
        deadline = time.monotonic() + AHEAD_PATIENCE
        while True:
            reached = self._source.reached
            if self._resume_from is None:
                return reached, self._source.state()
            events = self._source.resume(self._resume_from, reached)
            if events is not AHEAD:
                return reached, events
            left = deadline - time.monotonic()
            if left <= 0:
                return reached, None
            watch.wait(left)


class Poll(_Body):
    """One event as a whole response, as soon as there is one. Made by `Streams.poll`, for a server
    that hands off: no other can begin a response before it knows its status."""

    def __init__(
        self,
        streams: Streams,
        source: Source,
        document: Document,
        condition: Condition,
        fallbacks: Fallbacks,
    ) -> None:
        super().__init__(streams)
        self._source = source
        self._document = document
        self._condition = condition
        self._fallbacks = fallbacks

    def hand_off(self, sock: socket.socket, head: bytes, make_head: MakeHead) -> None:  # noqa: ARG002
        """See HandsOff."""
        framing = DocumentFraming(self._document, make_head)
        answer = PollAnswer(framing, self._condition, self._fallbacks)
        subscription = Subscription(
            self._source, framing, reached=self._condition.reached, known=self._condition.known
        )
        broadcaster = self._streams.broadcaster
        self._give_away(lambda on_close: broadcaster.attach([sock], answer, subscription, on_close))

    def __iter__(self) -> Iterator[bytes]:
        raise RuntimeError("a poll is for servers that hand off; others have a Watch")
