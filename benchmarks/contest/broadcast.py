"""A value for everybody, in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from benchmarks.contest.program import Options, event, pauses
from benchmarks.feed import stamp


class Feed:
    """The newest value as an event, and those who wait for the next.

    They wait for one asyncio.Event, which each value replaces by a new one. A queue for each of
    them would be filled in a loop over all, and hold what a slow client will never want; an
    asyncio.Condition would let them go one after another, each taking its lock.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._newest = b""
        self._replaced = asyncio.Event()

    async def run(self) -> None:
        """Make values for ever."""
        self._publish()
        for pause in pauses(self._options.interval):
            await asyncio.sleep(pause)
            self._publish()

    def _publish(self) -> None:
        self._newest = event(stamp(self._options.size))
        replaced, self._replaced = self._replaced, asyncio.Event()
        replaced.set()

    async def events(self) -> AsyncIterator[bytes]:
        """The newest value and those that follow, for one client. One that was busy sending while
        several came gets the last of them."""
        sent = b""
        while True:
            if self._newest is sent:
                await self._replaced.wait()
            sent = self._newest
            yield sent
