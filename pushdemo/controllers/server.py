"""/server/index: the feeds, in whatever format a client wants them."""

from __future__ import annotations

import hmac
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import formatdate
from typing import Any, NoReturn
from urllib.parse import quote

from pushdemo.lib.addresses import reference
from pushdemo.lib.base import BaseController, abort, app_globals, request, response
from pushdemo.lib.negotiation import FORMATS, choose
from pushdemo.lib.stream_request import BadRequest, StreamRequest, check_lengths, read
from pushdemo.push.channel import Channel, Source
from pushdemo.push.compute.payload import Blob, Data, Text, UnknownType, received
from pushdemo.push.encode.document import Document
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.variants import images, named
from pushdemo.push.event import CannotCarry, Event, Value
from pushdemo.push.response import Headers, Response
from pushdemo.push.shorten import shorten
from pushdemo.push.stream import HANDS_OFF, Poll, Stream, TooManyStreams, Watch

# Seconds for which a client without a value is kept waiting for the first.
PATIENCE = 30
# What a compressed event may be of the event, or it is not worth the client's trouble.
WORTH = 0.75
RETRY_AFTER = ("Retry-After", "5")
_CHALLENGE = ("WWW-Authenticate", "Bearer")
_NO_VALUE = "There is no value yet, and the server's log says why. Try again in a few seconds."

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=UTF-8")


class ServerController(BaseController):
    """The seed's controller: one action, which streams."""

    def index(
        self,
        environ: dict[str, Any],
        id: str | None = None,  # noqa: A002  # the route's name for it
    ) -> Iterable[bytes] | None:
        """The feed called `id`, or several, `a+b`, or the first of the ini."""
        response.headers.update(self._headers())
        if request.method == "OPTIONS" and app_globals.cors:
            self._preflight()
            return None
        if request.method not in ("GET", "HEAD"):
            abort(405, "Read this address with GET.", [("Allow", "GET, HEAD")])
        try:
            asked = read(request, id)
        except BadRequest as error:
            abort(400, str(error))
        channels = self._channels(asked.feeds)
        newest = _newest(channels)
        name = choose(request, _formats(newest)) or self._refuse(channels)
        if (retry_in := _retry_in(channels)) is not None:
            abort(503, _NO_VALUE, [("Retry-After", str(math.ceil(retry_in)))])
        hands_off = HANDS_OFF in environ and request.method == "GET"
        try:
            if name in app_globals.framings:
                framing = app_globals.framings[name]
                return self._stream(channels, newest, asked, framing, hands_off)
            if len(channels) > 1:
                abort(400, "A single answer is of one feed: ask for each, or for a stream.")
            return self._single(channels[0], FORMATS[name], asked, hands_off)
        except TooManyStreams:
            abort(503, "All streams are taken. Try again in a few seconds.", [RETRY_AFTER])

    def feeds(self) -> str:
        """The feeds there are, as JSON, for pages that show them: a list of objects with `name`,
        `url` and `type`.

        url: a reference (RFC 3986, section 4.1), which the client resolves against the address of
            this list. It is relative, because the application may be behind a prefix that it does
            not know.
        type: the media type of the newest value; null where there is none yet.
        """
        response.content_type = "application/json"
        response.headers.update(self._headers())
        return json.dumps(
            [
                {
                    "name": channel.name,
                    "url": reference(request.environ, f"/server/index/{quote(channel.name)}"),
                    "type": None if channel.newest is None else _type_of(channel.newest),
                }
                for channel in app_globals.channels.values()
            ],
            ensure_ascii=False,
        )

    def publish(self, id: str) -> str:  # noqa: A002  # the route's name for it
        """A value from outside, for a feed that is declared `feed.NAME = push`."""
        if not app_globals.token:
            abort(404, "Nothing can be published here: push.token is not set.")
        if request.method != "POST":
            abort(405, "Publish with POST.", [("Allow", "POST")])
        try:
            check_lengths(request)
        except BadRequest as error:
            abort(400, str(error))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # In constant time, or the time it takes would tell how much of a guess is right.
        right = hmac.compare_digest(token.strip().encode(), app_globals.token.encode())
        if scheme.lower() != "bearer" or not right:
            abort(401, "Send Authorization: Bearer and the token.", [_CHALLENGE])
        if id not in app_globals.pushed:
            pushed = ", ".join(sorted(app_globals.pushed)) or "none"
            abort(404, f"There is no feed '{shorten(id)}' to publish to. There is: {pushed}.")
        if request.content_length is None:
            abort(411, "Send the value whole, with a Content-Length.")
        if request.content_length > app_globals.max_body:
            abort(413, f"Send at most {app_globals.max_body} bytes: see push.max_body.")
        try:
            payload = received(request.headers.get("Content-Type", ""), request.body)
        except OSError:  # the client left, and the server passes that on
            abort(400, "The value ended before its Content-Length.")
        except ValueError as error:
            abort(415 if isinstance(error, UnknownType) else 400, str(error))
        channel: Channel = app_globals.channels[id]
        # Good until the next comes, however long that takes.
        event = channel.publish(Value(payload, computed=time.time(), fresh_until=sys.maxsize))
        response.content_type = "text/plain"
        return f"{event.id}\n"

    def _channels(self, names: Sequence[str]) -> list[Channel]:
        channels: Mapping[str, Channel] = app_globals.channels
        if not channels:
            abort(404, "No feed is declared: add feed.NAME = package.module:function to the ini.")
        if not names:
            return [next(iter(channels.values()))]
        for name in names:
            if name not in channels:
                abort(404, f"There is no feed '{shorten(name)}'. There is: {', '.join(channels)}.")
        # In the ini's order, however they were asked for: the same feeds are the same stream.
        return [channel for name, channel in channels.items() if name in names]

    # An endless response

    def _stream(
        self,
        channels: list[Channel],
        newest: list[Event],
        asked: StreamRequest,
        framing: Framing,
        hands_off: bool,
    ) -> Stream:
        source = app_globals.combined.source(channels)
        if len(channels) > 1:
            framing = named(framing)
        if self._is_img():
            framing = images(framing)
        if request.method != "GET" or hands_off or newest:
            return self._open(channels, newest, source, asked, framing)
        # This server must know now whether the format will do. The feed stays watched from here to
        # the end of the stream, so that the event which was waited for is the stream's first.
        watch = Watch(source)
        try:
            if (event := watch.first(0, PATIENCE)) is not None:
                newest = [event]
            elif any(one.failing_since for one in source.statuses()):
                abort(503, _NO_VALUE, [RETRY_AFTER])
            return self._open(channels, newest, source, asked, framing, watch)
        except BaseException:
            watch.close()
            raise

    def _open(
        self,
        channels: list[Channel],
        newest: list[Event],
        source: Source,
        asked: StreamRequest,
        framing: Framing,
        watch: Watch | None = None,
    ) -> Stream:
        if not _carries(framing, newest):
            self._refuse(channels)
        compresses = asked.limit is None and self._takes_gzip()
        # What goes into an <img> had better stay as it is.
        unknown = "image/" not in request.headers.get("Accept", "")
        plain, formats = framing, _formats(newest)
        if compressed := compresses and _worth_compressing(framing, newest, unknown):
            framing = Gzip(framing)
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Type"] = framing.content_type
        # A proxy that collects a response before it passes it on would hold events back.
        response.headers["X-Accel-Buffering"] = "no"
        # What cannot be carried is bytes; or, for an <img>, all but those.
        refusal = self._refusal(list(FORMATS) if self._is_img() else ["multipart"])

        def still_valid() -> bool:
            # All that was made here of anything but the request and the ini.
            newest = _newest(channels)
            return (
                _retry_in(channels) is None
                and _formats(newest) == formats
                and _carries(plain, newest)
                and (compresses and _worth_compressing(plain, newest, unknown)) == compressed
            )

        stream: Stream = app_globals.streams.open(
            source, framing, refusal=refusal, failure=self._failure(), limit=asked.limit,
            resume_from=asked.resume_from, watch=watch,
            still_valid=still_valid if self._is_plain() else lambda: False,
        )  # fmt: skip
        return stream

    def _is_plain(self) -> bool:
        """Whether nothing was added that may look at more of a request than is looked at here, or
        say more to its client."""
        return type(self) is ServerController and not (
            hasattr(self, "__before__") or hasattr(self, "__after__")
        )

    def _is_img(self) -> bool:
        """Whether an <img> asks: alone among a browser's requests it wants an image most."""
        if "format" in request.GET:
            return False
        offers = ["multipart/x-mixed-replace", "text/html", "image/png"]
        acceptable = [offer for offer, _ in request.accept.acceptable_offers(offers)]
        return acceptable[:1] == ["image/png"]

    def _takes_gzip(self) -> bool:
        # No header would be read as: anything will do.
        return "Accept-Encoding" in request.headers and bool(
            request.accept_encoding.acceptable_offers(["gzip"])
        )

    # A single answer

    def _single(
        self, channel: Channel, content_type: str, asked: StreamRequest, hands_off: bool
    ) -> Poll | None:
        document = Document(content_type, tuple(self._headers()))
        newest = channel.newest
        known = newest is not None and newest.id in request.if_none_match
        wait = asked.wait
        if wait is not None:
            document = document.with_header("Preference-Applied", f"wait={wait}")
        if newest is not None and not known:
            self._answer(channel, document, newest)
            return None
        if newest is not None:
            nothing_new = Response("304 Not Modified", [*document.headers, ("ETag", newest.etag)])
        else:
            nothing_new = self._failure()
        patience = wait if wait is not None else 0 if known else PATIENCE
        reached = 0 if newest is None else newest.sequence
        if newest is None and request.method == "HEAD":  # it has no body to wait for
            nothing_new = Response("200 OK", [*document.headers, ("Content-Type", content_type)])
        if not patience or request.method == "HEAD":
            self._respond(nothing_new)
            return None
        if hands_off:
            poll: Poll = app_globals.streams.poll(
                channel,
                document,
                refusal=self._refusal(["multipart"]),
                failure=self._failure(),
                nothing_new=nothing_new,
                reached=reached,
                wait=patience,
            )
            return poll
        with Watch(channel) as watch:
            event = watch.first(reached, patience)
        if event is None:
            self._respond(nothing_new)
        else:
            self._answer(channel, document, event)
        return None

    def _answer(self, channel: Channel, document: Document, event: Event) -> None:
        for status in channel.statuses():
            if status.failing_since is not None:
                # The last good value, marked as such (RFC 9111, section 5.1).
                age = max(0, int(time.time() - event.value.computed))
                failing_since = formatdate(status.failing_since, usegmt=True)
                document = document.with_header("Age", str(age))
                document = document.with_header("Feed-Failing-Since", failing_since)
        try:
            self._respond(document.response(event))
        except CannotCarry:
            self._refuse([channel])

    def _respond(self, answer: Response) -> None:
        response.status = answer.status
        response.headers.clear()
        if answer.body:
            response.body = answer.body
        response.headers.update(answer.headers)

    # What they have in common

    def _headers(self) -> Headers:
        return [
            ("Cache-Control", "no-store"),
            ("Vary", "Accept, Accept-Encoding, Origin"),
            *app_globals.cors.headers(request.headers.get("Origin")),
        ]

    def _preflight(self) -> None:
        response.status = 204
        response.content_type = response.content_length = None  # it has no content
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
        response.headers["Access-Control-Allow-Headers"] = "Last-Event-ID, If-None-Match, Prefer"
        response.headers["Access-Control-Max-Age"] = "86400"

    def _refuse(self, channels: list[Channel]) -> NoReturn:
        abort(406, _advice(_formats(_newest(channels))))

    def _refusal(self, names: list[str]) -> Response:
        """The same for a value that is not known yet."""
        body = f"406 Not Acceptable\n\n{_advice(names)}\n".encode()
        headers = [*self._headers(), _PLAIN_TEXT]
        return Response("406 Not Acceptable", headers, body)

    def _failure(self) -> Response:
        """That there is no value, and that it is not for want of waiting."""
        body = f"503 Service Unavailable\n\n{_NO_VALUE}\n".encode()
        return Response(
            "503 Service Unavailable", [*self._headers(), RETRY_AFTER, _PLAIN_TEXT], body
        )


def _newest(channels: list[Channel]) -> list[Event]:
    """The newest event of each channel that has one."""
    return [event for channel in channels if (event := channel.newest) is not None]


def _retry_in(channels: list[Channel]) -> float | None:
    """The seconds until the first of some feeds is tried again, which all fail and none of which
    has a value to show. None where there is one, or will be as soon as it is computed."""
    waits = [channel.retry_in for channel in channels]
    known = [wait for wait in waits if wait]  # and not 0: that one is tried as soon as it is asked
    return min(known) if len(known) == len(waits) else None


def _formats(newest: list[Event]) -> list[str]:
    """Those that can carry what is known of some channels."""
    if any(isinstance(event.value.payload, Blob) for event in newest):
        return ["multipart"]
    return list(FORMATS)


def _carries(framing: Framing, newest: list[Event]) -> bool:
    return all(event.frame(framing) for event in newest)


def _worth_compressing(framing: Framing, newest: list[Event], unknown: bool) -> bool:
    """`unknown` is the answer where there are no events to tell by."""
    if not newest:
        return unknown
    compressed = Gzip(framing)
    return not any(
        isinstance(event.value.payload, Blob)
        or len(event.frame(compressed)) > WORTH * len(event.frame(framing))
        for event in newest
    )


def _advice(names: list[str]) -> str:
    formats = (f"{FORMATS[name]} (or format={name})" for name in names)
    return f"What there is: {', '.join(formats)}."


def _type_of(event: Event) -> str:
    match event.value.payload:
        case Text():
            return "text/plain"
        case Data():
            return "application/json"
        case Blob(_, content_type):
            return content_type
