"""JSON text (RFC 8259) for an event's value."""

from __future__ import annotations

import json

from pushdemo.push.compute.payload import Data, Text
from pushdemo.push.event import CannotCarry, Event


def json_of(event: Event) -> str:
    """An event's value as JSON. Raises CannotCarry."""
    match event.value.payload:
        case Data(encoded):
            return encoded
        case Text(text):
            return json.dumps(text, ensure_ascii=False)
        case _:
            raise CannotCarry


def on_one_line(encoded: str) -> str:
    """The same JSON text with an escape for each character that only some readers take for a line
    end: Python's `str.splitlines` does, and with it httpx's `iter_lines`. JSON allows these
    characters only inside strings, where an escape means the same."""
    if not encoded.isascii():
        for character in "\u0085\u2028\u2029":
            encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return encoded
