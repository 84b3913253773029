"""A failure: text, whatever the exception does."""

from __future__ import annotations

import pytest

from pushdemo.push.failure import (
    LONGEST_SUMMARY,
    LONGEST_TRACEBACK,
    Failure,
    FeedFailed,
    failure_of,
)


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def test_it_says_what_it_was_and_where() -> None:
    failure = failure_of(caught(ValueError("no such\n  region")))
    assert failure.summary == "ValueError: no such region"
    assert failure.details.startswith("Traceback (most recent call last):\n")
    assert failure.details.endswith("ValueError: no such\n  region")
    assert str(failure) == f"{failure.summary}\n{failure.details}"


def test_an_exception_without_a_text_is_its_name() -> None:
    assert failure_of(KeyError()).summary == "KeyError"
    assert str(Failure("it took too long")) == "it took too long"


def test_what_failed_elsewhere_stays_what_it_was() -> None:
    failure = Failure("ValueError: no", "Traceback over there")
    assert failure_of(caught(FeedFailed(failure))) is failure


class Raising(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Lying(Exception):
    """Nothing that can be asked of it has an answer."""

    def __getattribute__(self, name: str) -> object:
        raise SystemExit(name)

    def __str__(self) -> str:
        raise self


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


def nested() -> ValueError:
    data: list[object] = []
    for _ in range(100_000):
        data = [data]
    return ValueError(data)


@pytest.mark.parametrize("make", [Raising, Lying, NoText, nested])
def test_one_that_cannot_be_printed_says_its_name(make: type[Exception]) -> None:
    error = make()
    failure = failure_of(caught(error))
    assert failure.summary == f"{type(error).__name__}, which cannot be printed"


def test_a_long_text_is_cut_and_a_long_traceback_keeps_both_its_ends() -> None:
    failure = failure_of(caught(ValueError("first " + "x" * 10_000_000 + " last")))
    assert len(failure.summary) == LONGEST_SUMMARY
    assert failure.summary.startswith("ValueError: first xxx")
    assert failure.summary.endswith("…")
    assert LONGEST_TRACEBACK < len(failure.details) < LONGEST_TRACEBACK + 100
    assert failure.details.startswith("Traceback")
    assert failure.details.endswith(" last")
    assert "characters left out" in failure.details


def test_a_chain_that_leads_to_itself_has_an_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert failure_of(one).summary == "ValueError: one"
