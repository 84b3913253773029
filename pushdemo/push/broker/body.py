"""What a broker carries: values and statuses as bytes.

    body = one line of JSON, LF, content, and of some values their HTML

The line says what version it is of, and what the content is. Nodes of two releases may share a
broker for a while, so what is of another version is refused as such, and what is unknown in a line
of this version is passed over. Nothing that is read here runs code.

Times are the engine's, in nanoseconds: see clock.py.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any, NamedTuple

from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.compute.feed import SECOND
from pushdemo.push.compute.payload import Blob, Data, Payload, Text, payload_of, received
from pushdemo.push.event import Value

VERSION = 1
WITH_HTML = 2  # the same, and HTML after the value
_LONGEST_HEAD = 16 * 1024


class Unreadable(ValueError):
    """The message says why, in one line."""


class OtherVersion(Unreadable):
    """A node of another release has made it."""


class Status(NamedTuple):
    """How a feed is.

    failing_since: in seconds since the epoch; None where it works.
    retry_at: when it is tried again, and
    fresh_until: until when its newest value is good, in nanoseconds of the monotonic clock; 0 for
        what was said before.
    """

    failing_since: float | None
    retry_at: int = 0
    fresh_until: int = 0


class Sent(NamedTuple):
    """A value, and what who computes the feed says with it.

    interval: of the feed, in seconds, for nodes that are told another.
    status: how the feed is: it may fail, and send its last value meanwhile. None where who sends
        it does not know.
    """

    value: Value
    interval: float | None = None
    status: Status | None = None


def encode_sent(sent: Sent, clock: EngineClock) -> bytes:
    value, interval, status = sent
    head: dict[str, Any] = {"v": VERSION, "computed": value.computed, "took": value.took}
    if value.fresh_until < sys.maxsize:
        head |= _deadline("fresh", value.fresh_until, clock)
    if interval is not None:
        head["interval"] = interval
    if status is not None:
        head |= _said(status, clock)
    kind, content = _content(value.payload)
    if value.html is None:
        return _line(head | kind) + content
    return (
        _line(head | kind | {"v": WITH_HTML, "size": len(content)}) + content + value.html.encode()
    )


def decode_sent(body: bytes, clock: EngineClock) -> Sent:
    """Raises Unreadable."""
    head, content = _split(body)
    html = None
    if head["v"] == WITH_HTML:
        content, html = _parted(head, content)
    payload = _payload(head, content)
    fresh_until = _moment(head, "fresh", clock)
    value = Value(
        payload,
        computed=_number(head, "computed"),
        took=_number(head, "took"),
        fresh_until=sys.maxsize if fresh_until is None else fresh_until,
        html=html,
    )
    return Sent(
        value,
        _number(head, "interval") if "interval" in head else None,
        _status(head, clock) if "failing_since" in head else None,
    )


def encode_status(status: Status, clock: EngineClock) -> bytes:
    head: dict[str, Any] = {"v": VERSION, **_said(status, clock)}
    if status.fresh_until:
        head |= _deadline("fresh", status.fresh_until, clock)
    return _line(head)


def decode_status(body: bytes, clock: EngineClock) -> Status:
    """Raises Unreadable."""
    head, _ = _split(body)
    return _status(head, clock)._replace(fresh_until=_moment(head, "fresh", clock) or 0)


def _said(status: Status, clock: EngineClock) -> dict[str, Any]:
    retry = _deadline("retry", status.retry_at, clock) if status.retry_at else {}
    return {"failing_since": status.failing_since, **retry}


def _status(head: dict[str, Any], clock: EngineClock) -> Status:
    failing_since = head.get("failing_since")
    return Status(
        None if failing_since is None else _number(head, "failing_since"),
        _moment(head, "retry", clock) or 0,
    )


def _line(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode() + b"\n"


def _split(body: bytes) -> tuple[dict[str, Any], bytes]:
    end = body.find(b"\n", 0, _LONGEST_HEAD)
    try:
        head = json.loads(body[: max(end, 0)])
    except (ValueError, RecursionError):
        raise Unreadable("it does not begin with a line of JSON") from None
    if not isinstance(head, dict):
        raise Unreadable("its first line is no object")
    if head.get("v") not in (VERSION, WITH_HTML):
        raise OtherVersion(f"it is of version {head.get('v')!r:.20}, and {VERSION} is known here")
    return head, body[end + 1 :]


def _parted(head: dict[str, Any], content: bytes) -> tuple[bytes, str]:
    """The value's content, and its HTML."""
    size = head.get("size")
    if type(size) is not int or not 0 <= size <= len(content):
        raise Unreadable("its size is not that of its value")
    try:
        return content[:size], content[size:].decode()
    except UnicodeDecodeError:
        raise Unreadable("its HTML is not UTF-8") from None


def _content(payload: Payload) -> tuple[dict[str, str], bytes]:
    match payload:
        case Text(text):
            return {"kind": "text"}, text.encode()
        case Data(encoded):
            return {"kind": "data"}, encoded.encode()
        case Blob(data, content_type):
            return {"kind": "blob", "type": content_type}, data


def _payload(head: dict[str, Any], content: bytes) -> Payload:
    # Looked at as what comes by HTTP is: who can write to the engine need not be one of us.
    try:
        match head.get("kind"):
            case "text":
                return received("text/plain;charset=utf-8", content)
            case "data":
                return received("application/json", content)
            case "blob":
                return payload_of((content, head.get("type")))
    except ValueError as error:
        raise Unreadable(str(error)) from None
    raise Unreadable("its kind is not known")


def _number(head: dict[str, Any], name: str) -> float:
    number = head.get(name)
    if type(number) not in (int, float) or not math.isfinite(number):  # type: ignore[arg-type]
        raise Unreadable(f"its {name} is no number")
    return float(number)  # type: ignore[arg-type]


def _deadline(name: str, until: int, clock: EngineClock) -> dict[str, Any]:
    """A moment as who reads it needs it: when it is, and how far away it is at most. For that a
    clock which was set back must not make it any later."""
    said: dict[str, Any] = {f"{name}_for": round((until - clock.now()) / SECOND, 3)}
    if (at := clock.engine(until)) is not None:
        said[f"{name}_until"] = at
    return said


def _moment(head: dict[str, Any], name: str, clock: EngineClock) -> int | None:
    if f"{name}_for" not in head:
        return None
    moment = clock.now() + round(min(_number(head, f"{name}_for"), 1e9) * SECOND)
    at = head.get(f"{name}_until")
    if type(at) is int and (until := clock.monotonic(at)) is not None:
        moment = min(moment, until)
    return moment
