"""What kinds.py and libraries.py make of objects that have members."""

from __future__ import annotations


class Pairs(list[tuple[object, object]]):
    """A mapping's keys and values. Unlike a dict it can hold the same key twice."""


class Unordered(list[object]):
    """A set's members, whose order means nothing."""
