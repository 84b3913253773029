"""What a feed's function returned, made fit to send: text, data, or bytes of some type.

This is where a value is looked at, once. Whatever cannot be sent is refused here, with an error
that belongs to the feed, so that the wire formats can trust what they are given: a payload consists
of Python's own types and nothing else, so that comparing or encoding it runs no code of the
application.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from pushdemo.push.compute import libraries
from pushdemo.push.compute.charsets import codec_of
from pushdemo.push.compute.convert import DEEPEST, MOST_DIGITS, is_plain, plain, without_surrogates

# RFC 6838, section 4.2, allows 127 characters for each of the two names. It stands in a header.
_CONTENT_TYPE = re.compile(
    r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:[ \t]{0,100};[ -~]{0,1000})?", re.ASCII
)
# What it is given has no cycles: see is_plain and plain.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)
_TOO_DEEP = f"The body is nested deeper than {DEEPEST} arrays and objects."


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


def payload_of(result: Any) -> Payload:
    """What to send for a function's result.

    Text is itself. Bytes come with their type: `(data, "image/png")`; alone they are
    application/octet-stream. A figure of matplotlib and an image of Pillow are a PNG. What else
    there is becomes data: see convert.py, and kinds.py and libraries.py for the types that are
    known. Data that is text alone, a date for one, is text. NaN and infinities are null.

    Raises TypeError for what is of an unknown type, or whose own methods raise, and ValueError for
    what contains itself, is nested too deep, or has two keys that would be one. Both name the type
    and the place, and no value.
    """
    kind = type(result)
    if kind is str:
        return Text(without_surrogates(result))
    if _is_binary(kind):
        return Blob(_bytes(result), "application/octet-stream")
    if issubclass(kind, tuple) and tuple.__len__(result) == 2:
        data, content_type = tuple.__getitem__(result, slice(None))
        if _is_binary(type(data)):
            return Blob(_bytes(data), _checked(content_type))
    if (encoded := _encoded_as_it_is(result)) is not None:
        return Data(encoded)
    if (draw := libraries.picture(result)) is not None:
        return Blob(draw(result), "image/png")
    value = plain(result)
    return Text(value) if isinstance(value, str) else Data(_ENCODER.encode(value))


class UnknownType(ValueError):
    """A Content-Type that is none, or that says what cannot be read."""


def received(content_type: str, body: bytes) -> Payload:
    """What to send for a value that came as the body of a request, of that Content-Type.

    `text/plain` is text, `application/json` is data (RFC 8259: without NaN), anything else stays
    bytes of its type.

    Raises UnknownType for what is no media type, or a charset that is not in
    charsets.py, and ValueError for a body that is not what its type says.
    """
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise UnknownType("Send a Content-Type, such as text/plain or application/json.")
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "text/plain":
        return Text(without_surrogates(_decoded(parameters, body)))
    if kind == "application/json":
        return Data(_reencoded(body))
    return Blob(body, content_type)


def _decoded(parameters: str, body: bytes) -> str:
    try:
        codec = codec_of(parameters)
    except LookupError:
        raise UnknownType("This charset is not known; send UTF-8.") from None
    try:
        return body.decode(codec)
    except UnicodeError:
        raise ValueError(f"The body is not {codec}.") from None


def _reencoded(body: bytes) -> str:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("The body is not JSON (RFC 8259).") from None
    except ValueError:
        raise ValueError(f"An integer in the body has more than {MOST_DIGITS} digits.") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if not is_plain(value):
        raise ValueError(_TOO_DEEP)
    try:
        return without_surrogates(_ENCODER.encode(value))
    except ValueError:
        raise ValueError("A number in the body is larger than a double can be.") from None


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number", "", 0)


def _encoded_as_it_is(value: object) -> str | None:
    """`value` as JSON, if that needs no conversion; the fast way for most values."""
    if not _digits_are_limited():
        return None
    try:
        if not is_plain(value):
            return None
        encoded = _ENCODER.encode(value)
        encoded.encode()  # raises for lone surrogates
    except Exception:  # NaN; or a class or another thread that plays tricks: see to it with care
        return None
    return encoded


def _digits_are_limited() -> bool:
    # Where the limit was lifted, in a feed's process for one, an integer could be encoded that
    # nobody else can read. The first releases of Python 3.10 have no limit, nor need one.
    limit = getattr(sys, "get_int_max_str_digits", lambda: MOST_DIGITS)()
    return 0 < limit <= MOST_DIGITS


def _is_binary(kind: type) -> bool:
    return issubclass(kind, bytes | bytearray | memoryview)


def _bytes(data: Any) -> bytes:
    # Not bytes(data), which would ask a subclass.
    return memoryview(data).tobytes()


def _checked(content_type: Any) -> str:
    if issubclass(type(content_type), str):
        exact = str.__str__(content_type)
        if _CONTENT_TYPE.fullmatch(exact):
            return exact
    raise ValueError("what comes with the bytes is no media type, such as image/png")
