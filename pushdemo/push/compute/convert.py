"""A function's result, made of nothing but what JSON knows.

`plain` returns dicts with keys of text, lists, text, numbers, True, False and None, and all of them
of exactly these types: nothing of the application's classes is left, so that nothing done with
them later can run its code. Whatever it cannot convert it refuses with a Refused, which names the
type and the place, and never shows a value.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard

from pushdemo.push.compute import libraries
from pushdemo.push.compute.kinds import Unknown, simpler
from pushdemo.push.compute.naming import class_attribute, path_name, type_name
from pushdemo.push.compute.shapes import Pairs, Unordered

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"

# How many lists and mappings may be inside one another. Readers of JSON have such a limit too, from
# 64 on, and what a feed sends is not nested by accident.
DEEPEST = 100
# How many digits an integer may have: more cannot be read by a Python whose limit is the default
# (sys.set_int_max_str_digits).
MOST_DIGITS = 4300

_TOO_LONG = 10**MOST_DIGITS
_MOST_STEPS = 10  # from one object to what JSON knows; three is the most that is known to happen
_LEAVES = frozenset({str, int, float, bool, types.NoneType})
# Lone surrogates have no UTF-8 and no place in JSON, XML or an event stream.
_SURROGATES = re.compile("[\ud800-\udfff]")
_WHAT_CAN = "return text, numbers, dates, mappings, lists or a dataclass"


class Refused(Exception):
    """What cannot be sent, and where in the value it is."""


class RefusedType(Refused, TypeError):
    """There is something of a type that cannot be sent."""


class RefusedValue(Refused, ValueError):
    """A cycle, a value nested too deep, a number too long, two keys that would be one."""


def without_surrogates(text: str) -> str:
    """`text`, of exactly the type str, with U+FFFD for each lone surrogate."""
    text = str.__str__(text)
    if text.isascii():  # known without looking
        return text
    try:
        text.encode()  # a tenth of the time that looking for them takes
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Whether `plain` has nothing to do for `value`, NaN, surrogates and long integers aside.

    It is for speed: most values are plain, and this is several times as fast as converting them.
    """
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        members = value.values()
    elif kind is list or kind is tuple:
        members = value
    else:
        return kind in _LEAVES
    if not depth:
        return False
    for member in members:
        if type(member) not in _LEAVES and not is_plain(member, depth - 1):
            return False
    return True


def plain(value: object) -> Plain:
    """`value`, made of JSON's own types. Raises Refused."""
    return _Walk().convert(value)


class _Walk:
    """One conversion: where it is, and what it is inside of."""

    def __init__(self) -> None:
        self._path: list[str | int] = []
        self._inside: set[int] = set()  # identities

    def convert(self, value: object) -> Plain:
        outermost = value
        for _ in range(_MOST_STEPS):
            kind = type(value)
            if kind is str or kind is float or kind is int or kind is bool or value is None:
                leaf: str | float | None = self._leaf(value)
                return leaf
            if kind is dict or kind is list or kind is tuple or kind is Pairs or kind is Unordered:
                return self._members(outermost, value)
            value = self._simpler(value, outermost)
        raise self._refusal(outermost)

    def _leaf(self, value: Any) -> Any:  # a str, float, int, bool or None
        kind = type(value)
        if kind is str:
            return without_surrogates(value)
        if kind is float:
            return value if math.isfinite(value) else None
        if kind is int and not -_TOO_LONG < value < _TOO_LONG:
            raise RefusedValue(self._here(f"an integer of more than {MOST_DIGITS} digits"))
        return value

    def _members(self, outermost: object, value: Any) -> Plain:
        identity = id(outermost)
        if identity in self._inside:
            raise RefusedValue(self._here("it contains itself"))
        if len(self._inside) == DEEPEST:
            raise RefusedValue(self._here(f"nested deeper than {DEEPEST} lists and mappings"))
        self._inside.add(identity)
        result: Plain
        match value:
            # From copies: a member's own methods, or another thread, may change the original.
            case dict():
                result = self._mapping(list(value.items()))
            case Pairs():
                result = self._mapping(value)
            case Unordered():
                result = sorted(self._list(value), key=_order)
            case _:
                result = self._list(tuple(value))
        self._inside.discard(identity)
        return result

    def _list(self, members: Iterable[object]) -> list[Plain]:
        result: list[Plain] = []
        for index, member in enumerate(members):
            if _is_sent_as_it_is(member):
                result.append(member)
                continue
            self._path.append(index)
            result.append(self.convert(member))
            self._path.pop()
        return result

    def _mapping(self, pairs: list[tuple[object, object]]) -> dict[str, Plain]:
        result: dict[str, Plain] = {}
        for key, member in pairs:
            name = key if type(key) is str and key.isascii() else self._key(key)
            if name in result:
                raise self._collision(name, [key for key, _ in pairs])
            if _is_sent_as_it_is(member):
                result[name] = member
                continue
            self._path.append(name)
            result[name] = self.convert(member)
            self._path.pop()
        return result

    def _key(self, key: object) -> str:
        outermost = key
        for _ in range(_MOST_STEPS):
            kind = type(key)
            if kind is str or kind is float or kind is int or kind is bool or key is None:
                leaf = self._leaf(key)
                if type(leaf) is int:
                    return int.__repr__(leaf)
                return leaf if isinstance(leaf, str) else json.dumps(leaf)
            if kind is dict or kind is list or kind is tuple or kind is Pairs or kind is Unordered:
                break
            try:
                key = self._simpler(key, outermost)
            except RefusedType as error:
                if error.__cause__ is not None:
                    raise
                break
        name = type_name(type(outermost))
        raise RefusedType(self._here(f"a key of type {name} cannot be sent; use text or numbers"))

    def _simpler(self, value: object, outermost: object) -> object:
        try:
            return simpler(value)
        except Unknown:
            raise self._refusal(outermost) from None
        except Exception as error:
            what = f"an object of type {type_name(type(outermost))}"
            why = f"cannot be read: it raises {type_name(type(error))}"
            raise RefusedType(self._here(f"{what} {why}")) from error

    def _refusal(self, value: object) -> RefusedType:
        name = type_name(type(value))
        return RefusedType(self._here(f"an object of type {name} {_why_not(value)}"))

    def _collision(self, name: str, keys: list[object]) -> RefusedValue:
        first, second, *_ = (type_name(type(key)) for key in keys if self._key(key) == name)
        self._path.append(name)
        return RefusedValue(self._here(f"two keys, of types {first} and {second}, become this"))

    def _here(self, message: str) -> str:
        path = path_name(self._path)
        return f"{path}: {message}" if path else message


def _is_sent_as_it_is(value: Any) -> TypeGuard[str | bool | None]:
    """Whether there is nothing to look at: much of most values, so it is worth the question."""
    kind = type(value)
    return value is None or kind is bool or (kind is str and value.isascii())


def _why_not(value: Any) -> str:
    kind = type(value)
    if kind is types.CoroutineType:
        value.close()  # or Python warns that nobody awaited it
        return "cannot be sent; return what awaiting it gives, by asyncio.run(...)"
    if issubclass(kind, bytes | bytearray | memoryview):
        return "cannot be inside data; return bytes alone, or with their media type"
    if libraries.picture(value) is not None:
        return "is a picture and cannot be inside data; return it alone"
    is_file = class_attribute(kind, "readline") is not None
    if class_attribute(kind, "__next__") is not None and not is_file:
        return "can be read only once; return list(...) of it"
    return f"cannot be sent; {_WHAT_CAN}"


def _order(member: Plain) -> tuple[int, float, str]:
    """A set's order: numbers by value, then text, then all else by its JSON. It is the same for
    equal sets, which Python's own is not."""
    if isinstance(member, bool | int | float):
        return (0, member, json.dumps(member))
    return (1, 0, member) if isinstance(member, str) else (2, 0, json.dumps(member))
