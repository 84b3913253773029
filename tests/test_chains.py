"""The checker of chains: what is right passes, and each kind of fault, planted, is found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.chains import Fault, Link, Loss, check, published_twice
from tests.history import Client, Connected, Disconnected, Entry, Reset, Seen

# Two events are lost after c4: the log goes on after c2.
LINKS = [
    Link("a", "c1", "", 1),
    Link("a", "c2", "c1", 2),
    Link("a", "c3", "c2", 3),
    Link("a", "c4", "c3", 4),
    Link("a", "d1", "c2", 5),
    Link("a", "d2", "d1", 6),
    Link("b", "b1", "", 1),
    Link("b", "b2", "b1", 2),
]
LOSS = Loss(4.5, 5.0)


def seen(event_id: str, at: float, feed: str = "a") -> Seen:
    return Seen(at, feed, event_id, "")


def faults(
    entries: Sequence[Entry],
    feeds: Sequence[str] = ("a",),
    *,
    losses: Sequence[Loss] = (LOSS,),
    history: int = 10,
) -> list[Fault]:
    client = Client("client", feeds)
    client.entries += [Connected(0.0), *entries]
    return [found.fault for found in check(LINKS, [client], losses, history)]


RIGHT: dict[str, list[Entry]] = {
    "each once": [seen("c1", 1), seen("c2", 2), seen("c3", 3), seen("c4", 4)],
    "from where it came": [seen("c3", 3), seen("c4", 4)],
    "a loss that is told": [seen("c3", 3), seen("c4", 4), Reset(5), seen("d1", 5), seen("d2", 6)],
    "a reset for what it never missed, at a loss": [seen("c2", 2), Reset(5), seen("d1", 5)],
    "one that lost nothing": [seen("c1", 1), seen("c2", 2), seen("d1", 5), seen("d2", 6)],
    "one that moved": [
        seen("c1", 1), Disconnected(1.5), Connected(1.6, "c1"), seen("c2", 2), seen("c3", 3)
    ],
    "one that came back anew": [
        seen("c1", 1), Disconnected(1.5), Connected(3, None), seen("c4", 4)
    ],
}  # fmt: skip


@pytest.mark.parametrize("entries", RIGHT.values(), ids=RIGHT)
def test_what_is_right_passes(entries: list[Entry]) -> None:
    assert faults(entries) == []


PLANTED: dict[str, tuple[list[Entry], Fault]] = {
    "a gap": ([seen("c1", 1), seen("c3", 3)], Fault.GAP),
    "a gap over a move": (
        [seen("c1", 1), Disconnected(2), Connected(2.1, "c1"), seen("c3", 3)], Fault.GAP
    ),
    "a duplicate": ([seen("c1", 1), seen("c2", 2), seen("c2", 3)], Fault.DUPLICATE),
    "a duplicate later": (
        [seen("c1", 1), seen("c2", 2), seen("c3", 3), seen("c2", 4)], Fault.DUPLICATE
    ),
    "disorder": ([seen("c3", 1), seen("c2", 2)], Fault.DISORDER),
    "a loss that is not told": ([seen("c4", 4), seen("d1", 5)], Fault.GAP),
    "an event of nobody's": ([seen("c1", 1), seen("x9", 2)], Fault.UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "fault"), PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(entries: list[Entry], fault: Fault) -> None:
    assert faults(entries) == [fault]


def test_a_reset_without_a_loss_is_found() -> None:
    entries: list[Entry] = [seen("c1", 1), seen("c2", 2), Reset(2.5), seen("c3", 3)]
    assert faults(entries) == [Fault.RESET]
    assert faults(entries, losses=[]) == [Fault.RESET]
    assert faults(entries, losses=[Loss(2.2, 2.4)]) == []


def test_a_reset_for_who_was_away_for_longer_than_the_history_is_right() -> None:
    entries: list[Entry] = [
        seen("c1", 1),
        Disconnected(1.5),
        Connected(4, "c1"),
        Reset(4),
        seen("c4", 4),
    ]
    assert faults(entries, losses=[], history=2) == []
    assert faults(entries, losses=[], history=3) == [Fault.RESET]


def test_a_value_from_before_is_found() -> None:
    """Published late, by who had lost the lease: the chain is whole."""
    links = [Link("a", "c1", "", 7), Link("a", "c2", "c1", 6)]
    client = Client("client", ("a",))
    client.entries += [Connected(0.0), seen("c1", 1), seen("c2", 2)]
    assert [found.fault for found in check(links, [client], [], 10)] == [Fault.BACK]


def test_a_mix_is_checked_feed_by_feed() -> None:
    mix = ("a", "b")
    entries: list[Entry] = [
        seen("c1.", 1), seen("c1.b1", 2, "b"), seen("c2.b1", 3), seen("c2.b2", 4, "b")
    ]  # fmt: skip
    assert faults(entries, mix) == []
    assert faults([*entries, seen("c4.b2", 5)], mix) == [Fault.GAP]
    assert faults([*entries[:3], seen("c2.b1", 4, "b")], mix) == [Fault.DUPLICATE]


def test_a_beat_that_is_published_twice_is_found() -> None:
    beats = {("a", 1): 10, ("a", 2): 11, ("a", 3): 11, ("a", 5): 11}
    assert [found.fault for found in published_twice(LINKS[:3], beats)] == [Fault.TWICE]
    assert published_twice([LINKS[0], LINKS[1], LINKS[4]], {("a", 1): 10, ("a", 2): 11}) == []
    # What was lost is computed again.
    assert published_twice([*LINKS[:2], LINKS[4]._replace(after="c1")], beats) == []
