"""Counters, and what is read from them."""

from __future__ import annotations

import math
import socket

from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Text
from pushdemo.push.counting import BOUNDS, Counts, Histogram
from pushdemo.push.deliver import sockets
from pushdemo.push.deliver.answer import Beginning
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.document import AS_IT_IS, FRAGMENT, Document, DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.html_stream import HtmlStream
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.variants import name_of
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import Event, Value
from pushdemo.push.head import Head
from pushdemo.push.status import Rate
from tests.servers import until


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_a_bound_that_is_not_exceeded_by_more(
    seconds: list[float], share: float
) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    found = histogram.quantile(share)
    exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    assert found is not None
    assert exact <= found
    if BOUNDS[0] < exact <= BOUNDS[-1]:
        assert found <= exact * 1.81


def test_a_histogram_without_anything_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None
    over = Histogram()
    over.observe(1000, 3)
    assert over.quantile(0.5) == math.inf
    assert (over.count, over.total) == (3, 3000)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50)), max_size=30))
def test_a_rate_is_that_of_the_last_seconds(steps: list[tuple[float, int]]) -> None:
    now, number = 0.0, 0
    seen: list[tuple[float, int]] = []
    rate = Rate(lambda: now)
    for seconds, more in steps:
        now, number = now + seconds, number + more
        found = rate.of(number)
        if found is not None:
            # It is the true one since some look at it, that was a second ago or more.
            assert any(
                now - at >= 1 and math.isclose(found, (number - before) / (now - at), abs_tol=1e-3)
                for at, before in seen
            )
        elif seen:
            assert now - seen[0][0] < 1
        seen.append((now, number))


def test_each_format_has_its_name() -> None:
    head = Head()
    names = {
        name_of(one)
        for one in (
            Multipart("x"),
            Gzip(Multipart("x")),
            Images(Multipart("x")),
        )
    }
    assert names == {"multipart"}
    assert [
        name_of(one)
        for one in (
            EventStream(),
            NdJson(),
            WebSocket(),
            HtmlStream(kind="turbo"),
            DocumentFraming(Document("application/json"), head),
            DocumentFraming(Document("application/xml"), head),
            DocumentFraming(Document(AS_IT_IS), head),
            DocumentFraming(Document(FRAGMENT), head),
        )
    ] == ["sse", "ndjson", "websocket", "turbo", "json", "xml", "raw", "fragment"]


class Begins:
    """Any answer."""

    patience = 60.0

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        return Beginning(b"head\n", True)

    def come_back(self, milliseconds: int) -> bytes:  # noqa: ARG002
        return b""

    def fail(self) -> Beginning:
        return Beginning(b"", False)


def test_what_is_counted_is_what_clients_have(
    monkeypatch: object,  # noqa: ARG001
    small_buffers: None,  # noqa: ARG001
) -> None:
    """Two clients that read, one that comes late, one that leaves, and one that does not read."""
    counts = Counts()
    broadcaster = Broadcaster(counts=counts)
    channel = Channel("x")
    framing = NdJson()
    pairs = [socket.socketpair() for _ in range(5)]
    for ours, theirs in pairs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def attach(*numbers: int, limit: int | None = None) -> None:
        socks = [pairs[number][1] for number in numbers]
        broadcaster.attach(socks, Begins(), Subscription(channel, framing, limit=limit))

    def publish(text: str) -> None:
        channel.publish(Value(Text(text), computed=float(channel.reached), fresh_until=2**62))

    def read(number: int, events: int) -> int:
        """How many events it has, when it has so many."""
        received = b""
        pairs[number][0].settimeout(20)
        while received.count(b"\n") < events + 1:
            received += pairs[number][0].recv(65536)
        return received.count(b"\n") - 1

    attach(0, 1, 2)
    attach(3, limit=2)
    until(lambda: counts.feed("x").watchers == 4, "the clients")
    publish("a")
    assert sum(read(number, 1) for number in (0, 1, 2, 3)) == 4
    attach(4)  # it begins with the newest
    assert read(4, 1) == 1
    until(lambda: counts.feed("x").deliveries == 5, "the counting")
    pairs[2][0].close()
    until(lambda: counts.feed("x").watchers == 4, "the end of one")
    big = "b" * 100_000
    publish(big)  # nobody reads this for now: one has its beginning, at least
    slow = counts.of_format("ndjson")
    until(lambda: slow.slow >= 4, "slow clients")
    for text in ("c", "d", "e"):
        publish(text)
    for number in (0, 1, 4):
        assert read(number, 1) >= 1  # the rest of the large one, or that and the newest
    assert read(3, 0) >= 0
    until(lambda: slow.skipped >= 3 * 2, "what slow clients have skipped")
    broadcaster.close()
    for ours, _ in pairs:
        ours.close()
    assert counts.feed("x").watchers == 0
    assert sockets.IN_C in (True, False)


def test_values_are_counted_once_however_often_they_are_sent() -> None:
    channel = Channel("x")
    for computed in (1.0, 1.0, 2.0, 2.0, 3.0):
        channel.publish(Value(Text("a"), computed=computed, fresh_until=0))
    assert channel.values == 3
