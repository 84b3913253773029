"""Events that come with their ids: the chain, what breaks it, and clients that are ahead of it; in
a channel, in a mix, on streams and in polls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.channel import AHEAD, KNOWN, Channel
from pushdemo.push.combined import CombinedChannel
from pushdemo.push.compute.payload import Text
from pushdemo.push.deliver.delivery import AHEAD_PATIENCE
from pushdemo.push.event import Value
from pushdemo.push.position import position_of
from tests.test_broadcaster import Stage

Published = list[tuple[str, str]]  # id, after


def value(text: str = "x") -> Value:
    return Value(Text(text), computed=0.0, fresh_until=2**62)


def given_ids(name: str = "x", history: int = 10) -> Channel:
    """A channel whose events come with their ids."""
    return Channel(name, history=history, epoch="")


def take(channel: Channel, *pairs: tuple[str, str]) -> None:
    for event_id, after in pairs:
        channel.take(event_id, after, value(event_id))


def resumed(channel: Channel | CombinedChannel, last_id: str) -> object:
    """The ids that follow; or what else is answered."""
    missed = channel.resume(position_of(last_id))
    return [event.id for event in missed] if isinstance(missed, list) else missed


# In a channel


def test_events_have_the_ids_that_they_come_with() -> None:
    channel = given_ids()
    take(channel, ("5-0", ""), ("5-1", "5-0"), ("9-0", "5-1"))
    assert [(event.id, event.after) for event in channel.since(0)] == [
        ("5-0", ""), ("5-1", "5-0"), ("9-0", "5-1"),
    ]  # fmt: skip
    assert not any(event.breaks for event in channel.since(0))
    assert str(channel.place) == "9-0"


def test_own_events_are_a_chain_too() -> None:
    channel = Channel("x", epoch="e", history=3)
    events = [channel.publish(value()) for _ in range(3)]
    assert [event.after for event in events] == ["e-0", "e-1", "e-2"]


def test_who_comes_back_is_given_what_follows_its_last() -> None:
    channel = given_ids()
    take(channel, ("5-0", ""), ("5-1", "5-0"), ("9-0", "5-1"))
    assert resumed(channel, "5-0") == ["5-1", "9-0"]
    assert resumed(channel, "9-0") == []


def test_the_first_that_a_process_hears_of_breaks_nothing() -> None:
    channel = given_ids()
    take(channel, ("9-0", "5-0"))  # of which this process knows nothing
    assert not channel.since(0)[0].breaks
    assert resumed(channel, "5-0") == ["9-0"]


def test_what_was_heard_before_is_no_event() -> None:
    channel = given_ids()
    told: list[int] = []
    take(channel, ("5-0", ""), ("6-0", "5-0"))
    channel.subscribe(lambda: told.append(1))
    assert channel.take("5-0", "", value()) is None
    assert channel.take("6-0", "5-0", value()) is None
    assert (channel.reached, told) == (2, [])


@pytest.mark.parametrize("after", ["", "5-0", "7-7"], ids=["lost", "rolled back", "trimmed"])
def test_an_event_that_follows_another_breaks_the_chain(
    after: str, caplog: pytest.LogCaptureFixture
) -> None:
    channel = given_ids()
    take(channel, ("5-0", ""), ("6-0", "5-0"))
    with caplog.at_level(logging.WARNING):
        take(channel, ("9-0", after))
    assert [event.breaks for event in channel.since(0)] == [True]  # and nothing from before
    assert channel.breaks_after(2)
    assert not channel.breaks_after(3)
    assert resumed(channel, "6-0") is None
    assert "events may be missing before 9-0" in caplog.text
    take(channel, ("9-1", "9-0"))
    assert [event.breaks for event in channel.since(0)] == [True, False]


def test_who_has_seen_more_than_the_others_here_were_sent_is_ahead_of_them() -> None:
    """It would be sent that with them, and so twice."""
    channel = given_ids()
    take(channel, ("5-0", ""), ("6-0", "5-0"), ("7-0", "6-0"))
    assert [channel.resume(position_of("6-0"), reached) for reached in (1, 0)] == [AHEAD, AHEAD]
    assert channel.resume(position_of("7-0"), 2) is AHEAD
    assert channel.resume(position_of("7-0"), 3) == []
    assert channel.resume(position_of("6-0"), 2) == channel.since(2)


def test_after_a_rollback_who_had_not_seen_what_is_lost_misses_nothing() -> None:
    channel = given_ids()
    take(channel, ("5-0", ""), ("6-0", "5-0"), ("9-0", "5-0"))
    assert resumed(channel, "5-0") == ["9-0"]


def test_a_client_with_an_id_that_is_still_to_come_is_ahead() -> None:
    channel = given_ids()
    assert resumed(channel, "5-0") is AHEAD  # nothing has been heard of yet
    take(channel, ("5-0", ""))
    assert resumed(channel, "5-1") is AHEAD
    assert resumed(channel, "6-0") is AHEAD
    take(channel, ("6-0", "5-0"))
    assert resumed(channel, "6-0") == []


def test_one_with_an_id_from_before_is_not() -> None:
    channel = given_ids(history=1)
    take(channel, ("5-0", ""), ("6-0", "5-0"), ("7-0", "6-0"))
    assert resumed(channel, "5-0") is None
    assert resumed(channel, "4-0") is None
    assert resumed(channel, "6-9") is None  # which would have come before


def test_nor_is_one_whose_event_is_lost() -> None:
    """The engine's clock is set back: the ids begin again from lower ones."""
    channel = given_ids()
    take(channel, ("500-0", ""), ("20-0", ""))
    assert resumed(channel, "500-0") is None
    assert resumed(channel, "600-0") is AHEAD  # nobody knows; it waits for as long as one may


def test_another_run_of_an_origin_is_told_from_its_numbers() -> None:
    channel = given_ids()
    take(channel, ("e-1", "e-0"), ("e-2", "e-1"))
    assert resumed(channel, "e-1") == ["e-2"]
    assert resumed(channel, "e-3") is AHEAD
    assert resumed(channel, "f-1") is AHEAD
    assert resumed(channel, "e-0") == ["e-1", "e-2"]


def test_as_many_ids_are_known_as_a_log_may_have() -> None:
    channel = given_ids(history=1)
    ids = [f"{number + 1}-0" for number in range(KNOWN)]
    for before, event_id in zip(["", *ids], ids, strict=False):
        take(channel, (event_id, before))
    for before, event_id in zip(["", *ids], ids, strict=False):
        assert channel.take(event_id, before, value()) is None


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15),
    st.integers(1, 4),
    st.integers(0, 6),
)
def test_who_is_given_events_is_given_a_chain(
    pairs: list[tuple[int, int]], history: int, last: int
) -> None:
    """Whatever comes, in whatever order: what a client is given follows its last event."""
    channel = given_ids(history=history)
    for own, after in pairs:
        take(channel, (f"{own}-1", f"{after}-1"))
    missed = channel.resume(position_of(f"{last}-1"))
    if isinstance(missed, list):
        expected = f"{last}-1"
        for event in missed:
            assert event.after == expected
            expected = event.id


# In a mix


def mix(history: int = 10) -> tuple[Channel, Channel, CombinedChannel]:
    a, b = given_ids("a", history), given_ids("b", history)
    return a, b, CombinedChannel([a, b])


def deaf() -> None:
    pass


def test_a_mix_keeps_each_part_s_id() -> None:
    a, b, combined = mix()
    combined.subscribe(deaf)
    take(a, ("5-0", ""))
    take(b, ("6-0", ""))
    take(a, ("7-0", "5-0"))
    assert [event.id for event in combined.since(0)] == ["5-0.", "5-0.6-0", "7-0.6-0"]


def test_the_ids_of_one_process_are_good_in_another_that_has_them_in_another_order() -> None:
    a, b, combined = mix()
    combined.subscribe(deaf)
    take(b, ("6-0", "4-0"), ("8-0", "6-0"))
    take(a, ("5-0", ""), ("7-0", "5-0"))
    assert resumed(combined, "5-0.6-0") == ["5-0.8-0", "7-0.8-0"]
    assert resumed(combined, "7-0.8-0") == []


def test_a_part_that_was_empty_is_begun_as_by_a_newcomer() -> None:
    a, b, combined = mix(history=1)
    combined.subscribe(deaf)
    take(a, ("5-0", ""))
    take(b, ("6-0", "2-0"), ("8-0", "6-0"))
    assert resumed(combined, "5-0.") == ["5-0.8-0"]


def test_a_part_that_was_empty_is_given_all_where_all_is_kept() -> None:
    a, b, combined = mix()
    combined.subscribe(deaf)
    take(a, ("5-0", ""))
    take(b, ("6-0", ""), ("8-0", "6-0"))
    assert resumed(combined, "5-0.") == ["5-0.6-0", "5-0.8-0"]


def test_who_is_ahead_in_one_part_waits_and_who_has_lost_one_is_told() -> None:
    a, b, combined = mix(history=1)
    combined.subscribe(deaf)
    take(a, ("5-0", ""), ("6-0", "5-0"))
    take(b, ("5-0", ""), ("6-0", "5-0"), ("7-0", "6-0"))
    assert resumed(combined, "7-0.7-0") is AHEAD
    assert resumed(combined, "7-0.5-0") is None
    assert resumed(combined, "5-0.8-0") is AHEAD


def test_who_has_seen_what_the_mix_has_not_heard_of_is_ahead_of_it() -> None:
    a, _, combined = mix()
    answers: list[object] = []
    a.subscribe(lambda: answers.append(resumed(combined, "5-0.")))  # told before the mix
    combined.subscribe(deaf)
    take(a, ("5-0", ""))
    assert answers == [AHEAD]
    assert resumed(combined, "5-0.") == []
    assert combined.resume(position_of("5-0."), combined.reached - 1) is AHEAD


def test_a_break_of_one_part_is_a_break_of_the_mix() -> None:
    a, b, combined = mix()
    combined.subscribe(deaf)
    take(a, ("5-0", ""))
    take(b, ("5-0", ""), ("9-0", ""))
    assert [event.breaks for event in combined.since(0)] == [False, False, True]
    assert combined.breaks_after(2)
    assert not combined.breaks_after(3)


# On streams


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.channel = given_ids(history=5)
    yield stage
    stage.close()


def lines(client: object, count: int) -> list[str]:
    return [client.line().rstrip("\n") for _ in range(count)]  # type: ignore[attr-defined]


def test_a_break_is_told_to_all_who_listen(stage: Stage) -> None:
    client, limited = stage.attach(), stage.attach(limit=2)
    stage.poke()
    take(stage.channel, ("5-0", ""))
    assert lines(client, 2) == ["open", "5-0"]
    take(stage.channel, ("9-0", "7-0"))
    assert lines(client, 2) == ["reset", "9-0"]
    assert limited.rest() == "open\n5-0\nreset\n9-0\nend\n"


def test_a_newcomer_is_told_of_no_break(stage: Stage) -> None:
    take(stage.channel, ("5-0", ""), ("9-0", "7-0"))
    assert lines(stage.attach(), 2) == ["open", "9-0"]
    assert lines(stage.attach(last_id="7-0"), 2) == ["open", "9-0"]  # to which it follows
    assert lines(stage.attach(last_id="5-0"), 3) == ["open", "reset", "9-0"]


@pytest.mark.usefixtures("small_buffers")
def test_who_was_too_slow_for_a_break_is_told_of_it(stage: Stage) -> None:
    slow, quick = stage.attach(), stage.attach()
    take(stage.channel, ("5-0", ""))
    assert lines(slow, 2) == lines(quick, 2)
    stage.channel.take("6-0", "5-0", value("x" * 4_000_000))
    assert len(quick.line()) > 4_000_000
    take(stage.channel, ("9-0", "8-0"), ("9-1", "9-0"))
    assert lines(quick, 3) == ["reset", "9-0", "9-1"]
    assert len(slow.line()) > 4_000_000
    assert lines(slow, 3) == ["reset", "9-0", "9-1"]


def test_a_client_that_is_ahead_waits_for_what_follows(stage: Stage) -> None:
    take(stage.channel, ("5-0", ""))
    ahead = stage.attach(last_id="6-0")
    stage.poke()
    take(stage.channel, ("6-0", "5-0"))
    assert ahead.line() == "open\n"  # and not 6-0, which it has
    take(stage.channel, ("7-0", "6-0"))
    assert ahead.line() == "7-0\n"


def test_one_that_waits_for_what_is_lost_is_told_when_that_is_known(stage: Stage) -> None:
    take(stage.channel, ("5-0", ""))
    ahead = stage.attach(last_id="6-0")
    stage.poke()
    take(stage.channel, ("7-0", "5-0"))
    assert lines(ahead, 3) == ["open", "reset", "7-0"]


def test_or_after_as_long_as_one_may_wait(stage: Stage) -> None:
    take(stage.channel, ("5-0", ""))
    ahead = stage.attach(last_id="6-0")
    stage.poke()
    stage.now += AHEAD_PATIENCE + 1
    stage.poke()
    assert lines(ahead, 3) == ["open", "reset", "5-0"]
    take(stage.channel, ("6-0", "5-0"))
    assert ahead.line() == "6-0\n"


def test_several_that_wait_are_each_given_their_own(stage: Stage) -> None:
    take(stage.channel, ("5-0", ""))
    far, near = stage.attach(last_id="7-0"), stage.attach(last_id="6-0")
    newcomer = stage.attach()
    assert lines(newcomer, 2) == ["open", "5-0"]
    take(stage.channel, ("6-0", "5-0"))
    assert newcomer.line() == "6-0\n"
    assert near.line() == "open\n"
    take(stage.channel, ("7-0", "6-0"))
    assert near.line() == "7-0\n"
    assert far.line() == "open\n"
    take(stage.channel, ("8-0", "7-0"))
    assert (near.line(), far.line(), newcomer.line()) == ("8-0\n", "8-0\n", "7-0\n")


def test_a_feed_that_fails_leaves_those_waiting_that_are_ahead(stage: Stage) -> None:
    ahead = stage.attach(last_id="6-0")
    stage.poke()
    stage.channel.fail(0.0, 0)
    stage.poke()
    take(stage.channel, ("6-0", "5-0"))
    assert ahead.line() == "open\n"


# What makes an outdated value good again


def test_who_waits_for_a_value_that_is_found_good_is_sent_it() -> None:
    """Another process has computed it, and it came out the same."""
    now = [0]
    clock: Callable[[], int] = lambda: now[0]  # noqa: E731
    stage = Stage()
    stage.channel = Channel("x", epoch="", clock=clock)
    try:
        stage.channel.take("5-0", "", Value(Text("five"), computed=0.0, fresh_until=10))
        now[0] = 20
        client = stage.attach(patience=1000)
        stage.poke()
        stage.channel.renew(30)
        assert lines(client, 2) == ["open", "five"]
    finally:
        stage.close()
