"""What a request asks of the feeds, as one value: read, bounded and validated once, at the door.

Everything that a client says is looked at here, in the request's own thread. What cannot be meant
is a BadRequest, which says what is wrong: a 400. What goes on to the streams is numbers and names,
and cannot fail there.

- The query, the feeds' names and each header that is read have at most MOST characters: whoever
  parses them afterwards, in whatever time, has little to parse.
- A stream has at most MOST_FEEDS feeds.
- `limit` is a whole number, and is given once, as every parameter is.
- An id to resume from is any text: one that is none of ours is a position that no feed knows. Its
  client is told that events may be missing, and goes on. A 400 would end an EventSource for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pushdemo.lib.negotiation import preferred_wait
from pushdemo.lib.web import Request
from pushdemo.push.position import Position, position_of
from pushdemo.push.shorten import shorten

MOST = 4096  # characters
MOST_FEEDS = 100
MOST_DIGITS = 18  # of a limit

# The headers that are read here and after.
HEADERS = ("Accept", "Accept-Encoding", "Authorization", "Content-Type", "If-None-Match",
           "Last-Event-ID", "Origin", "Prefer")  # fmt: skip
PARAMETERS = ("format", "last_event_id", "limit")
SEPARATOR = "+"  # of feeds' names


class BadRequest(ValueError):
    """A client asks for what cannot be meant. The message says what, and what would be right."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What is asked for. The format is chosen by what there is: see negotiation.py.

    feeds: their names; none for the first feed that there is.
    limit: after how many events the stream ends, at least 1; None for no end.
    resume_from: where the client left off; None where it has not seen anything.
    wait: for how many seconds it would wait for something new; None where it does not say.
    """

    feeds: tuple[str, ...]
    limit: int | None
    resume_from: Position | None
    wait: int | None


def read(request: Request, feeds: str | None) -> StreamRequest:
    """What a request for `feeds`, as its address has them (`a+b`), asks for. Raises BadRequest."""
    check_lengths(request)
    try:
        query = {name: request.GET.getall(name) for name in PARAMETERS}
    except UnicodeDecodeError:
        raise BadRequest("The query is not percent-encoded UTF-8.") from None
    for name, values in query.items():
        if len(values) > 1:
            raise BadRequest(f"{name} is given {len(values)} times: give it once.")
    last_id = request.headers.get("Last-Event-ID") or _only(query["last_event_id"])
    return StreamRequest(
        feeds=_names(feeds),
        limit=_limit(_only(query["limit"])),
        resume_from=position_of(last_id) if last_id else None,
        wait=preferred_wait(request),
    )


def check_lengths(request: Request) -> None:
    """Raises BadRequest where more is said than anybody has to say."""
    _check_length("the query", request.query_string)
    for name in HEADERS:
        _check_length(f"the header {name}", request.headers.get(name, ""))


def _check_length(what: str, text: str) -> None:
    if len(text) > MOST:
        raise BadRequest(f"Send at most {MOST} characters in {what}; it has {len(text)}.")


def _only(values: Sequence[str]) -> str | None:
    return values[0] if values else None


def _names(feeds: str | None) -> tuple[str, ...]:
    if feeds is None:
        return ()
    _check_length("the names of the feeds", feeds)
    names = feeds.split(SEPARATOR)
    if len(names) > MOST_FEEDS:
        raise BadRequest(f"Ask for at most {MOST_FEEDS} feeds; the address names {len(names)}.")
    return tuple(names)


def _limit(given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= MOST_DIGITS and int(given) > 0):
        raise BadRequest(
            f"limit={shorten(given)}: give a whole number of at least 1, or leave it out."
        )
    return int(given)
