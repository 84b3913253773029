"""Text of a client's, made fit for an answer or a log line: short, and on one line."""

from __future__ import annotations

SHOWN = 80  # characters


def shorten(text: str, most: int = SHOWN) -> str:
    """At most `most` characters of a text and an ellipsis, with what cannot be printed escaped."""
    cut = text[:most]
    shown = cut if cut.isprintable() else cut.encode("unicode_escape").decode()
    return shown if len(text) <= most else shown + "…"
