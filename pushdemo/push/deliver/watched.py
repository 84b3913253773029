"""The sockets that a thread waits for, each with what it stands for.

As the standard library's selectors, with less for each socket that comes and goes: a key object for
each registration and two lookups for each call cost more, in a storm of clients, than what is sent.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Watched(Protocol[T]):
    """Sockets, and what they stand for. For one thread."""

    def register(self, sock: HasFileno, mask: int, data: T) -> None:
        """Wait for a socket, too. mask: READ, WRITE, or both. Raises OSError where the system does
        not allow that, ValueError for a socket that is closed."""

    def modify(self, sock: HasFileno, mask: int, data: T) -> None:
        """Wait for something else of it."""

    def unregister(self, sock: HasFileno) -> None:
        """Wait for it no more. Before it is closed. Raises KeyError or ValueError for one that is
        not waited for."""

    def select(self, timeout: float | None) -> list[tuple[T, int]]:
        """Those that are ready, within so many seconds; None for ever. A socket whose connection
        has failed is ready for everything."""

    def __iter__(self) -> Iterator[T]:
        """What they stand for."""

    def __len__(self) -> int: ...

    def close(self) -> None: ...


class _Epoll(Generic[T]):
    """By epoll(7)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._data: dict[int, T] = {}

    def register(self, sock: HasFileno, mask: int, data: T) -> None:
        fd = sock.fileno()
        self._epoll.register(fd, _BITS[mask])
        self._data[fd] = data

    def modify(self, sock: HasFileno, mask: int, data: T) -> None:
        fd = sock.fileno()
        self._epoll.modify(fd, _BITS[mask])
        self._data[fd] = data

    def unregister(self, sock: HasFileno) -> None:
        fd = sock.fileno()
        del self._data[fd]
        # Not left to the closing of the socket: another process may have a copy of it.
        self._epoll.unregister(fd)

    def select(self, timeout: float | None) -> list[tuple[T, int]]:
        data = self._data
        ready = self._epoll.poll(-1 if timeout is None else timeout, max(len(data), 1))
        return [
            (data[fd], (READ if bits & ~_OUT else 0) | (WRITE if bits & ~_IN else 0))
            for fd, bits in ready
            if fd in data
        ]

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._data.values()))

    def __len__(self) -> int:
        return len(self._data)

    def close(self) -> None:
        self._epoll.close()


class _Selector(Generic[T]):
    """By what the system has."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, sock: HasFileno, mask: int, data: T) -> None:
        self._selector.register(sock, mask, data)

    def modify(self, sock: HasFileno, mask: int, data: T) -> None:
        self._selector.modify(sock, mask, data)

    def unregister(self, sock: HasFileno) -> None:
        self._selector.unregister(sock)

    def select(self, timeout: float | None) -> list[tuple[T, int]]:
        return [(key.data, mask) for key, mask in self._selector.select(timeout)]

    def __iter__(self) -> Iterator[T]:
        return iter([key.data for key in self._selector.get_map().values()])

    def __len__(self) -> int:
        return len(self._selector.get_map())

    def close(self) -> None:
        self._selector.close()


def watched() -> Watched[T]:
    """An empty one. Raises OSError where there is no descriptor for it."""
    return _Epoll() if hasattr(select, "epoll") else _Selector()


if hasattr(select, "epoll"):
    _IN, _OUT = select.EPOLLIN, select.EPOLLOUT
    _BITS = {READ: _IN, WRITE: _OUT, READ | WRITE: _IN | _OUT}
