"""A failure: what went wrong, as text.

An exception is an object of the application. Its `__str__` may raise, recurse, or take for ever,
and it holds on to every frame it came through. So it is turned into text once, in the thread in
which it was raised, and only the text goes on: it can be logged and compared in any thread, and
nothing in it can fail later.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

LONGEST_SUMMARY = 500  # characters
LONGEST_TRACEBACK = 20_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result.

    summary: one line, at most LONGEST_SUMMARY characters.
    details: the traceback, at most about LONGEST_TRACEBACK characters; empty where there is none.
    """

    summary: str
    details: str = ""

    def __str__(self) -> str:
        """For a log."""
        return f"{self.summary}\n{self.details}" if self.details else self.summary


class FeedFailed(Exception):
    """A failure that is text already: it happened in another process, or has no exception."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.summary)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception stands for. Raises nothing, whatever the exception does."""
    if type(error) is FeedFailed:
        return error.failure
    try:
        details = "".join(traceback.format_exception(error)).rstrip()
    except BaseException:  # a chain that leads to itself, a __cause__ that is a property, …
        details = ""
    return Failure(_shorten(_one_line(_summary(error)), LONGEST_SUMMARY), _middle_out(details))


def _summary(error: BaseException) -> str:
    name = type(error).__name__
    try:
        said = str(error)
    except BaseException:  # RecursionError, for one: logging would raise it in its caller's thread
        return f"{name}, which cannot be printed"
    return f"{name}: {said}" if said else name


def _one_line(text: str) -> str:
    # Cut before it is looked at: the text may be of any size.
    return " ".join(text[: 4 * LONGEST_SUMMARY].split())


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _middle_out(text: str) -> str:
    """Of a long traceback, its beginning and its end: where it started, and what it was."""
    if len(text) <= LONGEST_TRACEBACK:
        return text
    half = LONGEST_TRACEBACK // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n… {left_out} characters left out …\n{text[-half:]}"
