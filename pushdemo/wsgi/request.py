"""What a request asks of the feeds, as one value. It is read, bounded and validated once.

Everything that a client sends is looked at here, in the request's own thread. A request that makes
no sense raises RequestError, which says what is wrong; its response has status 400. What goes on to
the streams is numbers and names, and cannot fail there.

- The query, the feeds' names and each header that is read have at most MOST characters. Parsers
  that are not linear in their input therefore have little to parse.
- A stream has at most MOST_FEEDS feeds.
- `limit` is a whole number. No parameter may be given twice.
- `Last-Event-ID` may be any text. An id that this program did not make is a position that no feed
  knows: its client is told that events may be missing, and the stream goes on. A 400 would end an
  EventSource for good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pushdemo.push.position import Position, position_of
from pushdemo.push.shorten import shorten
from pushdemo.wsgi.accepting import accepting
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.formats import preferred_wait
from pushdemo.wsgi.handshake import HANDSHAKE, Upgrade, upgrade_of
from pushdemo.wsgi.web import AnyETag, Request

MOST = 4096  # characters
MOST_FEEDS = 100
MOST_DIGITS = 18  # of a limit

# The headers that are read here and by pushdemo.wsgi.cors.
HEADERS = ("Accept", "Accept-Encoding", "Authorization", "Content-Type", "Idempotency-Key",
           "If-None-Match", "Last-Event-ID", "Origin", "Prefer", *HANDSHAKE)  # fmt: skip
PARAMETERS = ("format", "last_event_id", "limit")
SEPARATOR = "+"  # of feeds' names


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a request asks for.

    method: GET, HEAD, or any other.
    feeds: their names; none for the first feed that is declared.
    format: the name of the format in the query (a key of pushdemo.wsgi.formats.FORMATS, or a name
        that does not exist); None where the query has none.
    accepted: the names of the formats that the Accept header allows, best first.
    limit: after how many events the stream ends, at least 1; None for no end.
    resume_from: where the client left off; None where it has seen no event.
    wait: seconds that it would wait for something new; None where it does not say.
    known: the ids of the events that it has (If-None-Match); None for whichever there is (`*`).
    origin: of the page that asks, as a browser sends it; None for no page of another origin.
    accepts_gzip: whether the Accept-Encoding header names gzip.
    accepts_images: whether the Accept header names images. Their bytes are compressed already.
    accept: the Accept header, and
    ranges: the media ranges that it allows, in lower case.
    is_image: whether an <img> asks: alone among a browser's requests it prefers an image.
    upgrade: the WebSocket that it asks for; None for an ordinary response.
    """

    method: str
    feeds: tuple[str, ...]
    format: str | None
    accepted: tuple[str, ...]
    limit: int | None
    resume_from: Position | None
    wait: int | None
    known: frozenset[str] | None
    origin: str | None
    accepts_gzip: bool
    accepts_images: bool
    accept: str
    ranges: tuple[str, ...]
    is_image: bool
    upgrade: Upgrade | None = None

    def choose(self, names: Collection[str]) -> str | None:
        """The format for this request, out of those called `names`: the one that the query names,
        which is for people and for scripts that cannot set headers, or else the best that the
        Accept header allows (RFC 9110, section 12.5.1). None if there is none."""
        if self.format is not None:
            return self.format if self.format in names else None
        return next((name for name in self.accepted if name in names), None)

    def knows(self, event_id: str) -> bool:
        """Whether the client has this event (RFC 9110, section 13.1.2)."""
        return self.known is None or event_id in self.known


def read(request: Request, feeds: str | None) -> StreamRequest:
    """What a request for `feeds`, as its address has them (`a+b`), asks for. Raises
    RequestError."""
    check_lengths(request)
    try:
        query = {name: request.GET.getall(name) for name in PARAMETERS}
    except UnicodeDecodeError:
        raise RequestError(400, "The query is not percent-encoded UTF-8.") from None
    for name, values in query.items():
        if len(values) > 1:
            raise RequestError(400, f"{name} is given {len(values)} times: give it once.")
    last_id = request.headers.get("Last-Event-ID") or _only(query["last_event_id"])
    named = _only(query["format"])
    accepts = accepting(request.headers.get("Accept"), request.headers.get("Accept-Encoding"))
    return StreamRequest(
        method=request.method,
        feeds=_names(feeds),
        format=named,
        accepted=accepts.formats,
        limit=_limit(_only(query["limit"])),
        resume_from=position_of(last_id) if last_id else None,
        wait=preferred_wait(request),
        known=_known(request),
        origin=request.headers.get("Origin"),
        accepts_gzip=accepts.gzip,
        accepts_images=accepts.images,
        accept=request.headers.get("Accept", ""),
        ranges=accepts.ranges,
        is_image=named is None and accepts.prefers_image,
        upgrade=upgrade_of(request),
    )


def check_lengths(request: Request) -> None:
    """Raises RequestError where the request is longer than any that makes sense."""
    _check_length("the query", request.query_string)
    for name in HEADERS:
        _check_length(f"the header {name}", request.headers.get(name, ""))


def _check_length(what: str, text: str) -> None:
    if len(text) > MOST:
        raise RequestError(400, f"Send at most {MOST} characters in {what}; it has {len(text)}.")


def _only(values: Sequence[str]) -> str | None:
    return values[0] if values else None


def _names(feeds: str | None) -> tuple[str, ...]:
    if feeds is None:
        return ()
    _check_length("the names of the feeds", feeds)
    names = feeds.split(SEPARATOR)
    if len(names) > MOST_FEEDS:
        raise RequestError(
            400, f"Ask for at most {MOST_FEEDS} feeds; the address names {len(names)}."
        )
    return tuple(names)


def _known(request: Request) -> frozenset[str] | None:
    tags = request.if_none_match
    if tags is AnyETag:
        return None
    return frozenset(getattr(tags, "etags", ()))


def _limit(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= MOST_DIGITS and int(given) > 0):
        raise RequestError(
            400, f"limit={shorten(given)}: give a whole number of at least 1, or leave it out."
        )
    return int(given)
