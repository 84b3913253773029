"""Positions: every id of ours and back; every other text is nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.position import MOST_DIGITS, NOWHERE, UNSEEN, Place, id_of, position_of

places = st.builds(
    Place, st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 10**MOST_DIGITS - 1)
)


@given(st.lists(places, min_size=1, max_size=5).map(tuple))
def test_an_id_stands_for_the_position_it_was_made_of(position: tuple[Place, ...]) -> None:
    assert position_of(id_of(position)) == position


def test_a_feed_of_which_nothing_was_seen_has_an_empty_place() -> None:
    position = (UNSEEN, Place("e", 1), UNSEEN)
    assert id_of(position) == ".e-1."
    assert position_of(".e-1.") == position


@pytest.mark.parametrize(
    ("text", "other", "may_follow"),
    [
        ("e-2", "e-1", True),
        ("e-1", "e-1", False),
        ("e-1", "f-9", True),  # another run of the program
        ("1795000000001-0", "1795000000000-7", True),
        ("1795000000000-7", "1795000000001-0", False),
        ("999-0", "1000-0", False),  # by number, and not by text
    ],
)
def test_a_place_says_whether_it_can_come_after_another(
    text: str, other: str, may_follow: bool
) -> None:
    assert position_of(text)[0].may_follow(position_of(other)[0]) is may_follow


@given(st.text() | st.text("ab01-.٣²\0\n"))
def test_any_other_text_is_nowhere_or_a_position(text: str) -> None:
    position = position_of(text)
    assert all(0 <= place.sequence < 10**MOST_DIGITS for place in position)


@pytest.mark.parametrize(
    "text",
    ["", "-", "e-", "-1", "e-x", "e-+1", "e- 1", "e-1_0", "e-\u0661",  ".", "..",
     "e-" + "1" * (MOST_DIGITS + 1), "e-" + "1" * 5000, "e-" + "-" * 60_000, "e-1.x" * 20_000],
)  # fmt: skip
def test_what_is_no_id_of_ours_is_nowhere(text: str) -> None:
    assert position_of(text) == NOWHERE
