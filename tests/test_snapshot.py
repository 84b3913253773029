"""An engine that goes on with another's feeds and streams. Both are in this process, and have
copies of each client's connection, as two processes would."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pushdemo import Push
from pushdemo.handover.client import BroadcasterAway
from pushdemo.handover.listening import Listener
from pushdemo.handover.server import Receiver
from pushdemo.push.channel import Channel
from pushdemo.push.combined import CombinedChannel
from pushdemo.push.compute.executor import InThread
from pushdemo.push.compute.feed import SECOND, Feed
from pushdemo.push.compute.payload import Text
from pushdemo.push.compute.publisher import Timetable
from pushdemo.push.deliver import sockets
from pushdemo.push.encode.websocket import PING, PONG, TEXT, frame
from pushdemo.push.event import Value
from pushdemo.push.gate import Gate, Gone, Standstill
from pushdemo.push.head import Head
from pushdemo.push.position import position_of
from pushdemo.push.stream import HandsOff
from pushdemo.wsgi.incoming import Incoming
from tests.servers import HANG, until
from tests.test_websocket import KEY, LAST_ID, masked

WEB_SOCKET = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
}
LARGE = 100_000  # bytes: more than a client that does not read leaves room for


class Client:
    """A client's end of a stream."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = b""

    def read(self, until_it_has: bytes) -> bytes:
        """What there is up to and with that."""
        while until_it_has not in self.got:
            data = self.sock.recv(1 << 16)
            assert data, f"the stream has ended after {self.got[-100:]!r}"
            self.got += data
        before, found, self.got = self.got.partition(until_it_has)
        return before + found

    def rest(self) -> bytes:
        """All there is to its end."""
        while data := self.sock.recv(1 << 16):
            self.got += data
        return self.got


class World:
    """Applications, of which one takes over from the other, and their clients."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.clients: list[Client] = []

    def push(self, *feeds: str, history: int = 5, **options: object) -> Push:
        push = Push(boundary="b", heartbeat=3600, **options)
        for feed in feeds or ("x",):
            push.pushed_feed(feed, history=history)
        self.pushes.append(push)
        return push

    def open(
        self, push: Push, query: str = "format=ndjson", feeds: str | None = None, **headers: str
    ) -> Client:
        """A client whose connection was handed off."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(HANG)
            client.connect(listener.getsockname())
            sock = listener.accept()[0]
        environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": query, **headers}
        _, headers_, body = push.answer_here(environ, feeds)
        assert isinstance(body, HandsOff)
        head = Head()
        body.hand_off(sock, head("200 OK", headers_), head)
        self.clients.append(Client(client))
        return self.clients[-1]

    def begun(self, push: Push, query: str = "format=ndjson", feeds: str | None = None) -> Client:
        """One that has read its stream's beginning, and a value of each of its feeds."""
        client = self.open(push, query, feeds)
        names = feeds.split("+") if feeds else [next(iter(push.feeds))]
        for name in names:
            if push.engine.channels[name].newest is None:
                push.publish(name, "zero")
        for _ in names:
            client.read(b"zero")
        client.read(b"\n")
        return client

    def take_over(self, old: Push, new: Push) -> None:
        """What two processes do, in one."""
        old.hold()
        state, socks = old.snapshot()
        new.restore(state, [sock.dup() for sock in socks])
        old.leave()
        new.go_on()

    def close(self) -> None:
        for push in self.pushes:
            push.close()
        for client in self.clients:
            client.sock.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SEND_BUFFER", 4096)


def blocked(push: Push) -> int:
    return len(push.engine._broadcaster._connections.blocked)


def test_a_stream_goes_on_with_the_next_id_and_nothing_comes_twice(world: World) -> None:
    old, new = world.push(), world.push()
    client = world.begun(old)
    first = old.publish("x", "one")
    assert client.read(b"\n").count(first.encode()) == 1
    world.take_over(old, new)
    second = new.publish("x", "two")
    line = client.read(b"\n")
    assert second.encode() in line
    assert b'"two"' in line
    assert second.partition("-")[0] == first.partition("-")[0]
    assert int(second.partition("-")[2]) == int(first.partition("-")[2]) + 1


def test_every_format_goes_on(world: World) -> None:
    old, new = world.push(), world.push()
    old.publish("x", "zero" * 100)
    names = ("format=ndjson", "format=sse", "format=multipart")
    plain = [world.begun(old, query) for query in names]
    zipped = world.open(old, "format=ndjson", HTTP_ACCEPT_ENCODING="gzip")
    assert b"Content-Encoding: gzip" in zipped.read(b"\r\n\r\n")
    limited = world.begun(old, "format=ndjson&limit=2")
    world.take_over(old, new)
    new.publish("x", "1" * 500)
    for client in plain:
        client.read(b"1" * 500)
    assert limited.rest().endswith(b"1" * 500 + b'"}\n')
    unzip = zlib.decompressobj(wbits=31)
    text = unzip.decompress(zipped.got)
    while b"1" * 500 not in text:
        text += unzip.decompress(zipped.sock.recv(1 << 16))
    assert text.count(b'"id"') == 2
    assert new.engine.open_now == 4


@pytest.mark.usefixtures("small_buffers")
def test_a_client_in_the_middle_of_a_frame_gets_its_rest(world: World) -> None:
    old, new = world.push(history=1), world.push(history=1)
    slow, other = world.begun(old), world.begun(old)
    value = "".join(str(number) for number in range(LARGE // 5))
    old.publish("x", value)
    other.read(b"\n")
    until(lambda: blocked(old) == 1, "a client that is blocked")
    world.take_over(old, new)
    assert blocked(new) == 1
    new.publish("x", "skipped")
    other.read(b'"skipped"}\n')
    newest = new.publish("x", "newest")
    frame = slow.read(b"\n")
    assert f'"value":"{value}"'.encode() in frame
    assert newest.encode() in slow.read(b"\n")
    other.read(b'"newest"}\n')
    until(lambda: blocked(new) == 0, "the end of it")


def test_a_web_socket_s_message_that_is_under_way_ends_with_the_successor(world: World) -> None:
    old, new = world.push(), world.push()
    last_id = old.publish("x", "zero")
    # Some whose message is under way, and some with nothing, each in both kinds of audience.
    queries = ("", "limit=9", "", "limit=9")
    clients = [world.open(old, query, **WEB_SOCKET) for query in queries]
    for client in clients:
        client.read(b'"zero"}')
    said = LAST_ID.replace(b"a-5", last_id.encode())
    pieces = [masked(TEXT, said[:9], fin=False), masked(0, said[9:])]
    for client in clients[2:]:
        client.sock.sendall(pieces[0] + masked(PING, b"heard") + pieces[1][:3])
        client.read(frame(PONG, b"heard"))
    old.publish("x", "one")
    for client in clients:
        client.read(b'"one"}')
    world.take_over(old, new)
    for client in clients[2:]:
        client.sock.sendall(pieces[1][3:])
        client.read(b'"one"}')  # again: it was asked for
    for client in clients:
        client.sock.sendall(masked(PING, b"there?"))
        client.read(frame(PONG, b"there?"))
    assert new.engine.open_now == len(clients)


@pytest.mark.usefixtures("small_buffers")
def test_a_web_socket_that_is_slow_gets_its_pong_from_the_successor(world: World) -> None:
    old, new = world.push(history=1), world.push(history=1)
    slow = world.open(old, "", **WEB_SOCKET)
    slow.read(b"\r\n\r\n")
    value = "".join(str(number) for number in range(LARGE // 5))
    old.publish("x", value)
    until(lambda: blocked(old) == 1, "a client that is blocked")
    slow.sock.sendall(masked(PING, b"in between"))
    (subscriber,) = old.engine._broadcaster._connections.blocked
    until(lambda: subscriber.reply == frame(PONG, b"in between"), "a pong that is owed")
    world.take_over(old, new)
    newest = new.publish("x", "newest")
    assert f'"value":"{value}"}}'.encode() in slow.read(b'"}')
    got = slow.read(b'"newest"}')
    assert got.startswith(frame(PONG, b"in between"))
    assert newest.encode() in got


@pytest.mark.usefixtures("small_buffers")
def test_a_slow_client_is_given_up_when_it_would_have_been(world: World) -> None:
    old, new = world.push(send_timeout=600), world.push(send_timeout=600)
    world.begun(old)
    old.publish("x", LARGE * "x")
    until(lambda: blocked(old) == 1, "a client that is blocked")
    (before,) = old.engine._broadcaster._connections.blocked
    world.take_over(old, new)
    (after,) = new.engine._broadcaster._connections.blocked
    assert after.owes_since == before.owes_since
    assert after.owes_since is not None


def test_who_waits_for_the_first_value_is_answered_by_the_successor(world: World) -> None:
    old, new = world.push(), world.push()
    stream, poll = world.open(old), world.open(old, "format=json&wait=20")
    image = world.open(old, "format=sse")
    until(lambda: old.engine.open_now == 3, "all of them")
    world.take_over(old, new)
    new.publish("x", "first")
    assert stream.read(b'"first"}\n').startswith(b"HTTP/1.1 200 OK\r\n")
    assert poll.rest().endswith(b'"first"\n')
    assert image.read(b"data: first\n\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert new.engine.open_now == 2


def test_several_feeds_on_one_stream_go_on_in_their_order(world: World) -> None:
    old, new = world.push("a", "b"), world.push("b", "a")
    client = world.begun(old, feeds="a+b")
    ids = [old.publish(feed, feed) for feed in "abab"]
    lines = [client.read(b"\n") for _ in ids]
    world.take_over(old, new)
    new.publish("b", "b")
    new.publish("a", "a")
    lines += [client.read(b"\n") for _ in range(2)]
    places = [[place.sequence for place in position_of(_id(line))] for line in lines]
    assert places[2:] == [[3, 2], [3, 3], [3, 4], [4, 4]]
    assert len({place.epoch for line in lines for place in position_of(_id(line))}) == 2
    # And who comes back with one of them is sent what it has missed.
    again = world.open(new, "format=ndjson", "a+b", HTTP_LAST_EVENT_ID=_id(lines[3]))
    assert b"reset" not in again.read(b'"b"}\n') + again.read(b'"a"}\n')


def _id(line: bytes) -> str:
    return line.split(b'"')[3].decode()


def test_who_comes_back_after_it_is_sent_what_it_missed(world: World) -> None:
    old, new = world.push(), world.push()
    world.begun(old)
    known = old.publish("x", "one")
    old.publish("x", "two")
    world.take_over(old, new)
    client = world.open(new, HTTP_LAST_EVENT_ID=known)
    client.read(b"\r\n\r\n")
    assert b'"two"' in client.read(b"\n")


def test_streams_of_a_feed_that_is_not_there_any_more_end_and_others_do_not(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = world.push("x", "gone"), world.push("x", "more")
    stays, both = world.begun(old, feeds="x"), world.begun(old, feeds="x+gone")
    goes = world.begun(old, feeds="gone")
    old.publish("gone", "last")
    goes.read(b"\n")
    both.read(b"\n")
    world.take_over(old, new)
    assert goes.rest() == both.rest() == b""
    new.publish("x", "next")
    stays.read(b'"next"}\n')
    assert new.engine.open_now == 1
    assert "there is no feed gone any more" in caplog.text


def test_nothing_is_sent_while_it_is_held_and_all_of_it_after(world: World) -> None:
    push = world.push()
    client = world.begun(push)
    push.hold()
    publishing = threading.Thread(target=push.publish, args=("x", "held"))
    publishing.start()
    late = threading.Thread(target=world.open, args=(push,))
    late.start()
    client.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(HANG)
    assert push.engine.channels["x"].reached == 1
    push.go_on()
    client.read(b'"held"}\n')
    publishing.join(HANG)
    late.join(HANG)
    push.publish("x", "next")
    client.read(b'"next"}\n')
    world.clients[-1].read(b'"next"}\n')


def test_one_that_nobody_took_over_can_be_taken_over_later(world: World) -> None:
    old, failed, new = world.push(), world.push(), world.push()
    client = world.begun(old)
    old.hold()
    state, socks = old.snapshot()
    copies = [sock.dup() for sock in socks]
    with pytest.raises(ValueError, match="as many sockets"):
        failed.restore(state, [])
    with pytest.raises(ValueError, match="not whole"):
        failed.restore(state + b"x", copies)
    for copy in copies:
        copy.close()
    with pytest.raises(RuntimeError, match="held already"):
        old.hold()
    old.go_on()
    old.publish("x", "one")
    client.read(b'"one"}\n')
    world.take_over(old, new)
    new.publish("x", "two")
    client.read(b'"two"}\n')


def test_who_left_gives_its_successor_what_still_comes(
    world: World, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = world.push(), world.push()
    address = f"unix:{tmp_path}/new"
    receiver = Receiver(Listener(address, 0o600), Incoming(new))
    serving = threading.Thread(target=receiver.run)
    serving.start()
    try:
        client = world.begun(old)
        old.hold()
        state, socks = old.snapshot()
        new.restore(state, [sock.dup() for sock in socks])
        late = threading.Thread(target=world.open, args=(old,))
        publishing = threading.Thread(target=old.publish, args=("x", "from the old"))
        publishing.start()
        late.start()
        time.sleep(0.1)  # most likely they wait at the gate then; either way they arrive
        old.leave(address)
        new.go_on()
        publishing.join(HANG)
        late.join(HANG)
        client.read(b'"from the old"}\n')
        until(lambda: new.engine.open_now == 2, "the late client")
        old.publish("x", "later")
        client.read(b'"later"}\n')
        world.clients[-1].read(b'"later"}\n')
    finally:
        receiver.stop()
        serving.join(HANG)
    assert not caplog.records


def test_without_a_successor_s_address_who_publishes_is_told(world: World) -> None:
    old, new = world.push(), world.push()
    world.begun(old)
    world.take_over(old, new)
    with pytest.raises(BroadcasterAway, match="taken over"):
        old.publish("x", "late")


def test_an_engine_without_a_stream_goes_on_too(world: World) -> None:
    old, new = world.push(), world.push()
    known = old.publish("x", "one")
    world.take_over(old, new)
    assert known.encode() in world.open(new).read(b'"one"}\n')


def test_what_is_offered_must_be_an_offer(world: World) -> None:
    push = world.push()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="snapshot"):
        push.engine.adopt(b"nothing", ours)


# A feed's place in time


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * SECOND


def timetable(clock: Clock, function: Callable[[], object], interval: float = 5) -> Any:
    channel = Channel("x", clock=lambda: clock.now)
    tasks: list[Callable[[], None]] = []
    table = Timetable(execute=tasks.append, wake=lambda: None, clock=lambda: clock.now)
    feed = Feed("x", InThread("x", function), interval=interval, duration=interval)
    table.add(feed, channel)
    return table, channel, tasks


def test_a_feed_keeps_its_beat() -> None:
    clock = Clock()
    old, channel, tasks = timetable(clock, lambda: "old")
    channel.subscribe(lambda: None)
    old.step()
    tasks.pop()()
    assert old.step() == 5
    clock.now += 2 * SECOND
    new, successor, _ = timetable(clock, lambda: "new")
    successor.subscribe(lambda: None)
    successor.restore(channel.snapshot())
    new.restore(old.snapshot())
    assert new.step() == 3
    assert successor.newest.value.payload == Text("old")


def test_a_computation_under_way_is_begun_anew() -> None:
    clock = Clock()
    old, channel, tasks = timetable(clock, lambda: "old")
    channel.subscribe(lambda: None)
    old.step()
    assert len(tasks) == 1
    clock.now += SECOND
    new, successor, begun = timetable(clock, lambda: "new")
    successor.subscribe(lambda: None)
    new.restore(old.snapshot())
    new.step()
    assert len(begun) == 1


def test_a_shorter_interval_counts_at_once() -> None:
    clock = Clock()
    old, channel, tasks = timetable(clock, lambda: "old", interval=3600)
    channel.subscribe(lambda: None)
    old.step()
    tasks.pop()()
    old.step()
    new, successor, _ = timetable(clock, lambda: "new", interval=2)
    successor.subscribe(lambda: None)
    successor.restore(channel.snapshot())
    new.restore(old.snapshot())
    assert new.step() == 2


def test_a_feed_that_fails_is_tried_at_once_and_its_recovery_is_told() -> None:
    def fail() -> object:
        raise OSError("no such database")

    clock = Clock()
    old, channel, tasks = timetable(clock, fail)
    channel.subscribe(lambda: None)
    for _ in range(4):
        old.step()
        if tasks:
            tasks.pop()()
        clock.now += round((old.step() or 0) * SECOND)
    assert channel.failing
    new, successor, begun = timetable(clock, lambda: "mended")
    successor.subscribe(lambda: None)
    successor.restore(channel.snapshot())
    new.restore(old.snapshot())
    assert successor.failing
    new.step()
    begun.pop()()
    new.step()
    assert not successor.failing
    (status,) = successor.statuses()
    assert status.number > channel.statuses()[0].number


def test_a_combined_channel_goes_on() -> None:
    def value(text: str) -> Value:
        return Value(Text(text), 0.0, 0)

    old = [Channel(name, history=3) for name in "ab"]
    combined = CombinedChannel(old)
    combined.subscribe(lambda: None)
    for name in (0, 1, 0):
        old[name].publish(value("old"))
    new = [Channel(name, history=3) for name in "ab"]
    successor = CombinedChannel(new)
    successor.subscribe(lambda: None)
    successor.restore(combined.snapshot())
    for one, other in zip(new, old, strict=True):
        one.restore(other.snapshot())
    new[1].publish(value("new"))
    assert [event.id for event in successor.since(0)][:-1] == [
        event.id for event in combined.since(0)
    ]
    old[1].publish(value("new"))
    assert successor.since(0)[-1].id == combined.since(0)[-1].id


# The gate


def test_a_gate_waits_for_who_is_inside_and_lets_nobody_in() -> None:
    gate = Gate()
    order: list[str] = []

    def enter() -> None:
        with gate:
            order.append("inside")

    with gate, pytest.raises(TimeoutError):
        gate.shut(patience=0.01)
    gate.shut()
    waiting = threading.Thread(target=enter)
    waiting.start()
    time.sleep(0.05)
    order.append("open")
    gate.open()
    waiting.join(HANG)
    assert order == ["open", "inside"]
    gate.shut()
    gate.leave()
    with pytest.raises(Gone), gate:
        pass


def test_who_waits_at_a_gate_that_is_closed_for_good_is_told() -> None:
    gate = Gate()
    told: list[BaseException] = []

    def enter() -> None:
        try:
            with gate:
                pass
        except Gone as error:
            told.append(error)

    gate.shut()
    waiting = threading.Thread(target=enter)
    waiting.start()
    gate.leave()
    waiting.join(HANG)
    assert len(told) == 1


def test_a_thread_that_never_comes_round_is_not_waited_for() -> None:
    standstill = Standstill()
    standstill.ask()
    with pytest.raises(TimeoutError, match="busy"):
        standstill.wait(0.01)
    standstill.stand()  # it is not asked for any more
    with contextlib.suppress(TimeoutError):
        standstill.wait(0.01)
