"""Values as bytes and back, for another process of this machine.

What is carried are values: Python's scalars, bytes, tuples, mappings with text for keys, and
records, which are dataclasses and NamedTuples of these. The types of a record's fields say how it
is read, so what was read is what the type says, or an error:

    whole     = length of the JSON text, 8 bytes, big-endian; JSON text; blobs
    JSON text = {"blobs": [length, …], "value": value}
    record    = ["Name", field, …]
    bytes     = the number of a blob, and so is a long text

An object that is there several times, such as a frame that many clients are blocked on, is one
blob. Executable code is not carried: what is read runs nothing but the constructors of the records.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

LONG = 200  # characters of a text that is a blob
_LENGTH = 8  # bytes
_SCALARS = (bool, int, float, str, bytes, type(None))


class Unreadable(ValueError):
    """These bytes are not what they should be. The message says what was expected."""


def encode(value: Any) -> bytes:
    """A value as bytes. Raises TypeError for what is none of the above."""
    encoder = _Encoder()
    content = encoder.encode(value)
    lengths = [len(blob) for blob in encoder.blobs]
    text = json.dumps({"blobs": lengths, "value": content}, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(_LENGTH, "big"), text, *encoder.blobs))


class _Encoder:
    """blobs: those of the values so far."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self._known: dict[int, tuple[object, int]] = {}  # the objects too, so that their ids stay

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in (bool, int, float) or value is None:
            return value
        if kind is str:
            return value if len(value) < LONG and value.isascii() else self._blob(value)
        if kind is bytes:
            return self._blob(value)
        if hasattr(value, "_fields") or dataclasses.is_dataclass(value):
            return [kind.__name__, *(self.encode(getattr(value, name)) for name in _fields(kind))]
        if isinstance(value, Mapping):
            if not all(type(key) is str for key in value):
                raise TypeError("a mapping whose keys are not text cannot be carried")
            return {key: self.encode(member) for key, member in value.items()}
        if isinstance(value, (tuple, list)):
            return [self.encode(member) for member in value]
        raise TypeError(f"{kind.__name__} cannot be carried")

    def _blob(self, value: str | bytes) -> int:
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = value, len(self.blobs)
            self.blobs.append(
                value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            )
        return known[1]


class Vocabulary:
    """What stands for the types that are no records themselves: a Protocol, a Callable.

    kinds: the records that each may be.
    """

    def __init__(self, kinds: Mapping[Any, Sequence[type]]) -> None:
        self._kinds = kinds

    def decode(self, kind: type[T], data: bytes) -> T:
        """The value of that type that `encode` had. Raises Unreadable."""
        content, blobs = _split(data)
        try:
            return cast(T, _Decoder(self._kinds, blobs).decode(kind, content))
        except RecursionError:
            raise Unreadable("it is nested too deep") from None


def _split(data: bytes) -> tuple[Any, list[bytes]]:
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    try:
        whole = json.loads(data[_LENGTH:start])
        lengths, content = whole["blobs"], whole["value"]
        ends = list(_ends(start, lengths))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable("it is no snapshot") from None
    if len(data) != (ends[-1] if ends else start):
        raise Unreadable("it is not whole")
    starts = [start, *ends][: len(ends)]
    return content, [data[one:other] for one, other in zip(starts, ends, strict=True)]


def _ends(start: int, lengths: list[Any]) -> Iterator[int]:
    for length in lengths:
        if type(length) is not int or length < 0:
            raise ValueError
        start += length
        yield start


class _Decoder:
    def __init__(self, kinds: Mapping[Any, Sequence[type]], blobs: list[bytes]) -> None:
        self._kinds = kinds
        self._blobs = blobs
        self._texts: dict[int, str] = {}

    def decode(self, kind: Any, content: Any) -> Any:
        if kind in _SCALARS or kind is None:
            return self._scalar(kind, content)
        if kind in self._kinds:
            return self._one_of(self._kinds[kind], content)
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._one_of(get_args(kind), content)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(get_args(kind)[1], content)
        if origin is not None and issubclass(origin, Sequence):
            return self._sequence(get_args(kind), content)
        if origin is None and (hasattr(kind, "_fields") or dataclasses.is_dataclass(kind)):
            return self._record(kind, content)
        raise TypeError(f"{kind} cannot be read")  # an error in this program

    def _scalar(self, kind: Any, content: Any) -> Any:
        if kind in (str, bytes) and type(content) is int:
            return self._text(content) if kind is str else self._blob(content)
        if kind is float and type(content) is int:
            return float(content)
        if kind in (None, type(None)) and content is None:
            return None
        if type(content) is kind and kind is not bytes:
            return content
        raise _expected(getattr(kind, "__name__", str(kind)), content)

    def _blob(self, number: int) -> bytes:
        if 0 <= number < len(self._blobs):
            return self._blobs[number]
        raise Unreadable(f"there is no blob {number}")

    def _text(self, number: int) -> str:
        if number not in self._texts:
            try:
                self._texts[number] = self._blob(number).decode("utf-8", "surrogatepass")
            except UnicodeError:
                raise _expected("text", number) from None
        return self._texts[number]

    def _one_of(self, kinds: Sequence[Any], content: Any) -> Any:
        for kind in kinds:
            if kind in _SCALARS:
                if type(content) is kind:
                    return content
            elif isinstance(content, list) and content and content[0] == kind.__name__:
                return self._record(kind, content)
        if type(content) is int:
            for kind in {str, bytes}.intersection(kinds):
                return self._scalar(kind, content)
        # What is left of a union, a tuple or None for one, has one reading at most.
        others = [kind for kind in kinds if get_origin(kind) is not None]
        if len(others) == 1 and isinstance(content, (list, dict)):
            return self.decode(others[0], content)
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise _expected(names, content)

    def _mapping(self, kind: Any, content: Any) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise _expected("mapping", content)
        return {key: self.decode(kind, member) for key, member in content.items()}

    def _sequence(self, kinds: tuple[Any, ...], content: Any) -> tuple[Any, ...]:
        if not isinstance(content, list):
            raise _expected("sequence", content)
        if len(kinds) == 1 or kinds[1] is Ellipsis:
            return tuple([self.decode(kinds[0], member) for member in content])
        if len(content) != len(kinds):
            raise _expected(f"sequence of {len(kinds)}", content)
        return tuple([self.decode(*pair) for pair in zip(kinds, content, strict=True)])

    def _record(self, kind: Any, content: Any) -> Any:
        names = _fields(kind)
        if not isinstance(content, list) or content[:1] != [kind.__name__]:
            raise _expected(kind.__name__, content)
        if len(content) != len(names) + 1:
            raise _expected(f"{kind.__name__} with {len(names)} fields", content)
        hints = _hints(kind)
        members = zip(names, content[1:], strict=True)
        fields = {name: self.decode(hints[name], member) for name, member in members}
        try:
            return kind(**fields)
        except ValueError as error:
            raise Unreadable(f"{kind.__name__}: {error}") from None


def _fields(kind: Any) -> Sequence[str]:
    if hasattr(kind, "_fields"):
        return cast("Sequence[str]", kind._fields)
    return [field.name for field in dataclasses.fields(kind)]


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _expected(what: str, content: Any) -> Unreadable:
    got = json.dumps(content)
    return Unreadable(f"{what} expected, not {got[:60]}")
