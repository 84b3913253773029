"""What was free once large requests have gone, given back to the system.

glibc keeps it otherwise, for two reasons.

It raises the size from which a block is mapped, and so given back when it is freed, to that of the
largest block freed so far; after one body of a megabyte, all others come from a heap that shrinks
only at its end. Measured: 200 clients with half a megabyte each left 65 MB, of which 0.1 MB was in
use, and `malloc_trim` gave back all but 2 MB.

It gives each thread a heap of its own, eight per core, and what one of them has freed serves no
other. Measured: after 30,000 hostile clients, 14 heaps of 4 to 5 MB had 0.1 MB in use each, and the
process took 86 MB; with one for all it took 51 MB. The interpreter's lock lets one thread at a time
ask for memory in any case, so that more heaps gain nothing.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # <malloc.h>


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim, library.mallopt  # noqa: B018
    except (AttributeError, OSError, TypeError):  # not glibc, which alone is known to need it
        return None
    return library


_library = _glibc()


def share_one_heap() -> None:
    """Have all threads share one heap. For before they start: a thread keeps the one it has."""
    if _library is not None:
        _library.mallopt(M_ARENA_MAX, 1)


def release() -> None:
    """Give back what is free: some milliseconds for 100 MB. Any thread; others go on meanwhile."""
    if _library is not None:
        _library.malloc_trim(0)
