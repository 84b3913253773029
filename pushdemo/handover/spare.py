"""A descriptor that is kept for the moment in which there is no other.

A process without descriptors cannot accept a connection, and so cannot say why it does not: the
caller would wait until it gives up. With a spare one that is closed for a moment, it can.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class Spare:
    def __init__(self) -> None:
        self._descriptor: int | None = _open()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """In this context there is one descriptor more. Raises OSError where it could not be had
        back the last time, and still cannot."""
        descriptor = _open() if self._descriptor is None else self._descriptor
        self._descriptor = None
        os.close(descriptor)
        try:
            yield
        finally:
            # Another thread may have taken it.
            with contextlib.suppress(OSError):
                self._descriptor = _open()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
