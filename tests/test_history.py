"""The history checker: each fault, planted, is found and named; a correct history is clean."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.variants import named
from pushdemo.push.event import Event, FeedStatus, Value
from tests.history import (
    Client,
    Connected,
    Disconnected,
    Entry,
    Heartbeat,
    Kind,
    Notice,
    Published,
    Reset,
    Seen,
    witnessed,
)
from tests.judging import Bounds, judge
from tests.recording import Log, Recorder, normal

BOUNDS = Bounds(silence=3.0, late=2.0, beats={"a": 3.0})


def log(feed: str = "a", count: int = 6, begin: int = 1) -> list[Published]:
    """An event each second; every third is a repeat."""
    return [
        Published(feed, f"{feed}-{n}", f"{feed}{n - n % 3}", at=float(n))
        for n in range(begin, begin + count)
    ]


def seen(published: Published, at: float | None = None, id: str = "") -> Seen:  # noqa: A002
    at = (published.at or 0.0) + 0.1 if at is None else at
    return Seen(at, published.feed, id or published.id, published.value)


def client(*entries: Entry, slow: bool = False, feeds: str = "a") -> Client:
    return Client("client", tuple(feeds), [Connected(0.0), *entries], slow)


def kinds(published: list[Published], *clients: Client, bounds: Bounds | None = None) -> list[Kind]:
    return [fault.kind for fault in judge(published, clients, bounds or Bounds()).faults]


def mix_of(logs: list[list[Published]]) -> list[Seen]:
    """All events of some logs, in the order of their times, as a stream of several sends them."""
    reached = [f"{one[0].feed}-0" for one in logs]
    events = []
    for event, number in sorted(
        ((event, number) for number, one in enumerate(logs) for event in one),
        key=lambda pair: (pair[0].at, pair[1]),
    ):
        reached[number] = event.id
        events.append(seen(event, id=".".join(reached)))
    return events


# By example: what is right


def test_all_of_it_in_order_is_clean() -> None:
    assert kinds(log(), client(*map(seen, log())), bounds=BOUNDS) == []


def test_a_newcomer_may_begin_anywhere_before_it_came() -> None:
    late = Client("late", "a", [Connected(3.5), *map(seen, log()[2:])])
    assert kinds(log(), late, bounds=BOUNDS) == []


def test_a_reset_allows_a_gap_once_and_the_same_event_again() -> None:
    events = log()
    entries: list[Entry] = [seen(events[0]), Reset(2.0), seen(events[3]), seen(events[4])]
    assert kinds(events, client(*entries)) == []
    assert kinds(events, client(seen(events[0]), Reset(2.0), seen(events[0]))) == []
    assert kinds(events, client(*entries[:3], seen(events[5]))) == [Kind.GAP]


def test_a_client_that_comes_back_without_an_id_may_have_missed_events() -> None:
    events = log()
    entries: list[Entry] = [
        seen(events[0]),
        Disconnected(2.0),
        Connected(4.0),
        seen(events[3], 4.1),
    ]
    assert kinds(events, client(*entries), bounds=Bounds(late=2.0)) == []


def test_a_client_that_comes_back_with_an_id_goes_on_after_it() -> None:
    events = log()
    again: list[Entry] = [
        Disconnected(4.0),
        Connected(4.0, after="a-2"),
        *(seen(e, 4.1) for e in events[2:4]),
    ]
    assert kinds(events, client(*map(seen, events[:3]), *again)) == []
    assert kinds(events, client(*map(seen, events[:2]), *again)) == []


def test_a_slow_client_may_skip() -> None:
    events = log()
    assert kinds(events, client(seen(events[0]), seen(events[4]), slow=True)) == []


def test_what_its_format_cannot_carry_may_be_left_out() -> None:
    events = log()
    events[2] = replace(events[2], carried=False)
    assert kinds(events, client(*map(seen, events[:2] + events[3:]))) == []


def test_notices_and_heartbeats_break_a_silence_but_are_no_beat() -> None:
    entries: list[Entry] = [Heartbeat(2.5), Notice(5.0, "error", "a"), Disconnected(6.0)]
    assert kinds([], client(*entries), bounds=Bounds(silence=3.0)) == []
    assert kinds([], client(*entries), bounds=BOUNDS) == [Kind.STALE]


def test_ids_that_others_give_are_judged_by_the_log_alone() -> None:
    ids = ["17-0", "19-4", "19-5"]
    chain = [
        Published("a", event_id, n, after=after)
        for n, (event_id, after) in enumerate(zip(ids, ["", *ids], strict=False))
    ]
    assert kinds(chain, client(*map(seen, chain))) == []
    assert kinds(chain, client(seen(chain[0]), seen(chain[2]))) == [Kind.GAP]
    assert kinds([chain[0], chain[2]]) == [Kind.GAP]  # of the publisher


# By example: what is wrong


def test_a_gap_is_one_fault_that_names_its_events() -> None:
    events = log()
    (fault,) = judge(events, [client(seen(events[0]), seen(events[4]))]).faults
    assert (fault.kind, fault.client, fault.feed) == (Kind.GAP, "client", "a")
    assert fault.events == ("a-2", "a-3", "a-4")
    assert str(fault) == "client, a: gap: a-2 to a-4 (3 events) did not come"


def test_a_newcomer_must_see_what_is_published_from_its_coming_on() -> None:
    events = log()
    entries = client(*map(seen, events[2:]))
    assert kinds(events, entries) == [Kind.GAP]
    assert kinds(events, entries, bounds=Bounds(settle=2.5)) == []


def test_an_id_that_names_nothing_must_be_answered_by_a_reset() -> None:
    events = log()
    back: list[Entry] = [Connected(1.0, after="b-9"), seen(events[3])]
    assert kinds(events, client(seen(events[0]), Disconnected(1.0), *back)) == [Kind.GAP]
    back.insert(1, Reset(1.0))
    assert kinds(events, client(seen(events[0]), Disconnected(1.0), *back)) == []


def test_after_a_reset_nothing_older_may_come() -> None:
    events = log()
    entries: list[Entry] = [seen(events[3]), Reset(9.0), seen(events[1], 9.0)]
    assert kinds(events, client(*entries), bounds=Bounds(settle=9.0)) == [Kind.DISORDER]


@pytest.mark.parametrize("sign", [True, False])
def test_a_silence_is_stale_unless_there_is_a_sign_of_life(sign: bool) -> None:
    entries: list[Entry] = [Heartbeat(2.0)] if sign else []
    found = kinds([], client(*entries, Disconnected(4.0)), bounds=Bounds(silence=3.0))
    assert found == ([] if sign else [Kind.STALE])


def test_silence_lasts_until_the_end_of_the_watch() -> None:
    watched = client(*map(seen, log()[:1]))
    watched.until = 5.0
    assert kinds(log(count=1), watched, bounds=Bounds(silence=3.0)) == [Kind.STALE]


def test_the_last_event_must_come_too() -> None:
    events = log()
    watched = client(*map(seen, events[:-1]))
    watched.until = 9.0
    assert kinds(events, watched, bounds=Bounds(late=2.0)) == [Kind.STALE]


def test_a_stream_that_the_server_ends_is_broken() -> None:
    assert kinds([], client(Disconnected(1.0, "it ended"))) == [Kind.BROKEN]


def test_an_id_that_names_two_values_is_the_publisher_s_fault() -> None:
    first = Published("a", "a-1", "one")
    assert kinds([first, replace(first, value="two")]) == [Kind.AMBIGUOUS_ID]
    assert kinds([first, first]) == [Kind.DUPLICATE]


def test_an_id_of_several_feeds_that_passes_over_an_event_is_a_gap() -> None:
    logs = [log("a"), log("b")]
    entries = mix_of(logs)
    assert kinds([*logs[0], *logs[1]], client(*entries, feeds="ab")) == []
    entries[3] = replace(entries[3], id="a-4.b-2")
    assert kinds([*logs[0], *logs[1]], client(*entries, feeds="ab")) == [Kind.GAP]
    entries[3] = replace(entries[3], id="a-1.b-2")
    assert kinds([*logs[0], *logs[1]], client(*entries, feeds="ab")) == [Kind.DISORDER]


def test_what_all_saw_stands_for_what_was_published() -> None:
    events = log(count=5)
    one, other = client(*map(seen, events[:2])), client(*map(seen, events[3:]))
    found = witnessed([one, other], timed=True)
    assert [event.id for event in found] == [event.id for event in events]
    assert kinds(found, client(*map(seen, events[:2] + events[3:]))) == [Kind.GAP]  # nobody saw it
    found = witnessed([one, other], nobody_saw=False)
    assert kinds(found, client(*map(seen, events[:2] + events[3:]))) == []
    other.entries.append(Seen(9.0, "a", "a-1", "another"))
    assert Kind.AMBIGUOUS_ID in judge(witnessed([one, other]), []).kinds


def test_a_wrong_number_does_not_make_a_log_without_end() -> None:
    events = [Seen(0.0, "a", "a-1", ""), Seen(1.0, "a", f"a-{10**15}", "")]
    assert len(witnessed([client(*events)])) < 2000


# By property


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Published], Client]:
    """What was published, and a client that saw all of it; of one feed or of two."""
    count = draw(st.integers(8, 25))
    logs = [log(feed, count) for feed in draw(st.sampled_from(["a", "ab"]))]
    published = [event for one in logs for event in one]
    if len(logs) == 1:
        return published, client(*map(seen, published))
    return published, client(*mix_of(logs), feeds="ab")


def coming_back(draw: st.DrawFn, entries: list[Entry]) -> list[Entry]:
    """The same, with disconnections after which the client resumes where it was, and with events
    that come again because it forgot that it had them."""
    events = [entry for entry in entries if isinstance(entry, Seen)]
    changed: list[Entry] = [Connected(0.0), events[0]]
    for place in range(1, len(events)):
        if draw(st.integers(0, 5)) == 0:
            back = draw(st.integers(max(1, place - 1), place))
            at = events[place].at
            changed += [Disconnected(at), Connected(at, after=events[back - 1].id)]
            changed += [replace(event, at=at) for event in events[back:place]]
        changed.append(events[place])
    return changed


@given(history=histories(), data=st.data())
def test_a_correct_history_is_clean(
    history: tuple[list[Published], Client], data: st.DataObject
) -> None:
    published, one = history
    assert str(judge(published, [one], BOUNDS)) == "no fault"
    one.entries = data.draw(st.composite(coming_back)(one.entries))
    assert str(judge(published, [one], BOUNDS)) == "no fault"


FAULTS = {
    "drop": Kind.GAP,
    "duplicate": Kind.DUPLICATE,
    "swap": Kind.DISORDER,
    "value": Kind.WRONG_VALUE,
    "delay": Kind.STALE,
    "silence": Kind.STALE,
    "id": Kind.UNPUBLISHED,
    "feed": Kind.UNASKED,
    "end": Kind.BROKEN,
}


def plant(fault: str, entries: list[Entry], place: int) -> None:
    """Do something to the event at `place`."""
    event = entries[place]
    assert isinstance(event, Seen)
    if fault == "drop":
        del entries[place]
    elif fault == "duplicate":
        entries.insert(place, event)
    elif fault == "swap":
        # The next of its feed, and the times stay where they were.
        other = next(
            n
            for n in range(place + 1, len(entries))
            if entries[n].feed == event.feed  # type: ignore[union-attr]
        )
        first, second = entries[place], entries[other]
        entries[place] = replace(second, at=first.at)
        entries[other] = replace(first, at=second.at)
    elif fault == "value":
        entries[place] = replace(event, value="altered")
    elif fault == "delay":
        entries[place] = replace(event, at=event.at + 2.5)
        entries[place + 1 :] = [
            replace(later, at=max(later.at, event.at + 2.5)) for later in entries[place + 1 :]
        ]
    elif fault == "silence":
        entries[place:] = [replace(later, at=later.at + 4) for later in entries[place:]]
    elif fault == "id":
        entries[place] = replace(event, id=event.id.replace(f"{event.feed}-", "x-"))
    elif fault == "feed":
        entries.insert(place, replace(event, feed="other"))
    elif fault == "end":
        entries.insert(place, Disconnected(event.at, "planted"))
        entries.insert(place + 1, Connected(event.at, _before(entries, place)))


def _before(entries: list[Entry], place: int) -> str | None:
    return next((e.id for e in reversed(entries[:place]) if isinstance(e, Seen)), None)


@pytest.mark.parametrize("fault", FAULTS)
@given(history=histories(), data=st.data())
def test_a_planted_fault_is_found_and_named(
    fault: str, history: tuple[list[Published], Client], data: st.DataObject
) -> None:
    published, one = history
    place = data.draw(st.integers(3, len(one.entries) - 3))
    plant(fault, one.entries, place)
    verdict = judge(published, [one, Client("other", "a")], BOUNDS)
    kinds = verdict.kinds
    if fault == "swap" and len(one.feeds) > 1:
        kinds.discard(Kind.GAP)  # the first of the two tells of events that are still to come
    assert kinds == {FAULTS[fault]}
    assert {found.client for found in verdict.faults} == {"client"}


# Recording


def framings(feeds: int) -> dict[str, Framing]:
    plain: list[Framing] = [EventStream(), NdJson(), Multipart("test")]
    if feeds > 1:
        plain = [named(framing) for framing in plain]
    return {type(framing).__name__: framing for framing in plain} | {
        f"Gzip {type(framing).__name__}": Gzip(framing) for framing in plain
    }


TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30)


@pytest.mark.parametrize("name", framings(1))
@pytest.mark.parametrize("feeds", ["a", "ab"])
@given(values=st.lists(TEXTS | st.integers(), max_size=6), cuts=st.randoms(use_true_random=False))
def test_what_a_framing_writes_is_recorded_however_it_is_cut(
    name: str, feeds: str, values: list[str | int], cuts: random.Random
) -> None:
    framing = framings(len(feeds))[name]
    body, expected = framing.opening, []
    for number, value in enumerate(values):
        feed = feeds[number % len(feeds)]
        event = Event(number, f"e-{number}", feed, Value(payload_of(value), 0.0, 0))
        body += event.frame(framing) + framing.heartbeat
        expected.append((feed, event.id, normal(value)))
    body += framing.reset + framing.encode_status(FeedStatus(1, "a", 5.0))
    encoding = "Content-Encoding: gzip\r\n" if framing.content_encoding else ""
    response = (
        f"HTTP/1.0 200 OK\r\nContent-Type: {framing.content_type}\r\n{encoding}\r\n".encode() + body
    )
    one = Log("one", feeds)
    one.connect("e-0")
    at = 0.0
    while response:
        at += 1
        size = cuts.randint(1, 200)
        one.receive(response[:size], at)
        response = response[size:]
    entries = one.client.entries
    assert isinstance(entries[0], Connected)
    assert entries[0].after == "e-0"
    assert [(seen.feed, seen.id, seen.value) for seen in one.client.seen] == expected
    assert sum(isinstance(entry, Heartbeat) for entry in entries) >= len(values)
    assert entries[-2:] == [Reset(entries[-2].at), Notice(entries[-1].at, "error", "a")]
    one.receive(b"", at)
    assert entries[-1] == Disconnected(at, "the server ended the stream")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/event-stream", b"data: x\n\n"),  # no id
        ("text/event-stream", b"nonsense\n\n"),
        ("text/event-stream", b"id: \xff\n"),
        ("text/event-stream", b"event: error\ndata: {\n\n"),
        ("application/x-ndjson", b"{}\n"),
        ("application/x-ndjson", b"{\n"),
        ("multipart/x-mixed-replace;boundary=test", b"--tost\r\n"),
        ("multipart/x-mixed-replace;boundary=test", b"--test\r\nEvent-ID: 1\r\n\r\n"),  # no length
        ("multipart/x-mixed-replace;boundary=test", b"--test\r\nno header\r\n\r\n"),
        (
            "multipart/x-mixed-replace;boundary=test",
            b"--test\r\nContent-Length: 1\r\nEvent-ID: 1\r\n\r\nxyz--test\r\n",
        ),
        ("text/html", b""),
        ("multipart/x-mixed-replace", b""),
    ],
)
def test_what_no_format_allows_is_a_broken_stream(content_type: str, body: bytes) -> None:
    one = Log("one", "a")
    one.connect()
    head = f"HTTP/1.0 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()
    one.receive(head + body + b"\n" * 20, 1.0)
    one.receive(b"what comes later is not looked at", 2.0)
    assert [type(entry) for entry in one.client.entries][-1] is Disconnected
    assert judge([], [one.client]).kinds == {Kind.BROKEN}


@pytest.mark.parametrize("head", [b"HTTP/1.0 503 No\r\n\r\n", b"x" * 70_000, b"HTTP/1.0 200\r\n"])
def test_what_is_no_stream_is_a_broken_stream(head: bytes) -> None:
    one = Log("one", "a")
    one.connect()
    one.receive(head + b"\r\n\r\n" * (len(head) < 70_000), 1.0)
    assert judge([], [one.client]).kinds == {Kind.BROKEN}


def test_bytes_that_are_not_gzip_are_a_broken_stream() -> None:
    one = Log("one", "a")
    one.connect()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
    one.receive(head + zlib.compress(b"not gzip"), 1.0)
    assert judge([], [one.client]).kinds == {Kind.BROKEN}


def test_a_long_value_is_kept_as_what_tells_it_from_others() -> None:
    assert normal("x" * 200) == "x" * 200
    assert len(normal("x" * 10**6)) < 100
    assert len({normal("x" * 10**6), normal("x" * 10**6 + "y"), normal("y" + "x" * 10**6)}) == 3
    assert normal({"a": [1, "é"]}) == json.dumps({"a": [1, "é"]}, separators=(",", ":"))


def test_a_recorder_has_all_its_clients() -> None:
    recorder = Recorder()
    logs = [recorder.log(f"client {n}", "a", slow=bool(n)) for n in range(2)]
    assert recorder.clients == [one.client for one in logs]
    assert [one.slow for one in recorder.clients] == [False, True]
