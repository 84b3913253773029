"""All kinds of hostile clients, and which of them is whose turn."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from random import Random

from tests.fuzz import asks, heads, phases, sockets
from tests.fuzz.steps import ATTACKS, Attack, Facts, Script

__all__ = [
    "NAMES",
    "asks",
    "heads",
    "kind_of",
    "phases",
    "script_of",
    "sockets",
]  # the modules register

NAMES = tuple(ATTACKS)


def kind_of(seed: int, index: int, only: tuple[str, ...] = NAMES) -> Attack:
    """The kind of client number `index`, of those in `only`."""
    turns = _turns(only)
    return ATTACKS[Random(f"{seed}:{index}").choices(only, cum_weights=turns)[0]]


@lru_cache
def _turns(names: tuple[str, ...]) -> list[int]:
    return list(accumulate(ATTACKS[name].weight for name in names))


def script_of(kind: Attack, seed: int, index: int, facts: Facts) -> Script:
    """What client number `index` does; the same if it is the turn of its kind or not."""
    return kind.make(Random(f"{seed}:{index}:{kind.name}"), facts)
