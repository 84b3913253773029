"""Names for error messages: of a type, and of a place inside a value.

Both are short and printable, whatever the value is, and neither runs code of the value's class: no
`repr`, and no attribute that a metaclass can replace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LONGEST_KEY = 30  # characters
LONGEST_PATH = 120
LONGEST_TYPE = 80

_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def type_name(kind: type) -> str:
    """`module.Class`, or `int` for what is built in."""
    name = _own(kind, "__qualname__")
    module = _own(kind, "__module__")
    if module and module != "builtins":
        name = f"{module}.{name}"
    return shortened(name, LONGEST_TYPE)


def path_name(path: Sequence[str | int]) -> str:
    """`orders[3].customer` for ("orders", 3, "customer"); empty for no step."""
    written = "".join(_step(step) for step in path).removeprefix(".")
    if len(written) > LONGEST_PATH:
        half = LONGEST_PATH // 2
        written = f"{written[:half]}…{written[-half:]}"
    return written


def shortened(text: str, longest: int) -> str:
    """The beginning of `text`, in printable characters."""
    cut = text[:longest]
    printable = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in cut
    )
    return f"{printable}…" if len(text) > longest else printable


def class_attribute(kind: type, name: str) -> Any:
    """What `kind` or a base defines as `name`, or None; descriptors are not called."""
    for base in type.__dict__["__mro__"].__get__(kind):
        attributes = type.__dict__["__dict__"].__get__(base)
        if name in attributes:
            return attributes[name]
    return None


def _own(kind: type, name: str) -> str:
    found: object = type.__dict__[name].__get__(kind)
    return str.__str__(found) if issubclass(type(found), str) else ""


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    key = shortened(step, LONGEST_KEY)
    return f".{key}" if _IDENTIFIER.fullmatch(step) else f'["{key}"]'
