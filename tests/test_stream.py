"""A stream as WSGI servers see it that know nothing of it: an iterable; and two such servers."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import waitress.server
from paste.deploy import loadapp

from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Text
from pushdemo.push.deliver.answer import Fallbacks
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Event, FeedStatus, Value
from pushdemo.push.places import Places
from pushdemo.push.position import position_of
from pushdemo.push.response import Response
from pushdemo.push.stream import Streams, TooManyStreams, Watch
from tests.servers import CHECKOUT, HANG, Reader

FRAMING = Multipart("test")
FALLBACKS = Fallbacks(Response("406 Not Acceptable", []), Response("503 Service Unavailable", []))


def publish(channel: Channel, text: str) -> bytes:
    return channel.publish(Value(Text(text), computed=0.0, fresh_until=2**62)).frame(FRAMING)


@pytest.fixture
def streams() -> Iterator[Streams]:
    broadcaster = Broadcaster()
    yield Streams(broadcaster, Places(2))
    broadcaster.close()


def test_the_first_piece_has_the_newest_event_and_each_piece_one_more(streams: Streams) -> None:
    channel = Channel("x")
    one = publish(channel, "one")
    stream = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    pieces = iter(stream)
    assert next(pieces) == FRAMING.opening + one
    two = publish(channel, "two")
    assert next(pieces) == two
    stream.close()


def test_it_opens_before_there_is_an_event(streams: Streams) -> None:
    channel = Channel("x")
    stream = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    pieces = iter(stream)
    assert next(pieces) == FRAMING.opening
    one = publish(channel, "one")
    assert next(pieces) == one
    stream.close()


def test_it_waits_for_an_event(streams: Streams) -> None:
    channel = Channel("x")
    stream = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    pieces = iter(stream)
    next(pieces)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(next(pieces)))
    reader.start()
    one = publish(channel, "one")
    reader.join(HANG)
    assert received == [one]
    stream.close()


def test_a_limited_one_ends(streams: Streams) -> None:
    channel = Channel("x")
    publish(channel, "one")
    stream = streams.open(Subscription(channel, FRAMING, limit=1), FALLBACKS)
    (piece,) = stream
    assert piece.endswith(b"\r\n--test--\r\n")
    assert not channel.watched
    stream.close()


def test_the_channel_is_watched_from_the_first_piece_to_the_close(streams: Streams) -> None:
    channel = Channel("x")
    stream = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    pieces = iter(stream)
    assert not channel.watched
    next(pieces)
    assert channel.watched
    stream.close()
    assert not channel.watched


def test_a_place_is_free_again_after_the_close_however_often(streams: Streams) -> None:
    channel = Channel("x")
    one, two = (
        streams.open(Subscription(channel, FRAMING), FALLBACKS),
        streams.open(Subscription(channel, FRAMING), FALLBACKS),
    )
    with pytest.raises(TooManyStreams):
        streams.open(Subscription(channel, FRAMING), FALLBACKS)
    one.close()
    one.close()
    assert streams.places.taken == 1
    three = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    with pytest.raises(TooManyStreams):
        streams.open(Subscription(channel, FRAMING), FALLBACKS)
    two.close()
    three.close()
    assert streams.places.taken == 0


def test_a_place_is_free_again_when_a_stream_is_forgotten(streams: Streams) -> None:
    stream = streams.open(Subscription(Channel("x"), FRAMING), FALLBACKS)
    next(iter(stream))
    del stream
    gc.collect()
    assert streams.places.taken == 0


def test_a_closed_stream_cannot_be_handed_off(streams: Streams) -> None:
    stream = streams.open(Subscription(Channel("x"), FRAMING), FALLBACKS)
    stream.close()
    with pytest.raises(RuntimeError, match="closed"):
        stream.hand_off(None, b"", lambda *_: b"")  # type: ignore[arg-type]


def test_it_resumes_after_the_last_event_seen(streams: Streams) -> None:
    channel = Channel("x", history=3)
    frames = [publish(channel, str(number)) for number in range(5)]
    stream = streams.open(
        Subscription(channel, FRAMING, resume_from=position_of(channel.id_of(3))), FALLBACKS
    )
    pieces = iter(stream)
    assert next(pieces) == FRAMING.opening + frames[3]
    assert next(pieces) == frames[4]
    stream.close()


def test_it_says_so_when_it_cannot_resume(streams: Streams) -> None:
    channel = Channel("x")
    frames = [publish(channel, str(number)) for number in range(5)]
    stream = streams.open(
        Subscription(channel, FRAMING, resume_from=position_of(channel.id_of(1))), FALLBACKS
    )
    assert next(iter(stream)) == FRAMING.opening + FRAMING.reset + frames[4]
    stream.close()


def test_silence_is_filled_with_heartbeats() -> None:
    broadcaster = Broadcaster()
    streams = Streams(broadcaster, Places(1), heartbeat=0.01)
    stream = streams.open(Subscription(Channel("x"), FRAMING), FALLBACKS)
    pieces = iter(stream)
    assert [next(pieces) for _ in range(3)] == [
        FRAMING.opening, FRAMING.heartbeat, FRAMING.heartbeat
    ]  # fmt: skip
    stream.close()


def test_a_failure_is_told_and_its_end_to_who_was_told(streams: Streams) -> None:
    channel = Channel("x")
    one = publish(channel, "one")
    channel.fail(123.0, 0)
    stream = streams.open(Subscription(channel, FRAMING), FALLBACKS)
    pieces = iter(stream)
    assert next(pieces) == FRAMING.opening + one
    assert next(pieces) == FRAMING.encode_status(FeedStatus(1, "x", 123.0))
    channel.recover()
    assert next(pieces) == FRAMING.encode_status(FeedStatus(2, "x", None))
    later = iter(streams.open(Subscription(channel, FRAMING), FALLBACKS))
    two = publish(channel, "two")
    assert next(later) == FRAMING.opening + two
    assert next(pieces) == two
    stream.close()


def test_waiting_for_an_event_ends_with_it_or_with_the_time() -> None:
    channel = Channel("x")
    with Watch(channel) as watch:
        assert watch.first(0, 0.01) is None
        publish(channel, "one")
        assert watch.first(0, HANG) is channel.newest
        waiting: list[Event | None] = []
        thread = threading.Thread(target=lambda: waiting.append(watch.first(1, HANG)))
        thread.start()
        publish(channel, "two")
        thread.join(HANG)
        assert waiting == [channel.newest]
    assert not channel.watched


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def run_wsgiref(application: Any) -> tuple[tuple[str, int], Callable[[], None]]:
    server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join(HANG)
        server.server_close()

    return ("127.0.0.1", server.server_port), stop


def run_waitress(application: Any) -> tuple[tuple[str, int], Callable[[], None]]:
    server: Any = waitress.server.create_server(application, host="127.0.0.1", port=0, threads=4)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            server.asyncore.loop(timeout=0.01, count=1, map=server._map)

    thread = threading.Thread(target=run)
    thread.start()

    def stop() -> None:
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=HANG)
        stopping.set()
        thread.join(HANG)
        server.close()

    return ("127.0.0.1", server.effective_port), stop


@pytest.mark.parametrize("run", [run_wsgiref, run_waitress])
def test_other_servers_stream_it_too(run: Callable[..., Any], tmp_path: Path) -> None:
    ini = tmp_path / "test.ini"
    ini.write_text(
        f"[app:main]\nuse = config:{CHECKOUT}/development.ini\n"
        "feed.clock.interval = 0.05\nfeed.clock.duration = 0.05\n"
        "push.max_threads = 3\n"  # though wsgiref has but one
    )
    app = loadapp(f"config:{ini}")
    address, stop = run(app)
    request = b"GET /server/index%s HTTP/1.0\r\n\r\n"
    try:
        with Reader(address, request % b"?limit=3") as limited:
            texts = [limited.open().text(), limited.text(), limited.text()]
            assert limited.rest() == b""
        assert len(set(texts)) == 3
        with Reader(address, request % b"") as endless:
            endless.open()
            assert len({endless.text() for _ in range(3)}) == 3
        # The thread is free again once a write to the client that left has failed.
        with Reader(address, request % b"?limit=1") as again:
            assert again.open().text()
    finally:
        stop()


SLOW = """
import itertools, time
numbers = itertools.count(1)

def slow():
    time.sleep(0.3)
    return next(numbers)
"""


@pytest.mark.parametrize("run", [run_wsgiref, run_waitress])
def test_there_a_function_slower_than_its_duration_loses_no_event(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values have expired when they are there: what was waited for must not be forgotten."""
    module = f"slow_{run.__name__}"
    (tmp_path / f"{module}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    ini = tmp_path / "test.ini"
    ini.write_text(
        f"[app:main]\nuse = egg:pushdemo\nfeed.slow = {module}:slow\n"
        "feed.slow.interval = 0.2\nfeed.slow.history = 10\nfeed.slow.repeat = false\n"
        "push.max_threads = 1\n"
    )
    address, stop = run(loadapp(f"config:{ini}"))
    seen: list[int] = []
    last_id = ""
    try:
        for _ in range(3):
            request = (
                "GET /server/index/slow?format=ndjson&limit=3 HTTP/1.0\r\n"
                f"Last-Event-ID: {last_id}\r\n\r\n"
            )
            with Reader(address, request.encode()) as reader:
                assert reader.head()[0] == 200
                lines = [json.loads(line) for line in reader.rest().splitlines() if line.strip()]
            assert all("value" in line for line in lines), lines
            seen += [line["value"] for line in lines]
            last_id = lines[-1]["id"]
    finally:
        stop()
    assert seen == list(range(1, 10))
