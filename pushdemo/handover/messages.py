"""What a worker asks of the broadcaster, and what it is answered.

All of it is checked where it is made and where it arrives, by the same code: a `Request` that
exists can be used as it is, and its headers can be written into a response.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pushdemo.handover import wire
from pushdemo.handover.wire import Malformed, Message
from pushdemo.push.published import check_key

MAX_VARIABLES = 500  # in a request's environ
MAX_HEADERS = 200
LONGEST_NAME = 1000  # characters, of a feed's name, of several, or of a content type
LONGEST_EXPLANATION = 1000

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5


class Refused(ValueError):
    """The broadcaster has understood, and will not do it: there is no such feed, for one."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request. The client's connection comes with it.

    environ: what CGI says of it, and WSGI's environ has: REQUEST_METHOD, HTTP_ACCEPT and so on, as
        the native strings of PEP 3333, whose characters stand for bytes.
    feeds: "orders", "a+b", or None for the first.
    headers: those of the application's response, which the broadcaster's response is to have too.

    Raises ValueError where one of these is of another type, is too large, or is a header that HTTP
    does not allow.
    """

    environ: Mapping[str, str]
    feeds: str | None = None
    headers: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        if len(self.environ) > MAX_VARIABLES:
            raise ValueError(f"environ has more than {MAX_VARIABLES} variables")
        if len(self.headers) > MAX_HEADERS:
            raise ValueError(f"there are more than {MAX_HEADERS} headers")
        for name, value in self.environ.items():
            if not (_is_native(name) and _is_native(value)):
                raise ValueError(f"{name!r} in environ is no native string (PEP 3333)")
        for name, value in self.headers:
            _check_header(name, value)
        if self.feeds is not None:
            _check_name("feeds", self.feeds)


@dataclass(frozen=True, slots=True)
class Publication:
    """A value for a feed. Raises ValueError where the texts are of another type or too long.

    key: see pushdemo.push.published.
    """

    feed: str
    content_type: str
    body: bytes
    key: str | None = None

    def __post_init__(self) -> None:
        _check_name("the feed's name", self.feed)
        _check_name("the content type", self.content_type)
        if not self.content_type.isascii():
            raise ValueError("the content type is not in ASCII")
        if self.key is not None:
            _check_name("the key", self.key)
            check_key(self.key)


@dataclass(frozen=True, slots=True)
class Adoption:
    """A client whose stream was to begin in a process that this one has taken over from. The
    client's connection comes with it.

    state: see pushdemo.push.engine.Engine.adopt.
    """

    state: bytes


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A process wants to take over. version: of that protocol, see pushdemo.handover.takeover."""

    version: int

    def __post_init__(self) -> None:
        if type(self.version) is not int:
            raise ValueError("the version is no integer")


@dataclass(frozen=True, slots=True)
class HealthQuestion:
    """How is the broadcaster?"""


Call = Request | Publication | Adoption | TakeOver | HealthQuestion


def call_message(call: Call) -> bytes:
    """The message that asks for this, up to its body (see `body_of`). Raises ValueError where a
    request is too large."""
    match call:
        case Request(environ, feeds, headers):
            header = {"environ": dict(environ), "feeds": feeds, "headers": list(headers)}
            return wire.encode({"call": "take", **header})
        case Publication(feed, content_type, body, key):
            header = {"call": "publish", "feed": feed, "content_type": content_type, "key": key}
            return wire.encode(header, len(body))
        case Adoption(state):
            return wire.encode({"call": "adopt"}, len(state))
        case TakeOver(version):
            return wire.encode({"call": "take over", "version": version})
        case _:
            return wire.encode({"call": "health"})


def body_of(call: Call) -> bytes:
    """What follows the message."""
    match call:
        case Publication(_, _, body, _):
            return body
        case Adoption(state):
            return state
    return b""


def read_call(message: Message) -> Call:
    """What is asked for. Raises Malformed."""
    header, body = message
    name = header.get("call")
    try:
        if name == "publish":
            return Publication(header["feed"], header["content_type"], body, header.get("key"))
        if name == "adopt":
            return Adoption(body)
        if body:
            raise ValueError("a body, where none belongs")
        if name == "take":
            headers = [(name, value) for name, value in header["headers"]]
            return Request(header["environ"], header["feeds"], headers)
        if name == "take over":
            return TakeOver(header["version"])
        if name == "health":
            return HealthQuestion()
        raise ValueError("there is no such call")
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Malformed(f"{name!r:.50}: {error}") from None


Status = Literal[
    "done",
    "refused",  # what was asked for is wrong, and will be tomorrow
    "unavailable",  # the broadcaster cannot do it now
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broadcaster says to a call.

    explanation: why it was not done, in one line.
    result: what was asked for: an event's id, or the broadcaster's health.
    """

    status: Status
    explanation: str = ""
    result: object = None


def answer_message(answer: Answer) -> bytes:
    """The message that says this. Raises ValueError and TypeError where JSON does not have the
    result, or it is too large."""
    explanation = " ".join(answer.explanation[:LONGEST_EXPLANATION].split())
    return wire.encode(
        {"status": answer.status, "explanation": explanation, "result": answer.result}
    )


def read_answer(message: Message) -> Answer:
    """What is said. Raises Malformed."""
    header = message.header
    status: Any = header.get("status")
    explanation = header.get("explanation")
    if status not in get_args(Status) or not isinstance(explanation, str):
        raise Malformed("the answer has no status and explanation")
    return Answer(status, explanation, header.get("result"))


def _is_native(text: object) -> bool:
    # Not an `encode` that may fail: every request has dozens of these.
    return isinstance(text, str) and (text.isascii() or max(text) <= "\xff")


def _check_name(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.isprintable() or len(text) > LONGEST_NAME:
        raise ValueError(f"{what}: no printable text of at most {LONGEST_NAME} characters")


def _check_header(name: object, value: object) -> None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r:.50} is no name of a header")
    if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError(f"{name}: a value that HTTP does not allow")
