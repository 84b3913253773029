"""One step from a type of Python's standard library towards what JSON knows.

`simpler` gives, for one object, something closer to JSON: a date is its text, a dataclass is its
fields, an enum's member is its value. convert.py takes such steps until nothing is left to do, so a
step may return anything that is itself known.

Types are looked at by `type(value)` and never by `isinstance`, which a `__class__` can deceive.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import itertools
import pathlib
import sys
import types
import uuid
from collections.abc import Callable, Collection, Mapping, MappingView, Sequence, Set
from typing import Any

from pushdemo.push.compute import libraries
from pushdemo.push.compute.naming import class_attribute
from pushdemo.push.compute.shapes import Pairs, Unordered


class Unknown(TypeError):
    """There is no step from this type."""


def simpler(value: Any) -> object:
    """One step. Raises Unknown, and whatever the value's own methods raise."""
    kind = type(value)
    if (step := _EXACT.get(kind)) is not None:
        return step(value)
    if issubclass(kind, enum.Enum):
        return value._value_
    if (step := libraries.step(value)) is not None:
        return step(value)
    if issubclass(kind, bytes | bytearray | memoryview):  # sequences of numbers, and never meant so
        raise Unknown
    if (row := _row(kind)) is not None:
        return Pairs(zip(row.keys(value), row.__iter__(value), strict=True))
    for base, step in _BASES:
        if issubclass(kind, base):
            return step(value)
    return _fields(value, kind)


def _names(kind: type) -> Sequence[str] | None:
    """A named tuple's names, those of `time.localtime()` included; None for another tuple."""
    names = class_attribute(kind, "_fields")
    if names is None and class_attribute(kind, "n_sequence_fields") is not None:
        names = class_attribute(kind, "__match_args__")
    return names if type(names) is tuple else None


def _tuple(value: tuple[object, ...]) -> object:
    members = tuple.__getitem__(value, slice(None))
    names = _names(type(value))
    if names is None:
        return members
    return Pairs(zip(names, members, strict=True))


def _mapping(value: Mapping[object, object]) -> Pairs:
    return Pairs((key, member) for key, member in itertools.islice(value.items(), len(value)))


def _members(value: Collection[object]) -> list[object]:
    # As many as it says: an iteration without end would take all memory.
    return list(itertools.islice(value, len(value)))


def _set(value: Set[object]) -> list[object]:
    # The views of a dict are in its order.
    members = _members(value)
    return members if issubclass(type(value), MappingView) else Unordered(members)


def _fields(value: Any, kind: type) -> object:
    """The fields of a class that declares them: a dataclass, or one of attrs, msgspec, pydantic."""
    if class_attribute(kind, "__dataclass_fields__") is not None:
        names = [field.name for field in dataclasses.fields(kind)]
    elif (declared := class_attribute(kind, "__attrs_attrs__")) is not None:
        names = [field.name for field in declared]
    elif (declared := class_attribute(kind, "__struct_fields__")) is not None:
        names = list(declared)
    elif class_attribute(kind, "__pydantic_fields__") is not None:
        return value.model_dump()
    elif (step := _loaded(kind)) is not None:
        return step(value)
    else:
        raise Unknown
    return Pairs((name, getattr(value, name)) for name in names)


def _row(kind: type) -> Any:
    """sqlite3.Row, where `kind` is one."""
    row = getattr(sys.modules.get("sqlite3"), "Row", None)
    return row if type(row) is type and issubclass(kind, row) else None


def _loaded(kind: type) -> Callable[[Any], object] | None:
    # There is no address before somebody has imported the module.
    module = sys.modules.get("ipaddress")
    base = getattr(module, "_IPAddressBase", None)
    return str if type(base) is type and issubclass(kind, base) else None


def _decimal(value: decimal.Decimal) -> str | None:
    # As text: most readers make a double of a JSON number, and lose 1.10's zero and the 18th digit.
    return decimal.Decimal.__str__(value) if decimal.Decimal.is_finite(value) else None


# The methods are those of the type itself: a subclass may have replaced its own.
_EXACT: dict[type, Callable[[Any], object]] = {
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    # Not ISO 8601: JavaScript and most other readers of JSON know no durations but numbers.
    datetime.timedelta: datetime.timedelta.total_seconds,
    decimal.Decimal: _decimal,
    uuid.UUID: uuid.UUID.__str__,
    set: Unordered,
    frozenset: Unordered,
    collections.deque: list,
    range: list,
    collections.OrderedDict: _mapping,
    collections.defaultdict: _mapping,
    collections.Counter: _mapping,
}

# For subclasses, and for what an abstract class knows; the first that fits.
_BASES: list[tuple[type, Callable[[Any], object]]] = [
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (Mapping, _mapping),
    (tuple, _tuple),
    (list, lambda value: list.__getitem__(value, slice(None))),
    (Set, _set),
    (MappingView, _members),
    (datetime.datetime, datetime.datetime.isoformat),
    (datetime.date, datetime.date.isoformat),
    (datetime.time, datetime.time.isoformat),
    (datetime.timedelta, datetime.timedelta.total_seconds),
    (decimal.Decimal, _decimal),
    (uuid.UUID, uuid.UUID.__str__),
    (pathlib.PurePath, str),
    (types.SimpleNamespace, lambda value: vars(value)),
    (collections.UserString, str),
    (Sequence, _members),
]
