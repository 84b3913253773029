"""The contract of a broker, which each one passes; and that one which breaks it does not.

To add a broker, add a Site for it to tests/broker_sites.py: nothing here names any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.push.broker.protocol import (
    Broker,
    BrokerUnavailable,
    Entry,
    Fenced,
    Lease,
    Notice,
)
from tests.broker_sites import SITES, Site, WithoutFence
from tests.servers import until

PATIENCE = 15.0


class Ear:
    """Hears of everything."""

    def __init__(self) -> None:
        self.heard: list[Entry | Notice] = []
        self.caught = 0
        self.cuts: list[str] = []
        self.threads: set[int] = set()
        self.hold: threading.Event | None = None

    def hear(self, said: Entry | Notice) -> None:
        if self.hold is not None:
            self.hold.wait(PATIENCE)
        self.threads.add(threading.get_ident())
        self.heard.append(said)

    def caught_up(self) -> None:
        self.caught += 1

    def cut_off(self, why: str) -> None:
        self.cuts.append(why)

    def entries(self, feed: str = "a") -> list[Entry]:
        return [said for said in self.heard if isinstance(said, Entry) and said.feed == feed]

    def bodies(self, feed: str = "a") -> list[bytes]:
        return [entry.body for entry in self.entries(feed)]

    def notices(self) -> list[bytes]:
        return [said.body for said in self.heard if isinstance(said, Notice)]


def order(entry_id: str) -> tuple[int, int]:
    first, _, second = entry_id.partition("-")
    return int(first), int(second)


@pytest.fixture(params=list(SITES))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with closing(SITES[request.param]()) as made:
        yield made


@pytest.fixture
def broker(site: Site) -> Broker:
    return site.broker()


def follow(broker: Broker, *feeds: str, after: str = "") -> Ear:
    ear = Ear()
    for feed in feeds or ("a",):
        broker.follow(feed, ear, after)
    until(lambda: ear.caught, "the follower to have caught up")
    return ear


_onces = iter(range(10**9))


def once() -> str:
    return f"once-{next(_onces)}"


def publish(broker: Broker, body: bytes = b"", feed: str = "a", **more: object) -> str:
    return broker.publish(feed, body, once=once(), **more)  # type: ignore[arg-type]


def take(broker: Broker, feed: str = "a", seconds: float = 30.0) -> Lease:
    lease = broker.lease(feed, None, once(), seconds)
    assert lease is not None
    return lease


# What is published, is heard


def test_all_hear_all_in_one_order_with_the_same_ids(site: Site) -> None:
    ears = [follow(site.broker()) for _ in range(3)]
    publishers = [site.broker() for _ in range(2)]

    def run(broker: Broker, name: bytes) -> None:
        for number in range(50):
            publish(broker, b"%s%d" % (name, number), keep=200)

    threads = [
        threading.Thread(target=run, args=(broker, name))
        for broker, name in zip(publishers, (b"x", b"y"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: all(len(ear.entries()) == 100 for ear in ears), "all to hear all")
    assert ears[0].entries() == ears[1].entries() == ears[2].entries()
    for name in (b"x", b"y"):
        said = [body for body in ears[0].bodies() if body.startswith(name)]
        assert said == [b"%s%d" % (name, number) for number in range(50)]


def test_each_entry_names_the_one_before_it_and_ids_grow(broker: Broker) -> None:
    ear = follow(broker)
    ids = [publish(broker) for _ in range(20)]
    until(lambda: len(ear.entries()) == 20, "the entries")
    entries = ear.entries()
    assert [entry.id for entry in entries] == ids
    assert entries[0].after == ""
    assert all(two.after == one.id for one, two in pairwise(entries))
    assert all(order(one.id) < order(two.id) for one, two in pairwise(entries))


def test_one_that_comes_late_hears_what_is_kept_and_then_what_comes(site: Site) -> None:
    broker = site.broker()
    for number in range(20):
        publish(broker, b"%d" % number, keep=8)
    ear = follow(site.broker())
    publish(broker, b"20")
    until(lambda: b"20" in ear.bodies(), "the newest")
    assert ear.bodies() == [b"%d" % number for number in range(12, 21)]


def test_one_that_was_there_before_hears_what_came_after(site: Site) -> None:
    broker = site.broker()
    ids = [publish(broker, b"%d" % number) for number in range(5)]
    ear = follow(site.broker(), after=ids[2])
    publish(broker, b"5")
    until(lambda: b"5" in ear.bodies(), "the newest")
    assert ear.bodies() == [b"3", b"4", b"5"]
    assert ear.entries()[0].after == ids[2]


def test_one_whose_place_is_not_kept_hears_all_that_is(site: Site) -> None:
    broker = site.broker()
    ids = [publish(broker, b"%d" % number, keep=8) for number in range(20)]
    ear = follow(site.broker(), after=ids[3])
    until(lambda: len(ear.bodies()) == 8, "what is kept")
    assert ear.entries()[0].after == ids[11]


def test_feeds_are_apart(broker: Broker) -> None:
    ear = follow(broker, "a", "b")
    one, two = publish(broker, b"1", "a"), publish(broker, b"2", "b")
    publish(broker, b"3", "c")
    until(lambda: ear.entries("a") and ear.entries("b"), "both")
    assert ear.entries("a") == [Entry("a", one, "", 0, b"1")]
    assert ear.entries("b") == [Entry("b", two, "", 0, b"2")]
    assert not ear.entries("c")


@pytest.mark.parametrize("feed", ["zürich", "{x}", "a:b", "a'b\"c\\", "*", "a" * 200])
def test_a_feed_may_have_any_name(broker: Broker, feed: str) -> None:
    ear = follow(broker, feed)
    publish(broker, b"1", feed)
    until(lambda: ear.bodies(feed) == [b"1"], "the entry")


@pytest.mark.parametrize("size", [0, 1, 100_000, 2 * 1024 * 1024])
def test_an_entry_may_have_any_size(broker: Broker, size: int) -> None:
    ear = follow(broker)
    publish(broker, b"\0" * size)
    until(lambda: ear.bodies() == [b"\0" * size], "the entry")


def test_an_entry_may_be_any_bytes(broker: Broker) -> None:
    ear = follow(broker)
    given_bodies: list[bytes] = []

    @given(body=st.binary(max_size=200))
    @settings(max_examples=50, database=None)
    def send(body: bytes) -> None:
        publish(broker, body)
        given_bodies.append(body)
        until(lambda: len(ear.entries()) == len(given_bodies), "the entry")
        assert ear.entries()[-1].body == body

    send()


def test_a_beat_is_kept_with_its_entry(broker: Broker) -> None:
    ear = follow(broker)
    publish(broker, beat=7)
    until(lambda: ear.entries(), "the entry")
    assert ear.entries()[0].beat == 7


def test_a_follower_hears_in_one_thread_that_goes_on_after_an_error(broker: Broker) -> None:
    class Deaf(Ear):
        def hear(self, said: Entry | Notice) -> None:
            super().hear(said)
            if isinstance(said, Entry) and said.body == b"1":
                raise RuntimeError("deaf")

    ear = Deaf()
    broker.follow("a", ear)
    for number in range(3):
        publish(broker, b"%d" % number)
    until(lambda: len(ear.bodies()) == 3, "the others")
    assert len(ear.threads) == 1


# The same twice is once


def test_the_same_is_published_once_though_others_publish_meanwhile(site: Site) -> None:
    broker, other = site.broker(), site.broker()
    first = broker.publish("a", b"1", once="k", remember=60)
    second = publish(other, b"2", remember=60)
    assert broker.publish("a", b"1", once="k", remember=60) == first
    assert other.publish("a", b"1", once="k", remember=60) == first
    third = broker.publish("a", b"3", once="l", remember=60)
    assert len({first, second, third}) == 3
    assert follow(broker).bodies() == [b"1", b"2", b"3"]


def test_what_is_known_is_known_for_one_feed_and_for_a_while(site: Site) -> None:
    broker = site.broker()
    broker.publish("a", b"1", once="k", remember=0.05)
    broker.publish("b", b"1", once="k", remember=60)
    site.wait(0.1)
    broker.publish("a", b"2", once="k", remember=60)
    assert follow(broker).bodies() == [b"1", b"2"]


def test_what_is_known_of_a_feed_is_not_taken_for_another_s(broker: Broker) -> None:
    first = broker.publish("a", b"1", once="b:c", remember=60)
    assert broker.publish("a:b", b"2", once="c", remember=60) != first


def test_who_holds_the_lease_publishes_the_same_once(broker: Broker) -> None:
    lease = take(broker)
    first = broker.publish("a", b"1", once="k", beat=1, lease=lease)
    assert broker.publish("a", b"1", once="k", beat=1, lease=lease) == first
    second = broker.publish("a", b"2", once="l", beat=1, lease=lease)
    assert second != first  # a slow feed sends two events in one beat
    assert follow(broker).bodies() == [b"1", b"2"]


# The lease


def test_one_holds_it_at_a_time(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one)
    assert two.lease("a", None, "other", 30) is None
    assert one.lease("a", held, "fresh", 30) == held
    assert two.lease("b", None, "other", 30) is not None


def test_it_ends_by_itself_and_is_another_s_then(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one, seconds=0.1)
    site.wait(0.2)
    other = take(two)
    assert other.token != held.token
    assert one.lease("a", held, "again", 30) is None


def test_it_is_prolonged(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one, seconds=0.4)
    for _ in range(4):
        site.wait(0.2)
        assert one.lease("a", held, "unused", 0.4) == held
    assert two.lease("a", None, "other", 1) is None


def test_who_has_lost_it_publishes_nothing(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one, seconds=0.05)
    site.wait(0.1)
    take(two)
    with pytest.raises(Fenced):
        publish(one, b"late", lease=held)
    with pytest.raises(Fenced):
        one.tell("a", b"late", lease=held)
    assert follow(two).heard == []


def test_nor_does_who_has_lost_it_to_nobody(site: Site) -> None:
    broker = site.broker()
    held = take(broker, seconds=0.05)
    site.wait(0.1)
    with pytest.raises(Fenced):
        publish(broker, lease=held)


def test_the_same_process_s_next_lease_is_another(site: Site) -> None:
    """What it had begun before it lost the first is not to be published under the second."""
    broker = site.broker()
    held = take(broker, seconds=0.05)
    site.wait(0.1)
    again = broker.lease("a", held, "second", 30)
    assert again is not None
    assert again.token == "second"
    with pytest.raises(Fenced):
        publish(broker, lease=held)
    publish(broker, lease=again)


def test_an_attempt_that_was_not_answered_may_be_made_again(site: Site) -> None:
    one, two = site.broker(), site.broker()
    first = one.lease("a", None, "fresh", 30)  # of whose answer nothing is known
    assert one.lease("a", None, "fresh", 30) == first
    assert two.lease("a", None, "other", 30) is None


def test_it_is_given_back(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one)
    one.release(held)
    with pytest.raises(Fenced):
        publish(one, lease=held)
    other = take(two)
    one.release(held)  # which is not its own any more
    assert two.lease("a", other, "unused", 30) == other


def test_who_takes_over_is_told_the_newest_beat(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one)
    assert held.beat == 0
    publish(one, beat=41, lease=held)
    one.tell("a", b"unchanged", lease=held, beat=42)
    publish(two)  # from outside: for no beat
    one.release(held)
    assert take(two).beat == 42


def test_there_is_one_clock(site: Site) -> None:
    brokers = [site.broker() for _ in range(3)]
    for broker in brokers:
        broker.lease("a", None, once(), 1)
        broker.lease(once(), None, once(), 1)
    times = [broker.clock.engine(broker.clock.now()) for broker in brokers]
    known = [time for time in times if time is not None]
    assert len(known) == 3
    assert max(known) - min(known) < 500_000_000  # generous: they were not asked at once


# Notices


def test_of_notices_the_newest_is_kept(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    lease = take(broker)
    for number in range(3):
        broker.tell("a", b"%d" % number, lease=lease)
    until(lambda: ear.notices()[-1:] == [b"2"], "the newest")
    assert follow(site.broker()).notices() == [b"2"]
    assert not ear.entries()


# What happens to an engine


def test_a_loss_breaks_the_chain(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    last = [publish(broker, b"%d" % number) for number in range(3)][-1]
    until(lambda: len(ear.entries()) == 3, "the entries")
    site.lose()
    site.again(lambda: publish(broker, b"new"))
    until(lambda: b"new" in ear.bodies(), "what came after the loss")
    assert ear.entries()[-1].after not in (last, ear.entries()[-2].id)


def test_a_rollback_breaks_the_chain(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    kept = [publish(broker, b"%d" % number) for number in range(3)][-1]
    copy = site.keep()
    last = [publish(broker, b"lost%d" % number) for number in range(3)][-1]
    until(lambda: len(ear.entries()) == 6, "the entries")
    site.roll_back(copy)
    site.again(lambda: publish(broker, b"new"))
    until(lambda: b"new" in ear.bodies(), "what came after the rollback")
    new = next(entry for entry in ear.entries() if entry.body == b"new")
    assert new.after == kept != last


def test_an_id_never_names_another_entry(site: Site) -> None:
    """The clock is set back, and then what is published is lost: ids that count on from the last
    one, as an engine's own may, would be given away again."""
    broker = site.broker()
    ear = follow(broker)
    publish(broker, b"kept")
    site.set_back(3600)
    publish(broker, b"kept, too")
    copy = site.keep()
    for number in range(3):
        publish(broker, b"lost%d" % number)
    until(lambda: len(ear.entries()) == 5, "the entries")
    lost = {entry.id for entry in ear.entries()}
    site.roll_back(copy)
    for number in range(5):
        site.again(lambda number=number: publish(broker, b"new%d" % number))  # type: ignore[misc]
    until(lambda: b"new4" in ear.bodies(), "what came after the rollback")
    new = [entry.id for entry in ear.entries() if entry.body.startswith(b"new")]
    assert not lost.intersection(new)
    assert all(order(one) < order(two) for one, two in pairwise(new))
    # All five, or those from where it came back; and it shows that they do not join.
    first = next(entry for entry in ear.entries() if entry.body.startswith(b"new"))
    assert first.after != ear.entries()[4].id


def test_a_lease_does_not_last_for_as_long_as_the_clock_was_set_back(site: Site) -> None:
    one, two = site.broker(), site.broker()
    held = take(one, seconds=5)
    site.set_back(3600)
    assert two.lease("a", None, "other", 5) is not None
    with pytest.raises(Fenced):
        publish(one, lease=held)


def test_a_restart_that_loses_nothing_goes_on(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    last = publish(broker, b"1")
    until(lambda: ear.entries(), "the entry")
    site.restart()
    site.again(lambda: publish(broker, b"2"))
    until(lambda: len(ear.entries()) == 2, "the next")
    assert ear.entries()[-1].after == last


def test_a_follower_that_is_held_up_for_longer_than_the_log_is_told(site: Site) -> None:
    broker, other = site.broker(), site.broker()
    ear = follow(broker)
    ear.hold = threading.Event()
    if not site.hears_elsewhere:
        pytest.skip("who publishes waits for who hears")
    ids = [publish(other, b"%d" % number, keep=8) for number in range(100)]
    ear.hold.set()
    until(lambda: ear.entries() and ear.entries()[-1].id == ids[-1], "the newest")
    chained = all(two.after == one.id for one, two in pairwise(ear.entries()))
    assert len(ear.entries()) == 100 or not chained


def test_while_it_stands_still_it_is_unavailable_and_then_goes_on(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    held = take(broker, seconds=60)
    with site.standing():
        with pytest.raises(BrokerUnavailable):
            broker.publish("a", b"1", once="k", beat=1, lease=held)
        with pytest.raises(BrokerUnavailable):
            broker.lease("a", held, "unused", 60)
    site.again(lambda: broker.publish("a", b"1", once="k", beat=1, lease=held))
    until(lambda: ear.bodies() == [b"1"], "the entry, once")
    publish(broker, b"2", lease=held)
    until(lambda: ear.bodies() == [b"1", b"2"], "the next")


def test_while_it_is_away_the_follower_is_told_and_then_goes_on(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    with site.away():
        with pytest.raises(BrokerUnavailable):
            publish(broker)
        until(lambda: ear.cuts, "the follower to be told")
    caught = ear.caught
    site.again(lambda: publish(broker, b"1"))
    until(lambda: ear.bodies() == [b"1"] and ear.caught > caught, "the entry")


def test_a_cut_connection_is_made_again(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    for number in range(20):
        if number % 5 == 4:
            site.cut()
        site.again(
            lambda number=number: broker.publish(  # type: ignore[misc]
                "a", b"%d" % number, once=f"n{number}", remember=60, keep=30
            )
        )
    until(lambda: len(ear.bodies()) >= 20, "all of them")
    assert ear.bodies() == [b"%d" % number for number in range(20)]


def test_a_reply_that_is_cut_in_its_middle_is_asked_for_again(site: Site) -> None:
    with site.cutting() as through:
        broker = through.broker()
        ear = follow(broker)
        for number in range(10):
            through.cut_next_reply(after=number)
            site.again(
                lambda number=number: broker.publish(  # type: ignore[misc]
                    "a", b"%d" % number * 1000, once=f"n{number}", remember=60, keep=30
                )
            )
        until(lambda: len(ear.bodies()) >= 10, "all of them")
        assert ear.bodies() == [b"%d" % number * 1000 for number in range(10)]


def test_while_it_is_full_what_is_there_stays_and_then_it_goes_on(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    held = take(broker)
    publish(broker, b"1", lease=held)
    with site.full(), pytest.raises(BrokerUnavailable):
        publish(broker, b"2", lease=held)
    site.again(lambda: publish(broker, b"3", lease=held))
    until(lambda: ear.bodies() == [b"1", b"3"], "the entries")


def test_while_it_is_read_only_it_is_unavailable_and_then_goes_on(site: Site) -> None:
    broker = site.broker()
    ear = follow(broker)
    with site.read_only(), pytest.raises(BrokerUnavailable):
        publish(broker)
    site.again(lambda: publish(broker, b"1"))
    until(lambda: b"1" in ear.bodies(), "the entry")


def test_after_a_failover_it_goes_on_and_what_is_lost_shows(site: Site) -> None:
    with site.failing_over() as both:
        broker = both.broker()
        ear = follow(broker)
        held = take(broker, seconds=60)
        kept = publish(broker, b"kept", lease=held)
        both.part()
        publish(broker, b"lost", lease=held)
        until(lambda: ear.bodies() == [b"kept", b"lost"], "both")
        both.switch()
        site.again(lambda: publish(broker, b"new", lease=held))  # which was replicated
        until(lambda: b"new" in ear.bodies(), "what came after the failover")
        new = next(entry for entry in ear.entries() if entry.body == b"new")
        assert new.after == kept


def test_it_is_closed_within_seconds(site: Site) -> None:
    broker = site.broker()
    follow(broker)
    publish(broker)
    began = time.monotonic()
    broker.close()
    broker.close()
    assert time.monotonic() - began < 5  # generous: 1


# Some of which must fail where the fence is missing

FENCING = (
    test_who_has_lost_it_publishes_nothing,
    test_nor_does_who_has_lost_it_to_nobody,
    test_the_same_process_s_next_lease_is_another,
    test_it_is_given_back,
)


@pytest.mark.parametrize("test", FENCING)
def test_a_broker_without_the_fence_does_not_pass(test: Callable[[Site], None]) -> None:
    with (
        closing(WithoutFence()) as site,
        pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"),
    ):
        test(site)
