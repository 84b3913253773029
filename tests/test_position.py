"""Positions: every id of ours and back; every other text is nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.position import MOST_DIGITS, NOWHERE, Place, id_of, position_of

places = st.builds(
    Place, st.text("0123456789abcdef", min_size=1, max_size=8), st.integers(0, 10**MOST_DIGITS - 1)
)


@given(st.lists(places, min_size=1, max_size=5).map(tuple))
def test_an_id_stands_for_the_position_it_was_made_of(position: tuple[Place, ...]) -> None:
    assert position_of(id_of(position)) == position


@given(st.text() | st.text("ab01-.٣²\0\n"))
def test_any_other_text_is_nowhere_or_a_position(text: str) -> None:
    position = position_of(text)
    assert all(0 <= place.sequence < 10**MOST_DIGITS and place.epoch for place in position)


@pytest.mark.parametrize(
    "text",
    ["", "-", "e-", "-1", "e-x", "e-+1", "e- 1", "e-1_0", "e-\u0661", "e-1.", ".e-1", "e-1..f-2",
     "e-" + "1" * (MOST_DIGITS + 1), "e-" + "1" * 5000, "e-" + "-" * 60_000, "e-1." * 20_000],
)  # fmt: skip
def test_what_is_no_id_of_ours_is_nowhere(text: str) -> None:
    assert position_of(text) == NOWHERE
