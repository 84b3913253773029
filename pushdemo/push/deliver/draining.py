"""How the streams of a process end when it is stopped for good: one by one, over some seconds.

Each client is told when to come back, and then hung up on. So the process that comes next is not
asked by all of them in the same moment.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Draining(Generic[T]):
    """Who is to go when. For one thread.

    clients: all there are. Those that come later go at once.
    now, seconds: when the first may go, and how long after that the last has gone.
    choose: from 0 to 1.
    """

    def __init__(
        self,
        clients: Iterable[T],
        now: float,
        seconds: float,
        choose: Callable[[], float] = random.random,
    ) -> None:
        shuffled = sorted(clients, key=lambda _: choose())  # not who came first, first
        slot = seconds / max(1, len(shuffled))
        # One in each slot of equal length, and anywhere in it.
        self._due = deque(
            (now + (number + choose()) * slot, client) for number, client in enumerate(shuffled)
        )

    @property
    def next(self) -> float | None:
        """When the next is to go; None where nobody is left."""
        return self._due[0][0] if self._due else None

    def take(self, now: float) -> list[T]:
        """Those who are to go by now, each once."""
        due = []
        while self._due and self._due[0][0] <= now:
            due.append(self._due.popleft()[1])
        return due


def come_back_in(retry: float, choose: Callable[[], float] = random.random) -> int:
    """In how many milliseconds a client is to come back: from half of `retry`, in seconds, to one
    and a half of it."""
    return round(retry * 1000 * (0.5 + choose()))
