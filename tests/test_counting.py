"""Counters, and what is read from them."""

from __future__ import annotations

import math
import socket

from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Text
from pushdemo.push.counting import BOUNDS, Counts, Histogram, quantile
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
from pushdemo.push.event import Value
from pushdemo.push.head import Head
from pushdemo.push.status import Rate
from tests.servers import HANG, until
from tests.test_broadcaster import Begins


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_a_bound_that_is_not_exceeded_by_more(
    seconds: list[float], share: float
) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    found = quantile(histogram.bounds, histogram.counts, share)
    exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    assert found is not None
    assert exact <= found
    if BOUNDS[0] < exact <= BOUNDS[-1]:
        assert found <= exact * 1.81


def test_a_histogram_without_anything_has_no_quantile() -> None:
    assert quantile(BOUNDS, Histogram().counts, 0.5) is None
    over = Histogram()
    over.observe(1000, 3)
    assert quantile(BOUNDS, over.counts, 0.5) == math.inf
    assert (sum(over.counts), over.total) == (3, 3000)


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


class Stage:
    """A broadcaster that counts, and clients that count."""

    def __init__(self, clients: int) -> None:
        self.counts = Counts()
        self.feed = self.counts.feed("x")
        self.slow = self.counts.of_format("ndjson")
        self.broadcaster = Broadcaster(counts=self.counts)
        self.channel = Channel("x")
        self.pairs = [socket.socketpair() for _ in range(clients)]
        self.received = [b""] * clients
        for ours, theirs in self.pairs:
            ours.settimeout(HANG)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def attach(self, *numbers: int, limit: int | None = None) -> None:
        socks = [self.pairs[number][1] for number in numbers]
        subscription = Subscription(self.channel, NdJson(), limit=limit)
        self.broadcaster.attach(socks, Begins(b"", HANG), subscription)

    def publish(self, *texts: str) -> None:
        for text in texts:
            computed = float(self.channel.reached)
            self.channel.publish(Value(Text(text), computed=computed, fresh_until=2**62))

    def read_up_to(self, text: str, *numbers: int) -> None:
        """Until these have the event with that text, whole."""
        for number in numbers:
            while f'"value":"{text}"}}\n'.encode() not in self.received[number]:
                self.received[number] += self.pairs[number][0].recv(65536)

    def has(self, watchers: int, deliveries: int) -> None:
        """Wait until that is counted; and the clients have as many events, all together."""
        until(lambda: self.feed.watchers == watchers, "the clients")
        until(lambda: self.feed.deliveries == deliveries, "the deliveries")
        assert sum(text.count(b'"value":') for text in self.received) == deliveries

    def close(self) -> None:
        self.broadcaster.close()
        for ours, _ in self.pairs:
            ours.close()


def test_what_is_counted_is_what_clients_have(small_buffers: None) -> None:  # noqa: ARG001
    """Clients that read, one that comes late, one that leaves, and one with a limit; and then all
    of them are too slow for a large event, and skip two of those after it."""
    stage = Stage(5)
    stage.attach(0, 1, 2)
    stage.attach(3, limit=2)
    stage.has(watchers=4, deliveries=0)
    stage.publish("a")
    stage.read_up_to("a", 0, 1, 2, 3)
    stage.attach(4)  # it begins with the newest
    stage.read_up_to("a", 4)
    stage.has(watchers=5, deliveries=5)
    stage.pairs[2][0].close()
    stage.has(watchers=4, deliveries=5)
    large = "b" * 100_000
    stage.publish(large)
    until(lambda: stage.slow.slow == 4, "slow clients")
    stage.publish("c", "d", "e")
    stage.read_up_to(large, 3)  # its second, and last
    stage.read_up_to("e", 0, 1, 4)
    stage.has(watchers=3, deliveries=5 + 4 + 3)
    assert stage.slow.skipped == 3 * 2
    stage.close()
    assert stage.feed.watchers == 0


def test_values_are_counted_once_however_often_they_are_sent() -> None:
    channel = Channel("x")
    for computed in (1.0, 1.0, 2.0, 2.0, 3.0):
        channel.publish(Value(Text("a"), computed=computed, fresh_until=0))
    assert channel.values == 3
