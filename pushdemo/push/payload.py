"""What a feed's function returned, made fit to send: text, data, or bytes of some type.

This is where a value is looked at, once. Whatever cannot be sent is refused here, with an error
that belongs to the feed, so that the wire formats can trust what they are given.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

# Lone surrogates have no UTF-8 and no place in JSON, XML or an event stream.
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:[ \t]*;[ -~]*)?", re.ASCII)


_CHARSET = re.compile(r"""charset\s*=\s*"?([\w.:-]+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Text:
    """Text without lone surrogates."""

    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """A number, true, false, null, a mapping or a sequence, as one line of JSON (RFC 8259)."""

    json: str

    @property
    def value(self) -> Any:
        """It, as json.loads gives it."""
        return json.loads(self.json)


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes, and the media type that says what they are: an image, for one."""

    data: bytes
    content_type: str

    @property
    def is_image(self) -> bool:
        return self.content_type.startswith("image/")


Payload: TypeAlias = Text | Data | Blob


def payload_of(result: object) -> Payload:
    """What to send for a function's result.

    Text is itself. Bytes come with their type: `(data, "image/png")`; alone they are
    application/octet-stream. Numbers, mappings, sequences, True, False and None are data. What
    else there is, alone or inside those, is sent as `str` has it (dates, decimals, paths).

    Raises ValueError for NaN and infinities and for what contains itself, TypeError for a mapping
    with keys that are neither text nor numbers, RecursionError for what is nested too deep.
    """
    if isinstance(result, str):
        return Text(_without_surrogates(result))
    if isinstance(result, bytes | bytearray | memoryview):
        return Blob(bytes(result), "application/octet-stream")
    if isinstance(result, tuple) and len(result) == 2:
        data, content_type = result
        if isinstance(data, bytes | bytearray | memoryview):
            if not isinstance(content_type, str) or not _CONTENT_TYPE.fullmatch(content_type):
                raise ValueError(f"{content_type!r} is no media type, such as image/png")
            return Blob(bytes(data), content_type)
    if result is None or isinstance(result, bool | int | float | dict | list | tuple):
        return _data(result)
    return Text(_without_surrogates(str(result)))


class UnknownType(ValueError):
    """A Content-Type that is none, or that says what cannot be read."""


def received(content_type: str, body: bytes) -> Payload:
    """What to send for a value that came as the body of a request, of that Content-Type.

    `text/plain` is text, `application/json` is data, anything else stays bytes of its type.

    Raises UnknownType for what is no media type, or a charset that nobody knows, and ValueError
    for a body that is not what its type says.
    """
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise UnknownType("Send a Content-Type, such as text/plain or application/json.")
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "text/plain":
        charset = _CHARSET.search(parameters)
        name = charset[1] if charset else "utf-8"
        try:
            return Text(_without_surrogates(body.decode(name)))
        except LookupError:
            raise UnknownType(f"The charset {name} is not known; send UTF-8.") from None
        except UnicodeDecodeError:
            raise ValueError(f"The body is not {name}.") from None
    if kind == "application/json":
        try:
            return _data(json.loads(body))
        except (ValueError, RecursionError):
            raise ValueError("The body is not JSON (RFC 8259).") from None
    return Blob(body, content_type)


def _data(result: object) -> Data:
    encoded = json.dumps(
        result, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
    )
    return Data(_without_surrogates(encoded))


def _without_surrogates(text: str) -> str:
    try:
        text.encode()  # a tenth of the time that looking for them takes
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return str.__str__(text)  # of a subclass, its text alone
