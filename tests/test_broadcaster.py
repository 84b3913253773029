"""The broadcaster, on real sockets: a test holds the other end of each."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from pushdemo.push.channel import Channel, Listeners
from pushdemo.push.compute.payload import Text
from pushdemo.push.deliver.answer import Beginning
from pushdemo.push.deliver.audience import Subscriber
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.connections import CHATTER
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.event import Event, FeedStatus, Value
from pushdemo.push.position import position_of
from tests.servers import HANG, until


class Lines:
    """The shortest format there is: an event is its text and a newline."""

    content_type = "text/plain"
    content_encoding = None
    opening = b""
    heartbeat = b"heartbeat\n"
    reset = b"reset\n"

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, event: Event) -> bytes:
        self.encoded += 1
        assert isinstance(event.value.payload, Text)
        return event.value.payload.text.encode() + b"\n"

    def encode_status(self, status: FeedStatus) -> bytes:
        return b"recovered\n" if status.failing_since is None else b"trouble\n"

    def come_back(self, milliseconds: int) -> bytes:
        return b"back in %d\n" % milliseconds

    def last(self, frame: bytes) -> bytes:
        return frame + b"end\n"


class Begins:
    """An answer that is always the same."""

    def __init__(self, head: bytes, patience: float) -> None:
        self._head = head
        self.patience = patience

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        return Beginning(self._head + b"open\n", True)

    def come_back(self, milliseconds: int) -> bytes:
        return self._head + b"open\nback in %d\n" % milliseconds

    def fail(self) -> Beginning:
        return Beginning(b"failed\n", False)


class Stage:
    """A broadcaster, a channel, and the clients attached to it."""

    def __init__(self, history: int = 1) -> None:
        self.now = 0.0
        self.broadcaster = Broadcaster(send_timeout=30, clock=lambda: self.now)
        self.channel = Channel("x", history=history)
        self.lines = Lines()
        self.closed: list[str] = []
        self.clients: list[Client] = []

    def attach(
        self,
        name: str = "",
        *,
        limit: int | None = None,
        head: bytes = b"",
        last_id: str | None = None,
        patience: float = 0.0,
        answer: Begins | None = None,
    ) -> Client:
        (client,) = self.attach_all(
            1, name, limit=limit, head=head, last_id=last_id, patience=patience, answer=answer
        )
        return client

    def attach_all(
        self,
        count: int,
        name: str = "",
        *,
        limit: int | None = None,
        head: bytes = b"",
        last_id: str | None = None,
        patience: float = 0.0,
        answer: Begins | None = None,
    ) -> list[Client]:
        """Clients who come at the same time."""
        socks, clients = [], []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(count):
                client = socket.socket()
                # Small, so that a client that does not read is soon one that cannot take any more.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(HANG)
                client.connect(listener.getsockname())
                socks.append(listener.accept()[0])
                clients.append(Client(client))
        self.clients += clients
        resume_from = None if last_id is None else position_of(last_id)
        self.broadcaster.attach(
            socks,
            answer or Begins(head, patience),
            Subscription(self.channel, self.lines, limit=limit, resume_from=resume_from),
            lambda: self.closed.append(name),
        )
        return clients

    def publish(self, text: str) -> None:
        self.channel.publish(Value(Text(text), computed=0.0, fresh_until=2**62))

    def poke(self) -> None:
        """Let the broadcaster look at the clock."""
        channel, self.channel = self.channel, Channel("other")
        self.publish("done")
        for _ in range(2):  # when the second is served, the turn of the first is over
            assert self.attach(limit=1).rest() == "open\ndone\nend\n"
        self.channel = channel

    def close(self) -> None:
        self.broadcaster.close()
        for client in self.clients:
            client.close()


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def line(self) -> str:
        return self._file.readline().decode()

    def rest(self) -> str:
        return self._file.read().decode()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


pytestmark = pytest.mark.usefixtures("in_c")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_a_client_gets_the_head_then_what_there_is_then_what_comes(stage: Stage) -> None:
    stage.publish("one")
    client = stage.attach(head=b"head\n")
    assert [client.line(), client.line(), client.line()] == ["head\n", "open\n", "one\n"]
    stage.publish("two")
    assert client.line() == "two\n"


def test_head_opening_and_first_event_are_one_packet(stage: Stage) -> None:
    stage.publish("one")
    client = stage.attach(head=b"head\n")
    assert client.sock.recv(4096) == b"head\nopen\none\n"


def test_a_client_that_comes_before_the_first_event_has_the_head_at_once(stage: Stage) -> None:
    client = stage.attach(head=b"head\n")
    assert [client.line(), client.line()] == ["head\n", "open\n"]
    stage.publish("one")
    assert client.line() == "one\n"


def test_all_clients_get_each_event_and_it_is_encoded_once(stage: Stage) -> None:
    clients = [stage.attach() for _ in range(50)]
    for client in clients:
        assert client.line() == "open\n"
    for number in range(5):
        stage.publish(str(number))
        assert [client.line() for client in clients] == [f"{number}\n"] * 50
    assert stage.lines.encoded == 5


def test_the_channel_is_watched_as_long_as_somebody_is_there(stage: Stage) -> None:
    assert not stage.channel.watched
    one, two = stage.attach("one"), stage.attach("two")
    until(lambda: stage.channel.watched, "the channel to be watched")
    one.close()
    until(lambda: stage.closed == ["one"], "the first to be gone")
    assert stage.channel.watched
    two.close()
    until(lambda: not stage.channel.watched, "the channel to be left")
    assert stage.closed == ["one", "two"]
    three = stage.attach("three")
    until(lambda: stage.channel.watched, "the channel to be watched again")
    stage.publish("again")
    assert [three.line(), three.line()] == ["open\n", "again\n"]


def test_a_limited_stream_ends_with_its_last_frame(stage: Stage) -> None:
    stage.publish("one")
    limited = stage.attach("limited", limit=2)
    endless = stage.attach("endless")
    assert [endless.line(), endless.line()] == ["open\n", "one\n"]
    for text in ("two", "three"):
        stage.publish(text)
        assert endless.line() == text + "\n"
    assert limited.rest() == "open\none\ntwo\nend\n"
    assert stage.closed == ["limited"]


def test_a_stream_of_one_event_that_is_there_ends_at_once(stage: Stage) -> None:
    stage.publish("one")
    assert stage.attach(limit=1).rest() == "open\none\nend\n"


def test_a_client_that_hung_up_is_gone_before_the_next_event(stage: Stage) -> None:
    client = stage.attach("x")
    assert client.line() == "open\n"
    client.close()
    until(lambda: stage.closed == ["x"], "the client to be gone")


def test_what_a_client_says_is_not_listened_to(stage: Stage) -> None:
    client = stage.attach("x")
    assert client.line() == "open\n"
    client.sock.sendall(b"GET /again HTTP/1.1\r\n\r\n")
    stage.publish("one")
    assert client.line() == "one\n"
    assert stage.closed == []


def test_a_client_that_will_not_stop_talking_is_dropped(stage: Stage) -> None:
    stage.attach("x").sock.sendall(b"x" * CHATTER * 4)
    until(lambda: stage.closed == ["x"], "the client to be gone")


@pytest.mark.usefixtures("small_buffers")
def test_a_slow_client_finishes_its_frame_and_goes_on_with_the_newest(stage: Stage) -> None:
    slow, quick = stage.attach("slow"), stage.attach("quick")
    big = "x" * 1_000_000
    stage.publish(big)
    assert [quick.line(), quick.line()] == ["open\n", big + "\n"]
    for text in ("skipped", "skipped too", "newest"):
        stage.publish(text)
        assert quick.line() == text + "\n"
    assert [slow.line(), slow.line(), slow.line()] == ["open\n", big + "\n", "newest\n"]
    stage.publish("next")
    assert slow.line() == "next\n"


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.parametrize("limit", [None, 9])
def test_delivery_encodes_no_event_that_nobody_can_take(
    stage: Stage, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The publisher, who encodes each event, is behind.
    monkeypatch.setattr(Listeners, "prepare", lambda *_: True)
    slow = stage.attach(limit=limit)
    big = "x" * 1_000_000
    stage.publish(big)
    stage.poke()
    before = stage.lines.encoded
    for text in ("skipped", "skipped too", "newest"):
        stage.publish(text)
        stage.poke()
    assert stage.lines.encoded == before + 3  # what a poke sends
    assert [slow.line(), slow.line(), slow.line()] == ["open\n", big + "\n", "newest\n"]


@pytest.mark.usefixtures("small_buffers")
def test_delivery_encodes_nothing_for_nobody_in_a_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listeners, "prepare", lambda *_: True)
    monkeypatch.setattr(Lines, "heartbeat", b"")
    slow = stage.attach()
    big = "x" * 1_000_000
    stage.publish(big)
    stage.poke()
    stage.publish("newest")
    stage.poke()
    before = stage.lines.encoded
    stage.now += 20
    stage.poke()
    assert stage.lines.encoded == before + 1  # what a poke sends
    assert [slow.line(), slow.line(), slow.line()] == ["open\n", big + "\n", "newest\n"]


@pytest.mark.usefixtures("small_buffers")
def test_a_slow_client_catches_up_as_far_as_the_history_goes() -> None:
    stage = Stage(history=2)
    try:
        slow, quick = stage.attach(), stage.attach()
        big = "x" * 1_000_000
        stage.publish(big)
        assert [quick.line(), quick.line()] == ["open\n", big + "\n"]
        for text in ("skipped", "one", "two"):
            stage.publish(text)
            assert quick.line() == text + "\n"
        assert [slow.line() for _ in range(4)] == ["open\n", big + "\n", "one\n", "two\n"]
    finally:
        stage.close()


@pytest.mark.usefixtures("small_buffers")
def test_a_slow_client_of_a_limited_stream_gets_its_number_of_events(stage: Stage) -> None:
    slow = stage.attach(limit=2)
    quick = stage.attach()
    big = "x" * 1_000_000
    stage.publish(big)
    assert [quick.line(), quick.line()] == ["open\n", big + "\n"]
    for text in ("skipped", "newest"):
        stage.publish(text)
        assert quick.line() == text + "\n"
    assert slow.rest() == f"open\n{big}\nnewest\nend\n"


@pytest.mark.usefixtures("small_buffers")
def test_a_slow_client_reads_the_end_of_a_large_last_frame(stage: Stage) -> None:
    big = "x" * 1_000_000
    stage.publish(big)
    slow = stage.attach(limit=1)
    quick = stage.attach()
    assert [quick.line(), quick.line()] == ["open\n", big + "\n"]
    assert slow.rest() == f"open\n{big}\nend\n"


@pytest.mark.usefixtures("small_buffers")
def test_a_client_that_takes_nothing_is_dropped_and_the_others_never_notice(stage: Stage) -> None:
    stage.attach("stuck")
    quick = stage.attach("quick")
    stage.publish("x" * 1_000_000)
    assert [len(quick.line()), len(quick.line())] == [5, 1_000_001]
    stage.now = 29.9
    stage.publish("two")
    assert quick.line() == "two\n"
    stage.poke()
    assert "stuck" not in stage.closed
    while stage.now < 60 and "stuck" not in stage.closed:
        stage.now += 5
        stage.publish("three")
        assert quick.line() == "three\n"
        stage.poke()
    assert "stuck" in stage.closed


def test_a_client_that_leaves_a_little_in_the_kernel_is_dropped_as_well(stage: Stage) -> None:
    stage.attach("stuck")
    stage.publish("x" * 30_000)  # more than its buffer takes, and less than ours
    stage.poke()
    assert not stage.broadcaster._connections.blocked
    stage.now = 29.9
    stage.poke()
    assert "stuck" not in stage.closed
    while stage.now < 60 and "stuck" not in stage.closed:
        stage.now += 5
        stage.poke()
    assert "stuck" in stage.closed


@pytest.mark.usefixtures("small_buffers")
def test_a_client_that_takes_a_little_now_and_then_is_kept(stage: Stage) -> None:
    slow, quick = stage.attach("slow"), stage.attach("quick")
    stage.publish("x" * 1_000_000)
    assert [len(quick.line()), len(quick.line())] == [5, 1_000_001]
    for number in range(10):
        received = 0
        while received < 50_000:  # more than lies in the buffers between
            received += len(slow.sock.recv(50_000))
        stage.now += 20
        stage.publish(str(number))
        assert quick.line() == f"{number}\n"
    assert stage.closed == []


def test_closing_hangs_up_on_everybody(stage: Stage) -> None:
    clients = [stage.attach(str(number)) for number in range(10)]
    for client in clients:
        assert client.line() == "open\n"
    stage.broadcaster.close()
    assert [client.rest() for client in clients] == [""] * 10
    assert sorted(stage.closed) == [str(number) for number in range(10)]
    assert not stage.channel.watched
    stage.broadcaster.close()  # a second time is no error


def test_who_comes_after_the_close_is_hung_up_on(stage: Stage) -> None:
    stage.broadcaster.close()
    assert stage.attach("late").rest() == ""
    assert stage.closed == ["late"]


def test_newcomers_during_a_flood_of_events_miss_nothing_and_see_nothing_twice() -> None:
    stage = Stage(history=1000)
    try:
        stop = threading.Event()

        def flood() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                stage.publish(str(number))
                time.sleep(0.0005)

        publisher = threading.Thread(target=flood)
        publisher.start()
        try:
            clients = [stage.attach() for _ in range(40)]
            sequences = []
            for client in clients:
                assert client.line() == "open\n"
                sequences.append([int(client.line()) for _ in range(20)])
        finally:
            stop.set()
            publisher.join(HANG)
        for sequence in sequences:
            assert sequence == list(range(sequence[0], sequence[0] + 20))
    finally:
        stage.close()


def test_a_client_waits_for_the_first_event_until_its_answer_loses_patience(stage: Stage) -> None:
    patient = stage.attach("patient", head=b"head\n", patience=20)
    impatient = stage.attach("impatient", head=b"head\n", patience=10)
    stage.poke()  # both have been admitted
    stage.now = 10
    stage.poke()
    assert [impatient.line(), impatient.line()] == ["head\n", "open\n"]
    patient.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        patient.sock.recv(1)
    patient.sock.settimeout(HANG)
    stage.publish("one")
    assert [patient.line() for _ in range(3)] == ["head\n", "open\n", "one\n"]
    assert impatient.line() == "one\n"


def test_silence_is_filled_with_heartbeats(stage: Stage) -> None:
    stage.publish("one")
    endless, limited = stage.attach(), stage.attach(limit=2)
    for client in (endless, limited):
        assert [client.line(), client.line()] == ["open\n", "one\n"]
    stage.now = 14.9
    stage.poke()
    stage.now = 15
    stage.poke()
    for client in (endless, limited):
        assert client.line() == "heartbeat\n"
    stage.now = 29
    stage.publish("two")
    assert limited.rest() == "two\nend\n"
    stage.now = 43
    stage.poke()
    stage.now = 44
    stage.poke()
    assert [endless.line(), endless.line()] == ["two\n", "heartbeat\n"]


def test_a_client_that_comes_back_gets_what_it_missed() -> None:
    stage = Stage(history=3)
    try:
        for number in range(1, 6):
            stage.publish(str(number))
        three = stage.attach(last_id=stage.channel.id_of(3))
        assert [three.line() for _ in range(3)] == ["open\n", "4\n", "5\n"]
        five = stage.attach(last_id=stage.channel.id_of(5))
        assert five.line() == "open\n"
        for last_id in (stage.channel.id_of(1), "other-4", "nonsense"):
            lost = stage.attach(last_id=last_id)
            assert [lost.line() for _ in range(3)] == ["open\n", "reset\n", "5\n"]
        stage.publish("6")
        assert (three.line(), five.line()) == ("6\n", "6\n")
    finally:
        stage.close()


@pytest.mark.usefixtures("small_buffers")
def test_blocked_clients_share_the_frame_they_are_blocked_on(stage: Stage) -> None:
    stage.publish("x" * 4_000_000)
    assert stage.channel.newest is not None
    stage.channel.newest.frame(stage.lines)
    tracemalloc.start()
    try:
        slow = [stage.attach() for _ in range(20)]
        for client in slow:
            assert client.line() == "open\n"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000


def test_a_failure_and_its_end_are_told_to_all_who_stream_once(stage: Stage) -> None:
    stage.publish("one")
    endless, limited = stage.attach(), stage.attach(limit=2)
    for client in (endless, limited):
        assert [client.line(), client.line()] == ["open\n", "one\n"]
    stage.channel.fail(123.0, 0)
    for client in (endless, limited):
        assert client.line() == "trouble\n"
    late = stage.attach()
    assert [late.line() for _ in range(3)] == ["open\n", "one\n", "trouble\n"]
    stage.channel.recover()
    stage.publish("two")
    assert [endless.line(), endless.line()] == ["recovered\n", "two\n"]
    assert limited.rest() == "recovered\ntwo\nend\n"
    later = stage.attach()
    assert [later.line(), later.line()] == ["open\n", "two\n"]


def test_who_waits_for_a_first_value_that_fails_is_told_and_hung_up_on(stage: Stage) -> None:
    waiting = stage.attach("waiting", patience=1000)
    stage.poke()
    stage.channel.fail(123.0, 0)
    assert waiting.rest() == "failed\n"
    until(lambda: "waiting" in stage.closed, "it to be gone")


def test_an_old_failure_does_not_fail_who_comes_for_a_new_try(stage: Stage) -> None:
    stage.channel.fail(123.0, 0)
    waiting = stage.attach("waiting", patience=1000)
    stage.poke()
    stage.publish("one")
    stage.channel.recover()
    assert [waiting.line(), waiting.line()] == ["open\n", "one\n"]


def test_who_come_together_are_sent_the_same_in_one_go() -> None:
    stage = Stage(history=3)
    try:
        for number in range(3):
            stage.publish(str(number))
        together = [stage.attach_all(3, last_id=stage.channel.id_of(1)), stage.attach_all(3)]
        assert [[client.line() for _ in range(3)] for client in together[0]] == [
            ["open\n", "1\n", "2\n"]
        ] * 3
        assert [[client.line() for _ in range(2)] for client in together[1]] == [
            ["open\n", "2\n"]
        ] * 3
        stage.publish("next")
        assert [client.line() for clients in together for client in clients] == ["next\n"] * 6
    finally:
        stage.close()


def test_who_come_together_with_a_limit_leave_one_by_one(stage: Stage) -> None:
    stage.publish("one")
    clients = stage.attach_all(3, limit=2)
    clients[1].close()
    until(lambda: len(stage.closed) == 1, "one to be gone")
    stage.publish("two")
    for client in (clients[0], clients[2]):
        assert client.rest() == "open\none\ntwo\nend\n"
    until(lambda: len(stage.closed) == 3, "all to be gone")


def test_who_come_together_wait_together(stage: Stage) -> None:
    clients = stage.attach_all(3, patience=20)
    later = stage.attach(patience=20)
    stage.poke()
    stage.publish("one")
    for client in [*clients, later]:
        assert [client.line(), client.line()] == ["open\n", "one\n"]


@pytest.mark.usefixtures("small_buffers")
def test_one_of_those_who_come_together_is_slow(stage: Stage) -> None:
    big = "x" * 1_000_000
    stage.publish(big)
    slow, *quick = stage.attach_all(3)
    for client in quick:
        assert [client.line(), client.line()] == ["open\n", big + "\n"]
    for text in ("skipped", "newest"):
        stage.publish(text)
        assert [client.line() for client in quick] == [text + "\n"] * 2
    assert [slow.line() for _ in range(3)] == ["open\n", big + "\n", "newest\n"]
    assert stage.closed == []


def test_one_that_cannot_be_watched_is_hung_up_on_and_the_others_are_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.publish("one")
    assert stage.attach("first").line() == "open\n"
    register = stage.broadcaster._watched.register
    left = [1]

    def fails_once(sock: socket.socket, mask: int, data: Subscriber | None) -> None:
        if left:
            left.pop()
            raise OSError("no space")
        register(sock, mask, data)

    monkeypatch.setattr(stage.broadcaster._watched, "register", fails_once)
    unlucky, lucky = stage.attach_all(2, "unlucky")
    assert [lucky.line(), lucky.line()] == ["open\n", "one\n"]
    assert unlucky.rest() == ""
    until(lambda: stage.closed == ["unlucky"], "it to be gone")


def test_a_source_that_cannot_be_subscribed_to_loses_its_clients_and_nobody_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.publish("one")
    other = stage.attach("other")
    assert [other.line(), other.line()] == ["open\n", "one\n"]
    channel, stage.channel = stage.channel, Channel("bad")

    def fails(*_: object) -> None:
        raise RuntimeError("no thread can be started")

    monkeypatch.setattr(stage.channel, "subscribe", fails)
    assert [client.rest() for client in stage.attach_all(2, "unlucky")] == ["", ""]
    until(lambda: stage.closed == ["unlucky"] * 2, "them to be gone")
    stage.channel = channel
    stage.publish("two")
    assert other.line() == "two\n"
