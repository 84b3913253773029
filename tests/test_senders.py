"""Several threads send one event: what they do is what one does."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.deliver import recipients, sockets
from pushdemo.push.deliver.recipients import MANY, Recipients
from pushdemo.push.options import ConfigError, Options
from pushdemo.push.settings import MOST_SENDERS, Settings, cores
from tests.servers import CHECKOUT, HANG

ROUNDS = "40"
COMPILER = os.environ.get("CC", "cc")


class Crowd:
    """Connections, whose far ends are: there, gone (g), or full (f)."""

    def __init__(self, kinds: str) -> None:
        pairs = [socket.socketpair() for _ in kinds]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.fds = array("i", [ours.fileno() for ours in self.ours])
        for kind, ours, theirs in zip(kinds, self.ours, self.theirs, strict=True):
            ours.setblocking(False)
            theirs.setblocking(False)
            if kind == "g":
                theirs.close()
            elif kind == "f":
                with contextlib.suppress(BlockingIOError):
                    while True:
                        ours.send(bytes(65536))
        self._kinds = kinds

    def send(self, data: bytes, senders: int, *, backwards: bool = False) -> list[tuple[int, int]]:
        found = sockets.send_to_all(
            self.ours, self.fds, 0, len(self.ours), data, backwards=backwards, senders=senders
        )
        return sorted(found)

    def received(self, size: int) -> list[bytes]:
        """What has come to those that are there."""
        kinds = zip(self._kinds, self.theirs, strict=True)
        return [theirs.recv(size) for kind, theirs in kinds if kind == "."]

    def close(self) -> None:
        for sock in (*self.ours, *self.theirs):
            sock.close()


@given(
    st.text(alphabet="...fg", min_size=1, max_size=12).map(lambda kinds: kinds * 30),
    st.integers(1, 20),
    st.booleans(),
)
def test_who_got_what_does_not_depend_on_how_many_send(
    kinds: str, senders: int, backwards: bool
) -> None:
    crowd = Crowd(kinds)
    try:
        short = [(index, -1 if kind == "g" else 0)
                 for index, kind in enumerate(kinds) if kind != "."]  # fmt: skip
        assert crowd.send(b"first", 1) == short
        assert crowd.send(b"second", senders, backwards=backwards) == short
        assert set(crowd.received(100)) <= {b"firstsecond"}
    finally:
        crowd.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd("." * 400)
    yield crowd
    crowd.close()


def test_a_process_that_was_forked_sends_with_threads_of_its_own(crowd: Crowd) -> None:
    assert crowd.send(b"before ", 4) == []
    child = os.fork()
    if child == 0:
        found = crowd.send(b"the child ", 4)
        os._exit(len(found))
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert crowd.send(b"after", 4) == []
    assert set(crowd.received(100)) == {b"before the child after"}


def test_the_threads_are_kept(crowd: Crowd) -> None:
    if not sockets.IN_C:
        pytest.skip("there are none in Python")
    for _ in range(3):
        crowd.send(b"x", 4)
    before = len(os.listdir("/proc/self/task"))
    for _ in range(50):
        crowd.send(b"x", 4)
    assert len(os.listdir("/proc/self/task")) == before


@pytest.mark.parametrize(("count", "expected"), [(MANY - 1, 1), (MANY, 3)])
def test_few_clients_are_sent_to_by_one(
    count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Member:
        seat = -1

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

    used: list[int] = []

    def send_to_all(*_: object, senders: int, **__: object) -> list[tuple[int, int]]:
        used.append(senders)
        return []

    monkeypatch.setattr(recipients, "send_to_all", send_to_all)
    roster: Recipients[Member] = Recipients(senders=3)
    with socket.socket() as sock:
        for _ in range(count):
            roster.add(Member(sock))
    roster.send(b"x", slice(None))
    assert used == [expected]


def test_there_are_as_many_as_cores() -> None:
    settings = Settings.read(Options({}))
    assert settings.senders == cores()
    assert 1 <= cores() <= MOST_SENDERS
    assert Settings.read(Options({"senders": "3"})).senders == 3
    with pytest.raises(ConfigError, match=r"senders = 9: .*from 1 to 8"):
        Settings.read(Options({"senders": "9"}))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what the stress is made of, for a fault to be planted in it."""
    if shutil.which(COMPILER) is None:
        if os.environ.get("CI"):
            pytest.fail("there is no compiler")
        pytest.skip("there is no compiler")
    copy = tmp_path / "a checkout"
    for name in ("pushdemo/push/deliver", "tests/stress", "tools"):
        shutil.copytree(CHECKOUT / name, copy / name)
    return copy


def stress(sources: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["tools/stress", "build", ROUNDS],
        cwd=sources, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip


def test_they_share_nothing_that_they_should_not(sources: Path) -> None:
    done = stress(sources)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_they_should_not_share_is_seen(sources: Path) -> None:
    source = sources / "pushdemo/push/deliver/senders.c"
    right = "    found += place * all;\n"
    code = source.read_text()
    assert code.count(right) == 1
    source.write_text(code.replace(right, ""))
    done = stress(sources)
    assert done.returncode != 0
