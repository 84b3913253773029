"""The roll call: which clients take nothing of what they are sent.

All clients are looked at in turn, some at a time, so that no event waits for it. One that owes an
acknowledgement is looked at again; if it has acknowledged nothing more after `timeout` seconds, it
takes nothing. That holds for one that has vanished without a word, and for one that is there and
does not read. One that reads slowly, but steadily, goes on.

For the broadcaster's thread alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pushdemo.push.deliver.audience import Subscriber
from pushdemo.push.deliver.sockets import progress

ROUNDS = 4  # within the timeout
PART = 512  # clients that are looked at at once: in about a millisecond


class RollCall:
    """See the module.

    everybody: all clients there are.
    timeout: seconds.

    due: when the next clients are to be looked at, in seconds of the clock.
    """

    def __init__(self, everybody: Callable[[], list[Subscriber]], timeout: float) -> None:
        self._everybody = everybody
        self._timeout = timeout
        self._left: list[Subscriber] = []  # of this round
        self._pause = 0.0
        self.due = 0.0

    def call(self, now: float) -> list[Subscriber]:
        """Look at the next clients. Returns those of them that have taken nothing for too long."""
        if not self._left:
            self._left = self._everybody()
            parts = max(1, math.ceil(len(self._left) / PART))
            self._pause = self._timeout / ROUNDS / parts
        some = self._left[-PART:]
        del self._left[-PART:]
        self.due = now + self._pause
        return [one for one in some if one.sock.fileno() >= 0 and self._takes_nothing(one, now)]

    def _takes_nothing(self, one: Subscriber, now: float) -> bool:
        found = progress(one.sock)
        if found is not None:
            if not found.owes:
                one.owes_since = None
            elif one.owes_since is None or found.taken != one.taken:
                one.owes_since, one.taken = now, found.taken
        # Where nothing can be found, it is known of those that are blocked.
        return one.owes_since is not None and now - one.owes_since >= self._timeout


def suspect(one: Subscriber, since: float) -> None:
    """It is to take more than it has by now. since: in seconds of the clock."""
    found = progress(one.sock)
    one.owes_since, one.taken = since, found.taken if found is not None else 0
