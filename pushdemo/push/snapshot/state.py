"""What another process needs to know to go on with an engine's feeds and streams.

Times are the monotonic clock's, which is the same in all processes of a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pushdemo.push.deliver.answer import Answer, Continuation, PollAnswer, StreamAnswer
from pushdemo.push.encode.document import DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.html_stream import HtmlStream
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.relay import Relay
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import Event, FeedStatus, Value
from pushdemo.push.head import Head
from pushdemo.push.position import Place, Position
from pushdemo.push.response import MakeHead
from pushdemo.push.snapshot.codec import Vocabulary


class EventState(NamedTuple):
    """See Event."""

    sequence: int
    id: str
    feed: str
    value: Value
    after: str
    breaks: bool

    @classmethod
    def of(cls, event: Event) -> EventState:
        return cls(event.sequence, event.id, event.feed, event.value, event.after, event.breaks)

    def event(self) -> Event:
        """It, without the frames that it was encoded in."""
        return Event(self.sequence, self.id, self.feed, self.value, self.after, breaks=self.breaks)


class ChannelState(NamedTuple):
    """A feed's newest events.

    fresh_until, retry_at: nanoseconds.
    newest_id: of the newest event.
    broke_at: the number of the last event that broke the chain.
    known: ids of events that came with theirs.
    """

    name: str
    epoch: str
    reached: int
    events: tuple[EventState, ...]
    carried: bool
    fresh_until: int
    outdated: bool
    status: FeedStatus | None
    retry_at: int
    newest_id: str
    broke_at: int
    known: tuple[str, ...]


class PartState(NamedTuple):
    """Of a combined channel, what it has taken of one of its channels.

    place: of the last of its events.
    events: each with the number that it has in its own channel.
    """

    reached: int
    place: Place
    events: tuple[tuple[int, EventState], ...]


class CombinedState(NamedTuple):
    """A combined channel. feeds: the names of its channels, in its order."""

    feeds: tuple[str, ...]
    reached: int
    broke_at: int
    parts: tuple[PartState, ...]


class BeatState(NamedTuple):
    """A feed's place in time, in nanoseconds.

    due: None where it rests. With a computation under way, which stays where it is, the beat for
        which that is.
    kept: see pushdemo.push.broker.leading.Leader.
    """

    name: str
    origin: int
    due: int | None
    owed: int | None
    took: int
    failing_since: float | None
    failures: int
    kept: str = ""


class WaitingState(NamedTuple):
    """Clients that came together, whose response has not begun.

    deadlines: when each is to begin without an event, in seconds.
    """

    answer: Answer
    limit: int | None
    resume_from: Position | None
    reached: int
    known: tuple[str, ...]
    deadlines: tuple[float, ...]


class BlockedState(NamedTuple):
    """A client that is not ready to be written to.

    frame, start: what it is being sent, and how many bytes of that it has.
    reply: what it is owed after that.
    owes_since: since when it has taken nothing, in seconds, if that was seen.
    """

    frame: bytes
    start: int
    reached: int
    limit: int | None
    resume_from: Position | None
    owes_since: float | None
    reply: bytes = b""


class AudienceState(NamedTuple):
    """The clients of one source in one format. Their sockets come beside it, in the order: ready,
    limited, waiting, blocked.

    feeds: the names of those that the source is of.
    sent: when something was last sent to all, in seconds.
    told: the number of the last status of each feed that they were told of.
    ready: how many get each event without an end.
    limited: how many events each of the others is still to get.
    heard: of WebSockets, what came of some of them and is not dealt with, by their number in that
        order.
    """

    feeds: tuple[str, ...]
    framing: Framing
    reached: int
    sent: float
    told: Mapping[str, int]
    ready: int
    limited: tuple[int, ...]
    waiting: tuple[WaitingState, ...]
    blocked: tuple[BlockedState, ...]
    heard: tuple[tuple[int, bytes], ...] = ()

    @property
    def members(self) -> int:
        """How many clients, and sockets, there are."""
        waiting = sum(len(some.deadlines) for some in self.waiting)
        return self.ready + len(self.limited) + waiting + len(self.blocked)


class PublishedState(NamedTuple):
    """An event that was published with a key. until: when that is forgotten, in seconds."""

    feed: str
    key: str
    until: float
    event_id: str


class EngineState(NamedTuple):
    """All of an engine but the sockets."""

    channels: tuple[ChannelState, ...]
    combined: tuple[CombinedState, ...]
    beats: tuple[BeatState, ...]
    audiences: tuple[AudienceState, ...]
    published: tuple[PublishedState, ...] = ()


class OfferState(NamedTuple):
    """One client whose stream has not begun, for a process that has all others already."""

    feeds: tuple[str, ...]
    framing: Framing
    answer: Answer
    limit: int | None
    resume_from: Position | None
    reached: int
    known: tuple[str, ...]


VOCABULARY = Vocabulary(
    {
        Framing: (
            EventStream,
            HtmlStream,
            NdJson,
            Relay,
            Multipart,
            Images,
            Gzip,
            DocumentFraming,
            WebSocket,
        ),
        Answer: (StreamAnswer, PollAnswer, Continuation),
        MakeHead: (Head,),
    }
)
