"""The response to a request for feeds: its status, its headers, and a stream, a poll or a document.

Every decision about a response is made here, for all applications and all servers: whether the
feeds exist, which format the client gets, whether it is compressed, and what is answered where
there is no value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, NoReturn

from pushdemo.push.channel import Channel, Source
from pushdemo.push.compute.payload import Blob
from pushdemo.push.deliver.answer import Condition, Fallbacks
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.document import AS_IT_IS, FRAGMENT, Document
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.variants import form_of, images, named
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.engine import Engine
from pushdemo.push.event import CannotCarry, Event
from pushdemo.push.exposition import METRICS, NotInstalled, exposition
from pushdemo.push.position import position_of
from pushdemo.push.response import Headers, Response
from pushdemo.push.shorten import shorten
from pushdemo.push.stream import Stream, Streams, TooManyStreams, Watch
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.formats import FORMATS, HTML, PUBLIC, RAW
from pushdemo.wsgi.request import StreamRequest

# Seconds for which a client without a value is kept waiting for the first.
PATIENCE = 30
# A compressed event that is larger than this share of the plain one is not worth the work.
WORTH = 0.75
RETRY_AFTER = ("Retry-After", "5")
PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    ("Access-Control-Allow-Headers", "Last-Event-ID, If-None-Match, Prefer"),
    ("Access-Control-Max-Age", "86400"),
)
_NO_VALUE = "There is no value yet, and the server's log says why. Try again in a few seconds."
_PLAIN_TEXT = ("Content-Type", "text/plain; charset=UTF-8")


class Caller(NamedTuple):
    """What the server and the application of a request allow.

    hands_off: the connection can be taken off the server, so that no thread waits.
    threads: how many streams may hold a thread each, where `hands_off` is false.
    cors: pages of other origins may read the streams.
    shareable: the application looks at nothing of a request but what a StreamRequest has, so that
        equal requests have the same response.
    """

    hands_off: bool
    threads: int = 0
    cors: bool = False
    shareable: bool = False


class WsgiResponse(NamedTuple):
    """What a WSGI application passes to start_response and returns."""

    status: str
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


class Responder:
    """Answers one request from the channels of this process.

    headers: those that every response has.
    """

    def __init__(self, engine: Engine, headers: Headers) -> None:
        self._engine = engine
        self._headers = headers

    def respond(self, asked: StreamRequest, caller: Caller) -> WsgiResponse:
        """The response. Its body may be a Stream or a Poll, which must be closed or handed off.

        Raises RequestError.
        """
        try:
            return self._respond(asked, caller)
        except TooManyStreams:
            raise RequestError(503, self._full(caller), [RETRY_AFTER]) from None

    def _respond(self, asked: StreamRequest, caller: Caller) -> WsgiResponse:
        if asked.method == "OPTIONS" and caller.cors:
            return WsgiResponse("204 No Content", [*self._headers, *PREFLIGHT], [])
        if asked.method not in ("GET", "HEAD"):
            raise RequestError(405, "Read this address with GET.", [("Allow", "GET, HEAD")])
        if asked.feeds == (METRICS,):
            return self._metrics(asked)
        return _Selection(self._engine, self._headers, asked, caller).respond()

    def _metrics(self, asked: StreamRequest) -> WsgiResponse:
        try:
            content_type, body = exposition(self._engine.reports(), asked.accept)
        except NotInstalled:
            raise RequestError(
                501, "Metrics need prometheus_client: pip install 'pushdemo[metrics]'."
            ) from None
        return whole(Response("200 OK", [*self._headers, ("Content-Type", content_type)], body))

    @staticmethod
    def _full(caller: Caller) -> str:
        if caller.hands_off:
            return "All streams are taken. Try again in a few seconds."
        if not caller.threads:
            return (
                "This server answers one request at a time, and a stream would occupy it."
                " The server's log says what to do."
            )
        return (
            f"This server holds at most {caller.threads} streams, with a thread each."
            " Try again in a few seconds."
        )


class _Selection:
    """The channels that one request selects, and the response that is made of them."""

    def __init__(
        self, engine: Engine, headers: Headers, asked: StreamRequest, caller: Caller
    ) -> None:
        self._engine = engine
        self._headers = headers
        self._asked = asked
        self._caller = caller
        self._channels = self._select(engine.channels, engine.all_channels)

    @property
    def _streams(self) -> Streams:
        """Where the places of streams are counted."""
        if self._caller.hands_off:
            return self._engine.streams
        return self._engine.threaded(self._caller.threads)

    def respond(self) -> WsgiResponse:
        newest = _newest(self._channels)
        if self._asked.upgrade is not None:
            return self._stream(WebSocket(self._asked.upgrade.deflate), newest)
        names = (*_formats(newest), "relay", *self._html)
        name = self._asked.choose(names) or self._as_it_is(newest)
        if (retry_in := _retry_in(self._channels)) is not None:
            raise RequestError(503, _NO_VALUE, [("Retry-After", str(math.ceil(retry_in)))])
        if name == "relay" and len(self._channels) > 1:
            raise RequestError(400, "A relay is of one feed: ask for each.")
        if name in self._engine.framings:
            return self._stream(self._engine.framings[name], newest)
        if len(self._channels) > 1:
            raise RequestError(
                400, "A single answer is of one feed: ask for each, or for a stream."
            )
        if name == "fragment":
            return self._single(self._channels[0], Document(FRAGMENT))
        if name == RAW:
            return self._single(self._channels[0], Document(AS_IT_IS, ranges=self._ranges))
        return self._single(self._channels[0], Document(FORMATS[name]))

    @property
    def _html(self) -> tuple[str, ...]:
        """The formats of HTML, where all feeds have it."""
        return tuple(HTML) if all(map(self._engine.has_template, self._channels)) else ()

    @property
    def _ranges(self) -> tuple[str, ...]:
        """Where the query names the format, the Accept header does not count."""
        return self._asked.ranges if self._asked.format is None else ()

    def _as_it_is(self, newest: Sequence[Event]) -> str:
        """RAW, where that is asked for, or nothing that a format can do: a picture's own type."""
        if self._asked.format not in (None, RAW):
            self._refuse()
        if self._asked.format is None and (not self._ranges or self._asked.accepted):
            self._refuse()
        try:
            for event in newest:
                Document(AS_IT_IS, ranges=self._ranges).response(event)
        except CannotCarry:
            self._refuse()
        return RAW

    def _select(
        self, channels: Mapping[str, Channel], known: Mapping[str, Channel]
    ) -> list[Channel]:
        if not channels and not self._asked.feeds:
            raise RequestError(
                404,
                "No feed is declared: decorate a function with push.feed, or add feed.NAME ="
                " package.module:function to the ini.",
            )
        names = self._asked.feeds
        if not names:
            return [next(iter(channels.values()))]
        for name in names:
            if name not in known:
                raise RequestError(
                    404, f"There is no feed '{shorten(name)}'. There is: {', '.join(channels)}."
                )
        # In the order of their declaration, so that the same feeds are always the same stream.
        return [channel for name, channel in known.items() if name in names]

    # An endless response

    def _stream(self, framing: Framing, newest: list[Event]) -> WsgiResponse:
        source = self._engine.combined.source(self._channels)
        if len(self._channels) > 1:
            framing = named(framing)
        if self._asked.is_image and self._asked.upgrade is None:
            framing = images(framing)
        if self._asked.method == "HEAD":
            return self._describe(framing, newest)
        if self._caller.hands_off or newest:
            return self._open(source, framing, newest)
        # This server must know now whether the format can carry the values. The feed stays watched
        # from here to the end of the stream, so that the event which was waited for is the stream's
        # first.
        streams = self._streams
        if not streams.places.take():
            raise TooManyStreams
        watch = Watch(source)
        try:
            try:
                if (event := watch.first(0, PATIENCE)) is not None:
                    newest = [event]
                elif any(status.failing_since for status in source.statuses()):
                    raise RequestError(503, _NO_VALUE, [RETRY_AFTER])
            finally:
                streams.places.leave()
            return self._open(source, framing, newest, watch)
        except BaseException:
            watch.close()
            raise

    def _open(
        self, source: Source, framing: Framing, newest: list[Event], watch: Watch | None = None
    ) -> WsgiResponse:
        described, headers, _ = self._describe(framing, newest)
        compresses = self._compresses(framing, newest)
        formats = _formats(newest)

        def still_valid() -> bool:
            # Everything that was decided here from anything but the request and the options.
            now = _newest(self._channels)
            return (
                _retry_in(self._channels) is None
                and _formats(now) == formats
                and _carries(framing, now)
                and self._compresses(framing, now) == compresses
            )

        stream: Stream = self._streams.open(
            Subscription(
                source,
                Gzip(framing) if compresses else framing,
                limit=self._asked.limit,
                resume_from=self._asked.resume_from,
            ),
            # What cannot be carried is bytes; or, for an <img>, everything else.
            self._fallbacks(list(PUBLIC) if self._asked.is_image else ["multipart"]),
            watch=watch,
            still_valid=still_valid if self._caller.shareable else lambda: False,
        )
        return WsgiResponse(described, headers, stream)

    def _describe(self, framing: Framing, newest: list[Event]) -> WsgiResponse:
        """The status and headers of a stream."""
        if not _carries(framing, newest):
            self._refuse()
        headers = [*self._headers]
        if self._asked.upgrade is not None:
            headers += self._asked.upgrade.headers()
            return WsgiResponse("101 Switching Protocols", headers, [])
        if self._compresses(framing, newest):
            headers.append(("Content-Encoding", "gzip"))
        headers.append(("Content-Type", framing.content_type))
        # A proxy that collects a response before it passes it on would hold events back.
        headers.append(("X-Accel-Buffering", "no"))
        return WsgiResponse("200 OK", headers, [])

    def _compresses(self, framing: Framing, newest: list[Event]) -> bool:
        asked = self._asked
        if asked.limit is not None or asked.upgrade is not None or not asked.accepts_gzip:
            return False
        # Images are compressed already.
        return _worth_compressing(framing, newest, unknown=not asked.accepts_images)

    # A single answer

    def _single(self, channel: Channel, document: Document) -> WsgiResponse:
        asked = self._asked
        document = replace(document, headers=tuple(self._headers))
        newest = channel.newest
        # A client may have what has not come to this process yet: then that is not new to it, and
        # what is here is old.
        known = newest is not None and (asked.knows(newest.id) or self._is_ahead(channel))
        if asked.wait is not None:
            document = document.with_header("Preference-Applied", f"wait={asked.wait}")
        if newest is not None and not known:
            return self._answer(channel, document, newest)
        if newest is not None:
            nothing_new = Response("304 Not Modified", [*document.headers, ("ETag", newest.etag)])
        else:
            nothing_new = self._failure()
        patience = asked.wait if asked.wait is not None else 0 if known else PATIENCE
        reached = 0 if newest is None else newest.sequence
        if newest is None and asked.method == "HEAD":  # it has no body to wait for
            described = [("Content-Type", document.content_type)]
            if document.content_type == AS_IT_IS:
                described = []
            nothing_new = Response("200 OK", [*document.headers, *described])
        if not patience or asked.method == "HEAD":
            return whole(nothing_new)
        streams = self._streams
        if self._caller.hands_off:
            condition = Condition(reached, patience, nothing_new, tuple(asked.known or ()))
            poll = streams.poll(channel, document, condition, self._fallbacks(["multipart"]))
            return WsgiResponse("200 OK", list(document.headers), poll)
        if not streams.places.take():
            raise TooManyStreams
        try:
            with Watch(channel) as watch:
                event = watch.first(reached, patience, tuple(asked.known or ()))
        finally:
            streams.places.leave()
        return whole(nothing_new) if event is None else self._answer(channel, document, event)

    def _is_ahead(self, channel: Channel) -> bool:
        known = self._asked.known or ()
        return any(channel.has_ahead(position_of(event_id)) for event_id in known)

    def _answer(self, channel: Channel, document: Document, event: Event) -> WsgiResponse:
        for status in channel.statuses():
            if status.failing_since is not None:
                # The last good value, marked as such (RFC 9111, section 5.1).
                age = max(0, int(time.time() - event.value.computed))
                failing_since = formatdate(status.failing_since, usegmt=True)
                document = document.with_header("Age", str(age))
                document = document.with_header("Feed-Failing-Since", failing_since)
        try:
            response = document.response(event)
        except CannotCarry:
            self._refuse()
        counts = self._engine.counts.streams(channel.name, form_of(document))
        counts[channel.name].deliver(len(response.body))
        return whole(response)

    # What they have in common

    def _refuse(self) -> NoReturn:
        if self._asked.format in HTML and not self._html:
            raise RequestError(
                406, "There is no HTML of this feed: feed.NAME.template names what makes it."
            )
        raise RequestError(406, _advice(_formats(_newest(self._channels))))

    def _fallbacks(self, names: list[str]) -> Fallbacks:
        """The same for a value that is not known yet.

        names: the formats that can carry what the asked one cannot.
        """
        return Fallbacks(self._error(406, _advice(names)), self._failure())

    def _failure(self) -> Response:
        """That there is no value, and that it is not for want of waiting."""
        return self._error(503, _NO_VALUE, [RETRY_AFTER])

    def _error(self, status: int, detail: str, headers: Headers = ()) -> Response:
        return error_response(RequestError(status, detail, [*self._headers, *headers]))


def error_response(error: RequestError) -> Response:
    """An error as a plain text response."""
    status = status_line(error.status)
    return Response(status, [*error.headers, _PLAIN_TEXT], f"{status}\n\n{error.detail}\n".encode())


def whole(response: Response) -> WsgiResponse:
    """A response that is complete, with its length."""
    headers = [*response.headers]
    if not response.body:  # 304, or the answer to HEAD where the length is not known yet
        return WsgiResponse(response.status, headers, [])
    headers.append(("Content-Length", str(len(response.body))))
    return WsgiResponse(response.status, headers, [response.body])


def _newest(channels: Sequence[Channel]) -> list[Event]:
    """The newest event of each channel that has one."""
    return [event for channel in channels if (event := channel.newest) is not None]


def _retry_in(channels: Sequence[Channel]) -> float | None:
    """The seconds until the first of some feeds is tried again, which all fail and none of which
    has a value to show. None where there is one, or will be as soon as it is computed."""
    waits = [channel.retry_in for channel in channels]
    known = [wait for wait in waits if wait]  # 0 is no wait: that one is tried when it is asked for
    return min(known) if len(known) == len(waits) else None


def _formats(newest: Sequence[Event]) -> list[str]:
    """Those that can carry what is known of some channels, and that a client may choose from."""
    if any(isinstance(event.value.payload, Blob) for event in newest):
        return ["multipart"]
    return list(PUBLIC)


def _carries(framing: Framing, newest: Sequence[Event]) -> bool:
    return all(event.frame(framing) for event in newest)


def _worth_compressing(framing: Framing, newest: Sequence[Event], *, unknown: bool) -> bool:
    """unknown: the answer where there are no events to tell by."""
    if not newest:
        return unknown
    compressed = Gzip(framing)
    return not any(
        isinstance(event.value.payload, Blob)
        or len(event.frame(compressed)) > WORTH * len(event.frame(framing))
        for event in newest
    )


def _advice(names: Sequence[str]) -> str:
    formats = (f"{FORMATS[name]} (or format={name})" for name in names)
    return f"What there is: {', '.join(formats)}."


def status_line(status: HTTPStatus) -> str:
    """A status as start_response takes it."""
    return f"{status.value} {status.phrase}"
