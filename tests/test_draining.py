"""The end of all streams when a process is stopped for good: who is told what, and goes when."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.client.event_stream import EventStreamParser
from pushdemo.client.multipart import MultipartParser
from pushdemo.client.ndjson import NdJsonParser
from pushdemo.push.compute.payload import Text
from pushdemo.push.deliver.answer import Condition, Fallbacks, PollAnswer, StreamAnswer
from pushdemo.push.deliver.draining import Draining, come_back_in
from pushdemo.push.encode.document import Document, DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event, Value
from pushdemo.push.head import Head
from pushdemo.push.response import Response
from tests.servers import HANG, Reader, free_port, listens, until
from tests.serving import PASTER, environment
from tests.test_snapshot import Client, World

EVENT = Event(1, "a-1", "x", Value(Text("value"), 0.0, 0))

# When they go


@given(
    st.integers(0, 200),
    st.floats(0.01, 100),
    st.floats(0, 1e6),
    st.integers(0, 2**32),
)
def test_each_goes_once_and_they_are_spread_evenly(
    count: int, seconds: float, now: float, seed: int
) -> None:
    draining = Draining(range(count), now, seconds, random.Random(seed).random)
    gone: list[int] = []
    while (due := draining.next) is not None:
        assert now <= due <= now + seconds * 1.000001
        before = len(gone)
        gone += draining.take(due)
        assert len(gone) > before
        # Of those that were to go in half of the time, no more than half and one have.
        assert len(gone) <= (due - now) / seconds * count + 1 + 1e-6
    assert sorted(gone) == list(range(count))
    assert draining.take(now + 2 * seconds) == []


def test_who_came_first_does_not_go_first() -> None:
    draining = Draining(range(1000), 0, 1)
    assert draining.take(1) != list(range(1000))


@given(st.floats(0, 1), st.floats(0.001, 1000))
def test_when_they_are_to_come_back_is_spread_too(chosen: float, retry: float) -> None:
    assert retry * 500 - 1 <= come_back_in(retry, lambda: chosen) <= retry * 1500 + 1


# What they are told


def test_an_event_stream_says_it_in_its_own_field() -> None:
    framing = EventStream()
    parser = EventStreamParser()
    data = framing.opening + EVENT.frame(framing) + framing.come_back(1234)
    assert len(list(parser.feed(data))) == 1
    assert parser.retry == 1234


def test_multipart_says_it_in_a_part_without_a_value() -> None:
    framing = Multipart("b")
    parser = MultipartParser("b")
    data = framing.opening + EVENT.frame(framing) + framing.come_back(1234)
    assert len(list(parser.feed(data))) == 1
    assert parser.retry == 1234
    assert not parser.ended


def test_ndjson_says_it_in_a_line() -> None:
    framing = NdJson()
    parser = NdJsonParser()
    assert len(list(parser.feed(EVENT.frame(framing) + framing.come_back(1234)))) == 1
    assert parser.retry == 1234
    assert json.loads(framing.come_back(5)) == {"event": "retry", "retry": 5}


def test_a_compressed_stream_says_the_same() -> None:
    framing = Gzip(NdJson())
    data = framing.opening + EVENT.frame(framing) + framing.come_back(7)
    assert zlib.decompressobj(wbits=31).decompress(data).endswith(NdJson().come_back(7))


def test_what_has_no_way_to_say_it_says_nothing() -> None:
    assert Images(Multipart("b")).come_back(7) == b""


FALLBACKS = Fallbacks(
    Response("406 Not Acceptable", []),
    Response("503 Service Unavailable", [("Retry-After", "5"), ("A", "b")], b"why"),
)


def test_a_stream_that_has_not_begun_is_no_error() -> None:
    """After which an EventSource would not come back."""
    answer = StreamAnswer(EventStream(), b"HTTP/1.1 200 OK\r\n\r\n", Head(), FALLBACKS)
    assert answer.come_back(5) == b"HTTP/1.1 200 OK\r\n\r\nretry: 2000\nretry: 5\n"


def test_a_poll_is_told_by_a_header() -> None:
    condition = Condition(0, 10.0, Response("304 Not Modified", []))
    framing = DocumentFraming(Document("application/json"), Head())
    said = PollAnswer(framing, condition, FALLBACKS).come_back(1001)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert re.findall(rb"Retry-After: (\d+)", said) == [b"2"]
    assert b"A: b\r\n" in said


# The broadcaster


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_all_are_told_and_hung_up_on(world: World) -> None:
    push = world.push(drain=0.3, retry=4)
    streams = [world.begun(push, f"format={name}") for name in ("sse", "ndjson", "multipart")]
    limited = world.begun(push, "format=ndjson&limit=5")
    push.close()
    sse, ndjson, multipart = (stream.rest() for stream in streams)
    told = [
        re.search(rb"retry: (\d+)\n$", sse),
        re.search(rb'{"event":"retry","retry":(\d+)}\n$', ndjson),
        re.search(rb"Event: retry\r\nRetry: (\d+)\r\n", multipart),
        re.search(rb'"retry":(\d+)}\n$', limited.rest()),
    ]
    for one in told:
        assert one
        assert 2000 <= int(one[1]) <= 6000
    assert push.engine.open_now == 0


def test_those_that_wait_are_told_as_well(world: World) -> None:
    push = world.push(drain=0.2)
    stream, poll = world.open(push, "format=sse"), world.open(push, "format=json&wait=20")
    until(lambda: push.engine.open_now == 2, "both")
    push.close()
    assert re.search(
        rb"^HTTP/1.1 200 OK\r\n.*\n\r\nretry: 2000\nretry: \d+\n$", stream.rest(), re.S
    )
    assert poll.rest().startswith(b"HTTP/1.1 503 ")


def test_events_go_on_to_those_that_stay(world: World) -> None:
    push = world.push(drain=1.5)
    clients = [world.begun(push) for _ in range(20)]
    channel = push.engine.channels["x"]
    stopping = _in_a_thread(push.close)
    while stopping.is_alive():
        channel.publish(EVENT.value)
        time.sleep(0.05)
    got = [client.rest().count(b'"value":"value"') for client in clients]
    assert max(got) > min(got)


def _in_a_thread(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_nobody_is_waited_for_when_all_have_gone(world: World) -> None:
    push = world.push(drain=600)
    client = world.begun(push)
    stopping = _in_a_thread(push.close)
    client.sock.close()
    stopping.join(HANG)
    assert not stopping.is_alive()


def test_without_it_all_end_at_once_and_are_told_nothing(world: World) -> None:
    push = world.push()
    client: Client = world.begun(push, "format=sse")
    push.close()
    assert b"retry" not in client.rest()


def test_what_is_being_stopped_cannot_be_taken_over(world: World) -> None:
    push = world.push(drain=600)
    client = world.begun(push)
    engine = push.engine
    stopping = _in_a_thread(push.close)
    until(lambda: engine._broadcaster._asked_to_drain, "the beginning of it")
    with pytest.raises(RuntimeError, match="being stopped"):
        engine.hold()
    client.sock.close()
    stopping.join(HANG)


# Processes

INI = """
[app:main]
use = egg:pushdemo
feed.clock = pushdemo.feeds:clock
push.drain = {drain}
[server:main]
use = egg:pushdemo#http
port = {port}
"""
BROADCASTER = (sys.executable, "-m", "pushdemo", "broadcaster")


class Stopped:
    """`paster serve`, with some streams."""

    def __init__(self, directory: Path, drain: float) -> None:
        self.port = free_port()
        (directory / "drained.ini").write_text(INI.format(port=self.port, drain=drain))
        self._directory = directory
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [PASTER, "serve", "drained.ini"],
            cwd=self._directory,
            env=environment(self._directory),
        )
        until(lambda: listens(self.port), "the server")
        return process

    def stream(self) -> Reader:
        request = b"GET /server/index?format=sse HTTP/1.1\r\nHost: a\r\n\r\n"
        reader = Reader(("127.0.0.1", self.port), request)
        assert reader.head()[0] == 200
        while not reader.line().startswith(b"data"):
            pass
        return reader


def test_a_server_tells_its_clients_one_by_one(tmp_path: Path) -> None:
    stopped = Stopped(tmp_path, 1)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(stopped.stream()) for _ in range(20)]
        stopped.process.send_signal(signal.SIGTERM)
        # The port is free before the first has gone.
        until(lambda: not listens(stopped.port), "a port that is free")
        successor = stopped.start()
        try:
            ends = []
            for stream in streams:
                assert re.search(rb"retry: \d+\n$", stream.rest())
                ends.append(time.monotonic())
            assert stopped.process.wait(HANG) == 0
        finally:
            successor.terminate()
            successor.wait(HANG)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    stopped = Stopped(tmp_path, 600)
    with stopped.stream():
        stopped.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(stopped.port), "a port that is free")
        time.sleep(0.2)  # the handlers are the system's a moment later
        stopped.process.send_signal(number)
        assert stopped.process.wait(HANG) == -number


def test_a_broadcaster_does_the_same(tmp_path: Path) -> None:
    from pushdemo.handover.client import Handover
    from pushdemo.handover.messages import Request

    (tmp_path / "drained.ini").write_text(INI.format(port=0, drain=1))
    address = f"unix:{tmp_path}/socket"
    process = subprocess.Popen(
        [*BROADCASTER, "drained.ini", "--socket", address], cwd=tmp_path, env=environment(tmp_path)
    )
    try:
        until((tmp_path / "socket").exists, "the broadcaster")
        ours, theirs = socket.socketpair()
        with ours:
            environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": "format=ndjson"}
            Handover(address).give(theirs, Request(environ))
            theirs.close()
            client = Client(ours)
            ours.settimeout(HANG)
            client.read(b'"value"')
            process.send_signal(signal.SIGTERM)
            assert b'{"event":"retry"' in client.rest()
        assert process.wait(HANG) == 0
    finally:
        process.kill()
        process.wait()
