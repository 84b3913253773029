"""The handover: a worker's call, and what the broadcaster's receiver makes of it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushdemo.handover import messages, wire
from pushdemo.handover.client import BroadcasterAway, Handover, HandoverLost
from pushdemo.handover.listening import AddressTaken, Listener
from pushdemo.handover.messages import Answer, Publication, Refused, Request
from pushdemo.handover.server import Receiver
from tests.servers import HANG, until

REQUEST = Request({"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "*/*"}, "a+b", [("Set-Cookie", "a=b")])


class Recording:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[socket.socket, Request]] = []
        self.published: list[tuple[str, str, bytes]] = []
        self.keys: list[str | None] = []
        self.adopted: list[tuple[socket.socket, bytes]] = []
        self.error: BaseException | None = None

    def take(self, sock: socket.socket, request: Request) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append((sock, request))

    def adopt(self, sock: socket.socket, state: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.adopted.append((sock, state))

    def publish(self, feed: str, content_type: str, body: bytes, key: str | None) -> str:
        if self.error is not None:
            raise self.error
        self.published.append((feed, content_type, body))
        self.keys.append(key)
        return f"e-{len(self.published)}"

    def health(self) -> dict[str, object]:
        return {"streams": len(self.taken)}


class Broadcaster:
    """A receiver in a thread."""

    def __init__(self, directory: Path, *, mode: int = 0o660, **options: Any) -> None:
        self.path = directory / "socket"
        self.address = f"unix:{self.path}"
        self.handler = Recording()
        listener = Listener(self.address, mode)
        self.receiver = Receiver(listener, self.handler, **options)
        self._thread = threading.Thread(target=self.receiver.run)
        self._thread.start()

    def close(self) -> None:
        self.receiver.stop()
        self._thread.join(HANG)
        for sock, _ in self.handler.taken:
            sock.close()
        assert not self._thread.is_alive()


@pytest.fixture
def broadcaster(tmp_path: Path) -> Iterator[Broadcaster]:
    broadcaster = Broadcaster(tmp_path, patience=0.5)
    yield broadcaster
    broadcaster.close()


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and the worker's end."""
    client, worker = socket.socketpair()
    with client, worker:
        client.settimeout(HANG)
        yield client, worker


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# A call that goes well


def test_a_connection_is_given_with_all_that_is_known_of_its_request(
    broadcaster: Broadcaster, connection: tuple[socket.socket, socket.socket]
) -> None:
    client, worker = connection
    Handover(broadcaster.address).give(worker, REQUEST)
    worker.close()
    ((sock, request),) = broadcaster.handler.taken
    assert request == REQUEST
    assert not sock.get_inheritable()
    sock.sendall(b"an event")
    assert client.recv(100) == b"an event"


def test_a_client_is_offered_with_the_state_of_its_stream(
    broadcaster: Broadcaster, connection: tuple[socket.socket, socket.socket]
) -> None:
    client, worker = connection
    state = os.urandom(100_000)
    Handover(broadcaster.address).offer(state, worker)
    ((sock, adopted),) = broadcaster.handler.adopted
    assert adopted == state
    sock.sendall(b"an event")
    assert client.recv(100) == b"an event"
    broadcaster.handler.error = Refused("no such feed")
    with pytest.raises(Refused, match="no such feed"):
        Handover(broadcaster.address).offer(state, worker)
    sock.close()


def test_a_value_is_published(broadcaster: Broadcaster) -> None:
    large = os.urandom(3_000_000)
    handover = Handover(broadcaster.address)
    assert handover.publish("größe", "application/octet-stream", large) == "e-1"
    assert broadcaster.handler.published == [("größe", "application/octet-stream", large)]
    assert handover.health() == {"streams": 0}


def test_a_key_comes_with_its_value(broadcaster: Broadcaster) -> None:
    handover = Handover(broadcaster.address)
    handover.publish("a", "text/plain", b"1", key="k 1")
    handover.publish("a", "text/plain", b"2")
    assert broadcaster.handler.keys == ["k 1", None]
    with pytest.raises(Refused):
        handover.publish("a", "text/plain", b"3", key="ünï")


def test_many_threads_share_one(broadcaster: Broadcaster) -> None:
    handover = Handover(broadcaster.address)
    ids: list[str] = []

    def publish() -> None:
        ids.extend(handover.publish("a", "text/plain", b"1") for _ in range(25))

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert len(set(ids)) == 200


def test_it_works_where_gevent_has_replaced_sockets(broadcaster: Broadcaster) -> None:
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, socket, sys
        from pushdemo.handover.client import Handover
        from pushdemo.handover.messages import Request

        handover = Handover(sys.argv[1])
        ours, theirs = socket.socketpair()

        def call(number):
            handover.give(ours, Request({}, None, []))
            return handover.publish("a", "text/plain", b"1")

        jobs = [gevent.spawn(call, number) for number in range(50)]
        gevent.joinall(jobs, raise_error=True)
        assert len({job.value for job in jobs}) == 50
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), broadcaster.address],
        check=True,
        timeout=HANG,
    )
    assert len(broadcaster.handler.taken) == 50


# Refused, away, lost


def test_what_is_wrong_is_refused_with_a_reason(
    broadcaster: Broadcaster, connection: tuple[socket.socket, socket.socket]
) -> None:
    broadcaster.handler.error = Refused("there is no feed x")
    with pytest.raises(Refused, match="there is no feed x"):
        Handover(broadcaster.address).publish("x", "text/plain", b"")
    with pytest.raises(Refused):
        Handover(broadcaster.address).give(connection[1], REQUEST)
    connection[1].sendall(b"503")  # which is still the worker's
    assert connection[0].recv(10) == b"503"


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1), RecursionError()])
def test_an_error_of_the_broadcaster_is_its_answer_and_it_goes_on(
    broadcaster: Broadcaster, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    broadcaster.handler.error = error
    with pytest.raises(BroadcasterAway, match="the broadcaster failed"):
        Handover(broadcaster.address).publish("x", "text/plain", b"")
    broadcaster.handler.error = None
    assert Handover(broadcaster.address).publish("x", "text/plain", b"") == "e-1"
    assert "a worker's call failed" in caplog.text


def test_without_a_broadcaster_a_call_fails_at_once(
    tmp_path: Path, connection: tuple[socket.socket, socket.socket]
) -> None:
    nowhere = Handover(f"unix:{tmp_path}/socket")
    began = time.monotonic()
    with pytest.raises(BroadcasterAway, match=f"{tmp_path}/socket: no broadcaster runs there"):
        nowhere.give(connection[1], REQUEST)
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(f"{tmp_path}/socket")
    left_behind.close()
    with pytest.raises(BroadcasterAway, match="no broadcaster runs there"):
        nowhere.publish("a", "text/plain", b"")
    assert time.monotonic() - began < HANG / 2


@pytest.mark.parametrize("address", ["", "/run/x", "unix:x", "tcp:1", "unix:/" + "x" * 200])
def test_what_is_no_address_is_said_in_one_line(address: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of a broadcaster|is too long") as caught:
        Handover(address)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ("close at once", BroadcasterAway),
        ("close after the message", HandoverLost),
        ("say nothing", HandoverLost),
        ("say nonsense", HandoverLost),
        ("speak version 2", BroadcasterAway),
    ],
)
def test_a_broadcaster_that_dies_at_any_step_is_no_hang(
    tmp_path: Path,
    behaviour: str,
    error: type[Exception],
    connection: tuple[socket.socket, socket.socket],
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/socket")
        listener.listen()
        stop = threading.Event()

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                if behaviour == "close at once":
                    accepted.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    return
                received = b""
                while b'"take"' not in received:
                    received += accepted.recv(65536)
                if behaviour == "say nonsense":
                    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                if behaviour == "speak version 2":
                    accepted.sendall(b"PUSHDEMO\x00\x02 and more")
                if behaviour == "say nothing":
                    stop.wait(HANG)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            # Of a connection that is reset, the message may have been sent, or not.
            errors = (error, HandoverLost) if behaviour == "close at once" else error
            with pytest.raises(errors):
                Handover(f"unix:{tmp_path}/socket", timeout=0.5).give(connection[1], REQUEST)
        finally:
            stop.set()
            thread.join(HANG)


# What callers send


def exchange(broadcaster: Broadcaster, data: bytes, *passengers: int) -> bytes:
    """What is answered to these bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(HANG)
        sock.connect(str(broadcaster.path))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", passengers))]
        sock.sendmsg([data], ancillary if passengers else [])
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: sock.recv(65536), b""))
    return b""


def read_answer(data: bytes) -> Answer:
    parser = wire.Parser()
    parser.receive(data)
    assert parser.message
    return messages.read_answer(parser.message)


TAKE = messages.call_message(REQUEST)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a message begins with"),
        (b"PUSHDEMO\x00\x09" + bytes(100), "protocol version 9, where 1 is spoken"),
        (b"PUSHDEMO\x00\x01\xff\xff\xff\xff" + bytes(8), "header of 4294967295 bytes"),
        (b"PUSHDEMO\x00\x01\x00\x00\x00\x02" + b"\xff" * 8 + b"{}", "where 67108864 are allowed"),
        (b"PUSHDEMO\x00\x01\x00\x00\x00\x02" + bytes(8) + b"[]", "no JSON object"),
        (wire.encode({"call": "reboot"}), "there is no such call"),
        (wire.encode({"call": "take", "environ": {"a": 1}, "feeds": None, "headers": []}), "'a'"),
        (
            wire.encode({"call": "take", "environ": {}, "feeds": None, "headers": [["a\n", "b"]]}),
            "is no name of a header",
        ),
        (TAKE, "no connection came with the request"),
    ],
)
def test_what_is_no_call_is_answered_with_what_is_wrong(
    broadcaster: Broadcaster, data: bytes, complaint: str
) -> None:
    answer = read_answer(exchange(broadcaster, data))
    assert answer.status == "refused"
    assert complaint in answer.explanation


def test_what_comes_with_a_call_must_be_one_connection(broadcaster: Broadcaster) -> None:
    before = descriptors()
    one, other = socket.socketpair()
    with one, other, open(os.devnull) as file, socket.socket() as unconnected:
        unconnected.bind(("127.0.0.1", 0))
        unconnected.listen()
        for passengers in ([one.fileno()] * 2, [one.fileno()] * 5, [file.fileno()],
                           [unconnected.fileno()]):  # fmt: skip
            answer = read_answer(exchange(broadcaster, TAKE, *passengers))
            assert answer.status == "refused"
    until(lambda: descriptors() == before, "all descriptors are closed again")
    assert not broadcaster.handler.taken


def test_who_says_nothing_or_half_of_it_is_given_up(broadcaster: Broadcaster) -> None:
    before = descriptors()
    for data in (b"", b"PUSH", TAKE[:20], TAKE[:-1]):
        if data:
            answer = read_answer(exchange(broadcaster, data))
            assert answer.explanation == "the call did not come in time"
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(broadcaster.path))
    assert Handover(broadcaster.address).health()  # meanwhile
    silent.settimeout(HANG)
    assert read_answer(silent.recv(65536)).status == "unavailable"
    silent.close()
    until(lambda: descriptors() == before, "all descriptors are closed again")


def test_a_crowd_that_says_nothing_keeps_nobody_out(broadcaster: Broadcaster) -> None:
    crowd = []
    for _ in range(300):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(broadcaster.path))
        crowd.append(sock)
    assert Handover(broadcaster.address, timeout=HANG).publish("a", "text/plain", b"1")
    for sock in crowd:
        sock.close()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.data())
def test_no_bytes_are_a_fault_of_the_parser(tail: bytes, begins_well: bool, data: Any) -> None:
    """And however they are cut, they are the same."""
    whole = (TAKE[: data.draw(st.integers(0, len(TAKE)))] if begins_well else b"") + tail

    def outcome(*pieces: bytes) -> object:
        parser = wire.Parser(100)
        try:
            for piece in pieces:
                parser.receive(piece)
        except wire.Malformed as error:
            return str(error)
        return parser.message and (parser.message.header, parser.message.body)

    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert outcome(*pieces) == outcome(whole)


NATIVE = st.text(st.characters(max_codepoint=255))


@given(
    st.dictionaries(NATIVE, NATIVE, max_size=5),
    st.one_of(st.none(), st.text().filter(str.isprintable)),
    st.binary(max_size=50),
)
def test_a_call_arrives_as_it_was_sent(
    environ: dict[str, str], feeds: str | None, body: bytes
) -> None:
    for call in (Request(environ, feeds, []), Publication("größe", "text/plain", body)):
        parser = wire.Parser(1000)
        parser.receive(messages.call_message(call))
        if isinstance(call, Publication):
            parser.receive(body)
        assert parser.message is not None
        assert messages.read_call(parser.message) == call


# Descriptors that run out


def test_without_a_descriptor_left_the_worker_is_told_so(tmp_path: Path) -> None:
    """In a process of its own, whose limit is low."""
    program = """
        import resource, sys
        from pushdemo.handover.listening import Listener
        from pushdemo.handover.server import Receiver

        class Handler:
            kept = []
            def take(self, sock, request):
                self.kept.append(sock)
            def health(self):
                return {}

        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        Receiver(Listener(sys.argv[1], 0o660), Handler()).run()
    """
    address = f"unix:{tmp_path}/socket"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), address])
    try:
        until((tmp_path / "socket").exists, "the receiver")
        handover = Handover(address, timeout=HANG)
        ours, theirs = socket.socketpair()
        given = 0
        with contextlib.suppress(BroadcasterAway):
            while given < 40:
                handover.give(theirs, REQUEST)
                given += 1
        assert 20 < given < 40
        with pytest.raises(BroadcasterAway, match="no descriptors left: raise its limit"):
            handover.give(theirs, REQUEST)
        ours.close()
        theirs.close()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


# The socket's file


def test_the_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    broadcaster = Broadcaster(tmp_path, mode=0o600)
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o600
    broadcaster.close()
    assert not (tmp_path / "socket").exists()


def test_there_is_one_broadcaster_at_an_address(broadcaster: Broadcaster, tmp_path: Path) -> None:
    with pytest.raises(AddressTaken, match="another broadcaster serves unix:"):
        Listener(broadcaster.address, 0o660)
    assert Handover(broadcaster.address).health()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(AddressTaken, match="there is a file that is no socket"):
        Listener(f"unix:{tmp_path}/file", 0o660)
    assert (tmp_path / "file").read_text() == "precious"


def test_one_that_was_killed_is_replaced(tmp_path: Path) -> None:
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(f"{tmp_path}/socket")
    left_behind.close()
    broadcaster = Broadcaster(tmp_path)
    assert Handover(broadcaster.address).health()
    broadcaster.close()


def test_the_file_of_a_successor_stays(tmp_path: Path) -> None:
    first = Broadcaster(tmp_path)
    (tmp_path / "socket").unlink()
    second = Broadcaster(tmp_path)
    first.close()
    assert Handover(second.address).health()
    second.close()


def test_who_waits_when_it_stops_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broadcaster = Broadcaster(tmp_path, patience=HANG)
    with socket.socket(socket.AF_UNIX) as waiting, caplog.at_level(logging.ERROR):
        waiting.settimeout(HANG)
        waiting.connect(str(broadcaster.path))
        waiting.sendall(b"PUSH")
        assert Handover(broadcaster.address).health()
        broadcaster.close()
        assert b"is being stopped" in waiting.recv(65536)
    assert not caplog.text
