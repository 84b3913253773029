"""What is said when one process takes over from another, by each side, and what if one of them
dies, hangs, or talks nonsense. The estate is a fake; the other side is a thread or a process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pushdemo import Push
from pushdemo.handover import messages, succession, takeover, wire
from pushdemo.handover.client import BroadcasterAway, Handover
from pushdemo.handover.listening import Listener
from pushdemo.handover.messages import Answer, TakeOver
from pushdemo.handover.server import Receiver
from pushdemo.handover.succession import NotGiven, OldGoesOn, OtherVersion, ask, succeed
from pushdemo.handover.takeover import READY, YOURS
from pushdemo.push.deliver import descriptors
from pushdemo.servers.control import Nothing
from pushdemo.wsgi.outgoing import take
from tests.servers import HANG, until


class Estate:
    """Some connections, and a state. done: what was done with it, in order."""

    def __init__(self, clients: int = 3, state: bytes = b"state") -> None:
        pairs = [socket.socketpair() for _ in range(clients)]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.listeners = [socket.create_server(("127.0.0.1", 0))]
        self.state = state
        self.done: list[str] = []
        self.error: Exception | None = None

    def hold(self) -> None:
        self.done.append("hold")
        if self.error is not None:
            raise self.error

    def snapshot(self) -> tuple[bytes, list[socket.socket]]:
        return self.state, self.ours

    def go_on(self) -> None:
        self.done.append("go on")

    def leave(self) -> None:
        self.done.append("leave")

    def end(self) -> float:
        self.done.append("end")
        return 0.0

    def close(self) -> None:
        for sock in (*self.ours, *self.theirs, *self.listeners):
            sock.close()


class Old:
    """A process that can be taken over from: a receiver in a thread."""

    def __init__(self, directory: Path, estate: Estate | None) -> None:
        self.path = str(directory / "socket")
        self.receiver = Receiver(Listener(f"unix:{self.path}", 0o600), Nothing(), estate=estate)
        self._thread = threading.Thread(target=self.receiver.run)
        self._thread.start()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self.receiver.stop()
        self._thread.join(HANG)


@pytest.fixture
def estate() -> Iterator[Estate]:
    estate = Estate()
    yield estate
    estate.close()


@pytest.fixture
def old(tmp_path: Path, estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    # The other side is in this process.
    monkeypatch.setattr(takeover, "peer_of", lambda _: (0, os.geteuid()))
    monkeypatch.setattr(succession, "is_dead", lambda _: False)
    old = Old(tmp_path, estate)
    yield old
    old.close()


# It goes well


def test_all_of_it_is_given(old: Old, estate: Estate) -> None:
    inheritance = ask(old.path)
    assert estate.done == ["hold"]
    assert inheritance.state == b"state"
    assert len(inheritance.listeners) == 2
    assert inheritance.listeners[1].getsockname() == estate.listeners[0].getsockname()
    inheritance.take()
    until(lambda: not old.runs, "the old one's end")
    assert estate.done == ["hold", "leave"]
    assert old.receiver.successor is not None
    for number, theirs in enumerate(estate.theirs):
        inheritance.clients[number].sendall(b"from the new one")
        assert theirs.recv(100) == b"from the new one"
        assert not inheritance.clients[number].get_inheritable()
    # The socket's file is there, and calls arrive at the new one.
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(old.path)
        accepted, _ = inheritance.listeners[0].accept()
        accepted.close()
    inheritance.close()


def test_more_descriptors_than_a_message_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "peer_of", lambda _: (0, os.geteuid()))
    descriptors.raise_limit()
    estate = Estate(clients=2 * takeover.GROUP + 1, state=os.urandom(5_000_000))
    old = Old(tmp_path, estate)
    try:
        inheritance = ask(old.path)
        inheritance.take()
        until(lambda: not old.runs, "the old one's end")
        assert inheritance.state == estate.state
        inheritance.clients[-1].sendall(b"x")
        assert estate.theirs[-1].recv(1) == b"x"
        inheritance.close()
    finally:
        old.close()
        estate.close()


def test_calls_that_wait_are_served_by_the_new_one(old: Old) -> None:
    inheritance = ask(old.path)  # the old one is held
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(HANG)
        caller.connect(old.path)
        caller.sendall(messages.call_message(messages.HealthQuestion()))
        inheritance.take()
        listener = Listener.inherited(f"unix:{old.path}", inheritance.listeners[0])
        new = Receiver(listener, Nothing())
        serving = threading.Thread(target=new.run)
        serving.start()
        try:
            parser = wire.Parser()
            while parser.message is None:
                parser.receive(caller.recv(1000))
            assert messages.read_answer(parser.message) == Answer("done", result={})
        finally:
            new.stop()
            serving.join(HANG)
    inheritance.close()


def test_nobody_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    assert succeed(path) is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert succeed(path) is None  # nobody listens


# It does not


def test_a_process_of_another_user_is_given_nothing(
    old: Old, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "peer_of", lambda _: (4711, 12345))
    with pytest.raises(OldGoesOn, match="process 4711 is user 12345's"):
        ask(old.path)
    assert estate.done == []
    assert old.runs


def test_the_system_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert takeover.peer_of(one) == (os.getpid(), os.geteuid())


def test_what_has_nothing_to_give_says_so(tmp_path: Path) -> None:
    old = Old(tmp_path, None)
    try:
        with pytest.raises(OldGoesOn, match="nothing that can be taken over"):
            ask(old.path)
    finally:
        old.close()


def test_what_cannot_be_held_goes_on(old: Old, estate: Estate) -> None:
    estate.error = TimeoutError("busy for more than 10 s")
    with pytest.raises(OldGoesOn, match="busy for more than 10 s"):
        ask(old.path)
    estate.error = None
    ask(old.path).close()


@pytest.mark.parametrize("said", [b"", READY], ids=["after all has come", "after it was ready"])
def test_a_successor_that_goes_changes_nothing(old: Old, estate: Estate, said: bytes) -> None:
    inheritance = ask(old.path)
    if said:
        inheritance._sock.sendall(said)
        assert inheritance._sock.recv(1) == YOURS
    inheritance._sock.close()
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")
    inheritance.close()
    later = ask(old.path)
    later.take()
    until(lambda: not old.runs, "the old one's end")
    later.close()
    assert estate.done == ["hold", "go on", "hold", "leave"]


def test_a_successor_that_goes_before_it_has_read_anything(old: Old, estate: Estate) -> None:
    estate.state = bytes(50_000_000)  # more than the system keeps
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(old.path)
        sock.sendall(messages.call_message(TakeOver(takeover.VERSION)))
        until(lambda: estate.done, "the hold")
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")


def test_a_successor_that_says_something_else(old: Old, estate: Estate) -> None:
    inheritance = ask(old.path)
    inheritance._sock.sendall(b"?")
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")
    with pytest.raises(OldGoesOn):
        inheritance.take()
    inheritance.close()


def test_a_successor_that_hangs_is_not_waited_for(
    old: Old, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "PATIENCE", 0.1)
    inheritance = ask(old.path)
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")
    with pytest.raises(OldGoesOn):
        inheritance.take()  # too late
    inheritance.close()


HANGS = """
    import sys, time
    from pushdemo.handover.succession import ask
    from pushdemo.handover.takeover import READY, SERVING
    inheritance = ask(sys.argv[1])
    inheritance._sock.sendall(READY)
    inheritance._sock.recv(1)
    {then}
    time.sleep(1000)
"""


def successor(path: str, then: str) -> subprocess.Popen[bytes]:
    program = textwrap.dedent(HANGS.format(then=then))
    return subprocess.Popen([sys.executable, "-c", program, path])


def none_is_left(_pid: int) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("watched_by", ["a descriptor", "one beyond select()", "none"])
def test_a_successor_that_hangs_with_all_in_its_hands_is_killed_first(
    tmp_path: Path, estate: Estate, monkeypatch: pytest.MonkeyPatch, watched_by: str
) -> None:
    if watched_by == "one beyond select()":
        opened = os.pidfd_open

        def high(pid: int) -> int:
            low = opened(pid)
            beyond = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 2000)
            os.close(low)
            return beyond

        descriptors.raise_limit()
        monkeypatch.setattr(os, "pidfd_open", high)
    elif watched_by == "none":
        monkeypatch.setattr(os, "pidfd_open", none_is_left)
    monkeypatch.setattr(takeover, "PATIENCE", 5.0)
    old = Old(tmp_path, estate)
    process = successor(old.path, "pass")
    dead: list[object] = []
    monkeypatch.setattr(estate, "go_on", lambda: dead.append(process.poll()))
    try:
        assert process.wait(HANG) == -9
        until(lambda: dead, "the old one to go on")
        assert old.runs
    finally:
        process.kill()
        process.wait()
        old.close()


def test_a_successor_that_serves_is_left_alone_whatever_it_does(
    tmp_path: Path, estate: Estate
) -> None:
    old = Old(tmp_path, estate)
    process = successor(old.path, "inheritance._sock.sendall(SERVING)")
    try:
        until(lambda: not old.runs, "the old one's end")
        assert old.receiver.successor == process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        old.close()


@contextlib.contextmanager
def scripted(directory: Path, act: Callable[[socket.socket], None]) -> Iterator[str]:
    """An old process that does this with its caller."""
    path = str(directory / "scripted")

    def run() -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                act(sock)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=run)
        thread.start()
        yield path
    thread.join(HANG)


def announce(sock: socket.socket, **result: Any) -> None:
    sock.sendall(messages.answer_message(Answer("done", result=result)))


def counts(pid: int, **other: int) -> dict[str, int]:
    return {"pid": pid, "listeners": 1, "clients": 0, "state": 10, **other}


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(HANG)
    return process.pid


def test_an_old_process_that_dies_before_it_has_given_all(tmp_path: Path, dead: int) -> None:
    with scripted(tmp_path, lambda sock: announce(sock, **counts(dead))) as path, \
            pytest.raises(NotGiven, match="died"):  # fmt: skip
        ask(path)


def test_an_old_process_that_hangs_up_and_lives(tmp_path: Path) -> None:
    with scripted(tmp_path, lambda sock: announce(sock, **counts(os.getpid()))) as path, \
            pytest.raises(OldGoesOn):  # fmt: skip
        ask(path)


def test_who_has_all_of_an_old_process_that_dies_goes_on(tmp_path: Path, dead: int) -> None:
    def act(sock: socket.socket) -> None:
        announce(sock, **counts(dead, listeners=0))
        sock.sendall(b"0123456789")

    with scripted(tmp_path, act) as path:
        inheritance = ask(path)
        inheritance.take()
    assert inheritance.state == b"0123456789"


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"pid": 1},
        counts(1, clients=-1),
        counts(1, clients=10**9),
        {**counts(1), "state": "long"},
        {**counts(1), "listeners": True},
    ],
)
def test_an_answer_that_is_not_understood(tmp_path: Path, result: Any) -> None:
    def act(sock: socket.socket) -> None:
        sock.sendall(messages.answer_message(Answer("done", result=result)))

    with scripted(tmp_path, act) as path, pytest.raises(OldGoesOn, match="not understood"):
        ask(path)


def test_more_streams_than_this_process_may_have_descriptors(
    old: Old, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 10)
    with pytest.raises(OldGoesOn, match=r"3 streams come, and .*ulimit -n"):
        ask(old.path)
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")


def test_a_process_without_descriptors_says_so_and_changes_nothing(
    tmp_path: Path, estate: Estate
) -> None:
    program = """
        import resource, sys
        from pushdemo.handover import succession
        from pushdemo.push.deliver import descriptors
        descriptors.raise_limit = lambda: 10_000  # what it is told, and not what it gets
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        try:
            succession.ask(sys.argv[1])
        except succession.OldGoesOn as error:
            print(error)
    """
    estate.ours += [estate.ours[0]] * 100
    old = Old(tmp_path, estate)
    try:
        said = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), old.path],
            capture_output=True, text=True, timeout=HANG, check=True,
        )  # fmt: skip
        assert "no descriptors left" in said.stdout, said.stderr
        until(lambda: estate.done == ["hold", "go on"], "the old one to go on")
    finally:
        del estate.ours[3:]
        old.close()


def test_another_version_of_this_has_the_old_one_leave_by_itself(
    old: Old, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "VERSION", takeover.VERSION + 1)
    with pytest.raises(OtherVersion):
        ask(old.path)
    assert estate.done == ["end"]
    stopping = threading.Timer(0.2, old.close)
    stopping.start()
    assert succeed(old.path) is None  # when the old one has left
    stopping.join()
    assert not old.runs


def test_one_that_does_not_leave_is_not_waited_for_ever(old: Old) -> None:
    with pytest.raises(OldGoesOn, match="was to leave"):
        succession.wait_for_leaving(old.path, 0.1)


def test_another_version_of_the_wire_is_said(tmp_path: Path) -> None:
    def act(sock: socket.socket) -> None:
        message = bytearray(messages.answer_message(Answer("done")))
        message[9] = 99
        sock.sendall(message)

    with scripted(tmp_path, act) as path, pytest.raises(OldGoesOn, match="version 99"):
        ask(path)


def test_streams_of_an_application_without_feeds_stay_where_they_are(old: Old) -> None:
    inheritance = ask(old.path)
    inheritance.state = b""
    with pytest.raises(OldGoesOn, match="3 streams are open, and the application has no Push now"):
        take(inheritance, None)
    inheritance.close()


def test_a_state_that_is_none_stays_where_it_is(old: Old, estate: Estate) -> None:
    inheritance = ask(old.path)
    with pytest.raises(OldGoesOn, match="no snapshot"):
        take(inheritance, Push())
    inheritance.close()
    until(lambda: estate.done == ["hold", "go on"], "the old one to go on")


def test_a_second_successor_is_told_that_there_is_another_one(old: Old) -> None:
    first = ask(old.path)
    said: list[str] = []

    def second() -> None:
        try:
            ask(old.path)
        except OldGoesOn as error:
            said.append(str(error))
        except NotGiven as error:
            said.append(str(error))

    late = threading.Thread(target=second)
    late.start()
    time.sleep(0.05)
    first.take()
    # It waits in the backlog, which is the successor's.
    listener = Listener.inherited(f"unix:{old.path}", first.listeners[0])
    new = Receiver(listener, Nothing())
    serving = threading.Thread(target=new.run)
    serving.start()
    late.join(HANG)
    new.stop()
    serving.join(HANG)
    first.close()
    assert said == ["this process has nothing that can be taken over"]


def test_workers_go_on_with_the_successor(old: Old) -> None:
    handover = Handover(f"unix:{old.path}")
    assert handover.health() == {}
    inheritance = ask(old.path)
    inheritance.take()
    until(lambda: not old.runs, "the old one's end")
    inheritance.close()
    with pytest.raises(BroadcasterAway):
        handover.health()  # nobody accepts any more
    assert os.path.exists(old.path)
