"""A roster: clients in no order that matters, and what one send to all of them needs.

Their descriptors lie side by side, as the kernel is told them, so that an event needs no look at
any client. Newcomers are at the end, so that what is for them alone needs no list of its own: it is
for the seats from theirs on, and stays so when some of them leave.

For one thread.
"""

from __future__ import annotations

import socket
from array import array
from typing import Generic, Protocol, TypeVar

from pushdemo.push.deliver.sockets import send_to_all


class Member(Protocol):
    """seat: where in a roster it is, -1 for in none; the roster's to change."""

    sock: socket.socket
    seat: int


M = TypeVar("M", bound=Member)


# Members from which on several threads share the work: with fewer, one has done it before another
# is awake.
MANY = 256


class Recipients(Generic[M]):
    """See the module. A member is in one roster at a time.

    senders: how many threads send to them.
    """

    __slots__ = ("_backwards", "_fds", "_members", "_senders", "_socks")

    def __init__(self, senders: int = 1) -> None:
        self._senders = senders
        self._members: list[M] = []
        self._socks: list[socket.socket] = []
        self._fds = array("i")
        self._backwards = False

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, seats: slice) -> list[M]:
        return self._members[seats]

    def add(self, member: M) -> None:
        """Give it the last seat. Its socket must be open."""
        member.seat = len(self._members)
        self._members.append(member)
        self._socks.append(member.sock)
        self._fds.append(member.sock.fileno())

    def remove(self, member: M) -> None:
        """Take it out; the last one gets its seat."""
        seat, member.seat = member.seat, -1
        last, sock, fd = self._members.pop(), self._socks.pop(), self._fds.pop()
        if last is not member:
            self._members[seat], self._socks[seat], self._fds[seat] = last, sock, fd
            last.seat = seat

    def send(self, data: bytes | memoryview, seats: slice) -> list[tuple[M, int]]:
        """Send the same bytes to those in some seats. Returns those that did not take all of it,
        and how many bytes they took: -1 for one that is gone."""
        start, stop, _ = seats.indices(len(self))
        # There and back, so that none is always the last, and the first are those that the
        # processor has just had to do with.
        if start == 0:
            self._backwards = not self._backwards
        short = send_to_all(
            self._socks,
            self._fds,
            start,
            stop,
            data,
            backwards=self._backwards,
            senders=self._senders if stop - start >= MANY else 1,
        )
        return [(self._members[index], sent) for index, sent in short] if short else []
