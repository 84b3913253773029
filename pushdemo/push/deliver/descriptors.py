"""How many descriptors this process may have open: each stream is one."""

from __future__ import annotations

import contextlib
import sys

try:
    import resource
except ImportError:  # not a POSIX system: no such limit to ask for
    resource = None  # type: ignore[assignment]

# Kept back from streams for the application: its files, pipes, databases, and this machine's.
RESERVE = 64


def limit() -> int:
    """The number of descriptors that this process may have open."""
    if resource is None:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Raise the limit as far as this user may, and return it.

    The soft limit is low by tradition (1,024), for programs that use select() on descriptors. This
    one does not, and would reach it with a thousand open pages.
    """
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses its own "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()
