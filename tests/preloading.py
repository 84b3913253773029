"""Scripts that run in a browser's pages before the pages' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.browsers import Browser

# Then a page has its own stream, whose clock and chance a test can replace.
NO_WORKERS = "() => { delete globalThis.SharedWorker; }"


@contextmanager
def preloaded(browser: Browser, function: str) -> Iterator[None]:
    """Every page that the browser opens meanwhile calls this JavaScript function first."""
    connection = browser._connection
    added = connection.command("script.addPreloadScript", functionDeclaration=function)
    try:
        yield
    finally:
        connection.command("script.removePreloadScript", script=added["script"])
