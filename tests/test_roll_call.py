"""Who takes nothing is found, by value; test_broadcaster.py has real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest

from pushdemo.push.channel import Channel
from pushdemo.push.deliver import roll_call, sockets
from pushdemo.push.deliver.audience import Subscriber
from pushdemo.push.deliver.roll_call import PART, RollCall, suspect
from pushdemo.push.deliver.sockets import Progress, progress
from pushdemo.push.deliver.subscription import Subscription
from tests.servers import until
from tests.test_broadcaster import Lines


class Sock:
    """A connection whose peer has come as far as the test says."""

    def __init__(self) -> None:
        self.found: Progress | None = Progress(0, False)
        self.fd = 5
        self.looks = 0

    def fileno(self) -> int:
        return self.fd


@pytest.fixture(autouse=True)
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(sock: socket.socket) -> Progress | None:
        fake = cast("Sock", sock)
        fake.looks += 1
        return fake.found

    monkeypatch.setattr(roll_call, "progress", found)


def client() -> tuple[Sock, Subscriber]:
    sock = Sock()
    plain = Subscription(Channel("x"), Lines())
    return sock, Subscriber(cast("socket.socket", sock), None, plain, lambda: None)


def dropped(rounds: RollCall, *nows: float) -> list[float]:
    """At which of these times somebody is found."""
    return [now for now in nows if rounds.call(now)]


def test_who_owes_nothing_stays_for_ever() -> None:
    sock, one = client()
    sock.found = Progress(1000, False)
    assert dropped(RollCall(lambda: [one], 30), 0, 30, 60, 1000) == []


def test_who_owes_and_acknowledges_nothing_more_is_found() -> None:
    sock, one = client()
    sock.found = Progress(1000, True)
    assert dropped(RollCall(lambda: [one], 30), 0, 10, 29.9, 30) == [30]


def test_who_takes_a_little_each_time_stays() -> None:
    sock, one = client()
    rounds = RollCall(lambda: [one], 30)
    for now in range(0, 600, 20):
        sock.found = Progress(now, True)
        assert rounds.call(now) == []


def test_who_has_paid_is_not_suspected_of_the_next_debt() -> None:
    sock, one = client()
    rounds = RollCall(lambda: [one], 30)
    sock.found = Progress(1000, True)
    assert rounds.call(0) == []
    sock.found = Progress(1000, False)  # what it had not acknowledged was an end that was not sent
    assert rounds.call(10) == []
    sock.found = Progress(1000, True)
    assert dropped(rounds, 35, 60, 65) == [65]


def test_where_nothing_can_be_found_a_client_is_suspected_while_it_is_blocked() -> None:
    sock, one = client()
    sock.found = None
    rounds = RollCall(lambda: [one], 30)
    assert dropped(rounds, 0, 100) == []
    suspect(one, 100)
    assert dropped(rounds, 110, 129, 130) == [130]


def test_who_has_left_is_not_looked_at() -> None:
    sock, one = client()
    sock.fd = -1
    assert RollCall(lambda: [one], 30).call(0) == []
    assert sock.looks == 0


@pytest.mark.parametrize("count", [0, 1, PART, PART + 1, 5 * PART - 1])
def test_all_are_looked_at_within_a_quarter_of_the_time_and_none_twice(count: int) -> None:
    clients = [client() for _ in range(count)]
    rounds = RollCall(lambda: [one for _, one in clients], 40)
    now = 0.0
    while now < 9.999:
        before = sum(sock.looks for sock, _ in clients)
        rounds.call(now)
        assert sum(sock.looks for sock, _ in clients) - before <= PART
        assert rounds.due > now
        now = rounds.due
    assert now == pytest.approx(10)
    assert [sock.looks for sock, _ in clients] == [1] * count


# What the system says

HAS_IT = pytest.mark.skipif(sockets._TCP_INFO is None, reason="this system does not say it")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection of TCP: ours, and a peer that has little room."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            yield ours, theirs


def found(sock: socket.socket) -> Progress:
    it = progress(sock)
    assert it is not None
    return it


@HAS_IT
def test_the_system_says_how_far_a_peer_has_come(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    before = found(ours)
    assert not before.owes
    ours.sendall(b"x" * 1000)
    until(lambda: found(ours) == (before.taken + 1000, False), "an acknowledgement")
    ours.sendall(b"x" * 20_000)  # more than it has room for, and less than we have
    until(lambda: found(ours).taken > before.taken + 1000, "what it has room for")
    assert found(ours).owes
    theirs.settimeout(10)
    read = 0
    while read < 21_000:
        read += len(theirs.recv(4096))
    until(lambda: found(ours) == (before.taken + 21_000, False), "the rest")


def test_nothing_is_known_of_other_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert progress(ours) is None
    assert progress(ours) is None  # it is closed
    monkeypatch.setattr(sockets, "_TCP_INFO", None)
    with socket.socket() as sock:
        assert progress(sock) is None
