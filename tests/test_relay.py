"""Relays: another pushdemo's events, with its ids and its chain; the format, and real servers."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo import Push
from pushdemo.client import BadStream, watch
from pushdemo.client.relay import RelayedEvent, RelayParser
from pushdemo.push import relay as relaying
from pushdemo.push.compute.payload import Data, Payload, Text
from pushdemo.push.encode.relay import Relay as Format
from pushdemo.push.event import Event, Value
from pushdemo.push.options import ConfigError
from pushdemo.push.relay import _value
from tests.payloads import any_payload
from tests.scripted_server import ScriptedServer
from tests.servers import Paster, until

# By value

payloads = any_payload | st.just(Data('"data that is a string"'))


def relayed(data: bytes) -> list[RelayedEvent]:
    return [event for event in RelayParser().feed(data) if isinstance(event, RelayedEvent)]


@given(payloads, st.floats(0, 1e10), st.floats(0, 1e4))
def test_everything_there_is_to_say_of_an_event_arrives(
    payload: Payload, computed: float, took: float
) -> None:
    event = Event(7, "e-7", "x", Value(payload, computed, fresh_until=0, took=took), "e-6")
    (read,) = relayed(b"  " + event.frame(Format()))
    assert (read.id, read.after, read.feed) == ("e-7", "e-6", "x")
    value = _value(read)
    assert (value.computed, value.took) == (computed, took)
    if isinstance(payload, Data):  # its text may be written in another way
        assert isinstance(value.payload, Data)
        assert json.loads(value.payload.json) == json.loads(payload.json)
    else:
        assert value.payload == payload


def test_text_is_told_from_data_that_is_a_string() -> None:
    for payload in (Text("x"), Data('"x"')):
        event = Event(1, "e-1", "x", Value(payload, 0.0, fresh_until=0))
        (read,) = relayed(event.frame(Format()))
        assert _value(read).payload == payload


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":"e-1","feed":"x","computed":1,"value":1}\n',
        b'{"after":"","feed":"x","computed":1,"value":1}\n',
        b'{"id":"e-1","after":"","feed":"x","value":1}\n',
        b'{"id":"e-1","after":1,"feed":"x","computed":1,"value":1}\n',
        b'{"id":"e-1","after":"","computed":1,"type":"image/png","value":"?"}\n',
        b'{"id":"e-1","after":"","computed":1,"type":"image/png","value":1}\n',
        b"[]\n",
        b"nonsense\n",
    ],
)
def test_what_is_no_such_event_is_refused(line: bytes) -> None:
    with pytest.raises(BadStream):
        RelayParser().feed(line)


def test_a_type_that_is_none_is_refused() -> None:
    (read,) = relayed(b'{"id":"e-1","after":"","computed":1,"type":"a\\nb","value":"eA=="}\n')
    with pytest.raises(BadStream, match="cannot be sent"):
        _value(read)


# What is wrong


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host/server/index/x", "this must begin with http:// or https://"),
        ("http://", "this names no host"),
        ("http://me:secret@host/server/index/x", "a name and a password in the URL"),
        ("http://host/server/index/a+b", "a relay is of one feed"),
    ],
)
def test_an_origin_that_is_none_is_one_line(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Push().relay("x", url)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not printable ASCII"):
        Push().relay("x", "http://host/server/index/x", headers={"Authorization": "a\r\nb: c"})


def test_an_ini_declares_a_relay() -> None:
    section = {
        "feed.x": "https://host/server/index/x",
        "feed.x.history": "7",
        "feed.x.header.Authorization": "Bearer secret",
    }
    declared = Push.from_ini(section).feeds["x"]
    assert declared.origin is not None
    assert declared.history == 7
    assert not declared.is_pushed
    assert dict(declared.origin.headers) == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(declared)
    with pytest.raises(ConfigError, match=r"feed\.x\.interval: there is no such option"):
        Push.from_ini({**section, "feed.x.interval": "3"})


def test_nothing_can_be_published_to_a_relay() -> None:
    push = Push()
    push.relay("x", "https://host/server/index/x")
    with pytest.raises(
        ValueError, match="is a relay: publish at its origin, https://host/server/index/x"
    ):
        push.publish("x", 1)


# Real servers

FEEDS = """
import itertools

numbers = itertools.count(1)


def number():
    return next(numbers)


def picture():
    return b"PNG", "image/png"


def text():
    return "text"
"""
ORIGIN = """
feed.number = origin_feeds:number
feed.number.interval = 0.4
feed.number.history = 50
feed.picture = origin_feeds:picture
feed.picture.interval = 0.4
feed.text = origin_feeds:text
feed.text.interval = 0.4
push.heartbeat = 1
"""
RELAY = """
feed.number = {url}/server/index/number
feed.number.history = 50
feed.picture = {url}/server/index/picture
feed.text = {url}/server/index/text
feed.missing = {url}/server/index/missing
"""


class Tree:
    """An origin, a relay, and a relay of that."""

    def __init__(self, directory: Path) -> None:
        self.servers: list[Paster] = []
        lines = ORIGIN
        for name in ("origin", "relay", "second"):
            its = directory / name
            its.mkdir()
            (its / "origin_feeds.py").write_text(FEEDS)
            self.servers.append(Paster(its, lines))
            lines = RELAY.format(url=self.servers[-1].url)

    def address(self, number: int, feed: str) -> str:
        return f"{self.servers[number].url}/server/index/{feed}"

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with closing(Tree(tmp_path_factory.mktemp("tree"))) as tree:
        yield tree


def first(url: str, count: int, accept: str = "ndjson", **options: Any) -> list[Any]:
    with watch(url, accept=accept, **options) as events:
        return [event for _, event in zip(range(count), events, strict=False)]


def test_all_have_the_same_events_with_the_same_ids(tree: Tree) -> None:
    seen: dict[int, list[Any]] = {}

    def read(number: int) -> None:
        seen[number] = first(tree.address(number, "number"), 6)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in itertools.pairwise(seen.values()):
        shared = {event.id for event in one} & {event.id for event in other}
        assert len(shared) >= 3
    values = {event.id: event.value for events in seen.values() for event in events}
    computed = {event.id: event.computed for events in seen.values() for event in events}
    for event in itertools.chain(*seen.values()):
        assert (event.value, event.computed) == (values[event.id], computed[event.id])


def test_a_client_moves_between_the_origin_and_its_relays(tree: Tree) -> None:
    values, last_id = [], None
    for number in (2, 0, 1, 2, 1, 0, 2):
        events = first(tree.address(number, "number"), 2, last_event_id=last_id)
        assert [event.type for event in events] == ["message"] * 2
        values += [event.value for event in events]
        last_id = events[-1].id
    assert values == list(range(values[0], values[0] + len(values)))


def test_bytes_and_text_come_as_they_are(tree: Tree) -> None:
    (picture,) = first(tree.address(2, "picture"), 1, "multipart")
    assert (picture.value, picture.content_type) == (b"PNG", "image/png")
    (text,) = first(tree.address(2, "text"), 1)
    assert text.value == "text"


def test_a_feed_that_the_origin_does_not_have_is_said(tree: Tree) -> None:
    reader = tree.servers[1].connect("/server/index/missing")
    with closing(reader):
        line = tree.servers[1].wait_for_line(r"feed missing: its origin does not answer.*")
    assert "404 Not Found: There is no feed 'missing'" in line[0]


def test_an_origin_is_asked_only_while_somebody_watches(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "LINGER", 0.2)
    push = Push()
    push.relay("number", tree.address(0, "number"))
    channel = push.engine.channels["number"]
    try:
        time.sleep(0.3)
        assert channel.reached == 0
        channel.subscribe(deaf)
        until(lambda: channel.reached >= 2, "its events")
        channel.unsubscribe(deaf)

        def rests() -> bool:
            reached = channel.reached
            time.sleep(1.0)
            return channel.reached == reached

        until(rests, "the relay to rest")
        assert channel.newest is None  # who comes next waits for a newer one
        channel.subscribe(deaf)
        until(lambda: channel.newest, "a value that is good")
        assert not channel.breaks_after(channel.reached - 1)
    finally:
        push.close()


def deaf() -> None:
    pass


def test_while_the_origin_is_away_the_last_value_stays_and_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "FIRST_PAUSE", 0.05)
    (tmp_path / "origin_feeds.py").write_text(FEEDS)
    origin = Paster(tmp_path, ORIGIN)
    push = Push()
    push.relay("number", f"{origin.url}/server/index/number", history=50)
    channel = push.engine.channels["number"]
    channel.subscribe(deaf)
    try:
        until(lambda: channel.reached >= 2, "its events")
        with caplog.at_level(logging.INFO, "pushdemo.push.relay"):
            origin.close()
            until(lambda: channel.failing, "the failure to be told")
            assert channel.newest is not None
            again = Paster(tmp_path, ORIGIN, port=origin.address[1])
            try:
                reached = channel.reached
                until(lambda: channel.reached > reached, "what follows")
                assert not channel.failing
                # It has begun to count anew, with another epoch.
                assert channel.breaks_after(reached)
            finally:
                again.close()
        said = [record.getMessage() for record in caplog.records]
        assert sum("its origin does not answer" in line for line in said) == 1
        assert sum("works again" in line for line in said) >= 1
    finally:
        push.close()
        origin.close()


def test_an_origin_that_is_no_pushdemo_is_said(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "FIRST_PAUSE", 0.05)
    push = Push()
    push.relay("x", f"{scripted.url}/stream")
    channel = push.engine.channels["x"]
    channel.subscribe(deaf)
    try:
        with caplog.at_level(logging.ERROR, "pushdemo.push.relay"):
            for _ in range(2):
                scripted.accept("/stream").answer("200 OK", {"Content-Type": "text/html"}, b"hi")
            until(lambda: channel.failing, "the failure to be told")
        assert "which cannot be relayed: it must be a feed of a pushdemo" in caplog.text
    finally:
        push.close()
