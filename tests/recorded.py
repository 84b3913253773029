"""What a client has seen of some feeds, and whether that is what it should have seen."""

from __future__ import annotations


class Wrong(AssertionError):
    """An event was lost, came twice, or came too soon."""


class Record:
    """Of feeds whose values count up by one. A reset allows a gap, once for each feed."""

    def __init__(self) -> None:
        self.resets = 0
        self.seen: list[tuple[str, int]] = []
        self._last: dict[str, int] = {}
        self._may_jump: set[str] = set()

    def add(self, feed: str, number: int) -> None:
        """The client has seen this. Raises Wrong."""
        last = self._last.get(feed)
        if last is not None and feed not in self._may_jump and number != last + 1:
            raise Wrong(f"{feed}: {number} came after {last}; all: {self.seen[-20:]}")
        self._may_jump.discard(feed)
        self._last[feed] = number
        self.seen.append((feed, number))

    def reset(self) -> None:
        """The client was told that there may be a gap."""
        self.resets += 1
        self._may_jump = set(self._last)

    def last(self, feed: str) -> int | None:
        """The last number it has seen of a feed."""
        return self._last.get(feed)
