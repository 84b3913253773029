"""One slow function, computed once, on every open page, from plain WSGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pushdemo.library import Push as Push
    from pushdemo.push.engine import UnknownFeed as UnknownFeed

__all__ = ["Push", "UnknownFeed"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for (PEP 562): the client and the processes that compute feeds do
    # not need it, and start sooner without.
    if name in __all__:
        from pushdemo import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
