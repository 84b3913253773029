"""`pushdemo broadcaster` and `pushdemo run`, as a shell and a process manager see them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pushdemo.handover.client import BroadcasterAway, Handover
from pushdemo.handover.messages import Refused
from tests.servers import CHECKOUT, HANG, until

MODULE = """
from pushdemo import Push

push = Push()
push.pushed_feed("orders")
number = 7
"""

INI = """
[app:main]
use = egg:pushdemo
feed.orders = push
push.token = secret
"""

# A server, as far as a supervisor is concerned: it says which signals it gets, and where the
# broadcaster is, and ends by SIGTERM and SIGINT with a code of its own.
SERVER = """
import os, signal, sys, time

def note(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number in (signal.SIGTERM, signal.SIGINT):
        sys.exit(3)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
               signal.SIGWINCH, signal.SIGTTIN):
    signal.signal(number, note)
print("server", os.getpid(), os.environ["PUSHDEMO_BROADCASTER"], flush=True)
while True:
    time.sleep(0.05)
"""


class Running:
    """The command, in a directory that has an application and a server."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        (directory / "shop.py").write_text(MODULE)
        (directory / "shop.ini").write_text(INI)
        (directory / "server.py").write_text(SERVER)
        self._output = directory / "output"
        self.directory = directory
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pushdemo", *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1",
                     "TMPDIR": str(directory), **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._output.read_text()

    def found(self, pattern: str) -> re.Match[str]:
        """Wait until it says this."""
        until(lambda: re.search(pattern, self.output), f"{pattern} in\n{self.output}")
        match = re.search(pattern, self.output)
        assert match
        return match

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """Its exit code, when it has ended."""
        return self.process.wait(HANG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(HANG)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start(*arguments: str, **environment: str) -> Running:
        started.append(Running(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for running in started:
        running.close()


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# pushdemo broadcaster


@pytest.mark.parametrize("what", ["shop:push", "shop.ini"])
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_broadcaster_serves_until_it_is_told_to_end(
    start: Start, tmp_path: Path, what: str, how: str
) -> None:
    address = f"unix:{tmp_path}/sock"
    if how == "option":
        running = start("broadcaster", what, "--socket", address, "--mode", "600")
    else:
        running = start("broadcaster", what, PUSHDEMO_BROADCASTER=address)
    running.found("the broadcaster listens at unix:")
    handover = Handover(address)
    assert handover.publish("orders", "text/plain", b"1")
    assert set(handover.health()["threads"]) == {"publisher", "broadcaster"}
    assert handover.health()["types"] == {"orders": "text/plain"}
    with pytest.raises(Refused, match="there is no feed 'others'; there is: orders"):
        handover.publish("others", "text/plain", b"1")
    with pytest.raises(Refused, match="JSON"):
        handover.publish("orders", "application/json", b"{")
    assert (tmp_path / "sock").stat().st_mode & 0o777 == (0o600 if how == "option" else 0o660)
    running.signal(signal.SIGTERM)
    assert running.code() == 0
    assert not (tmp_path / "sock").exists()
    assert "Traceback" not in running.output


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["shop:push"], 2, "there is no address: give --socket unix:"),
        (["shop:push", "--socket", "/run/x"], 1, "'/run/x' is no address of a broadcaster"),
        (["shop:push", "--socket", "unix:/nowhere/x"], 1, "No such file or directory"),
        (["shop:push", "--mode", "999"], 2, "'999' is no mode: 660 is one"),
        (["shop:pull"], 1, "the module shop has no attribute pull"),
        (["shop:number"], 1, "shop:number is no Push: it is of type int"),
        (["store:push"], 1, "there is no module store in "),
        (["shop"], 1, "'shop' is neither module:attribute nor an ini file"),
        (["nothing.ini"], 1, "there is no file nothing.ini"),
        ([], 2, "the following arguments are required: PUSH"),
    ],
)
def test_a_mistake_is_one_line(
    start: Start, arguments: list[str], code: int, complaint: str
) -> None:
    running = start("broadcaster", *arguments)
    assert running.code() == code
    assert complaint in running.output.splitlines()[-1]
    assert "Traceback" not in running.output


def test_a_second_one_at_the_same_address_does_not_start(start: Start, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/sock"
    first = start("broadcaster", "shop:push", "--socket", address)
    first.found("listens")
    second = start("broadcaster", "shop:push", "--socket", address)
    assert second.code() == 1
    assert f"another broadcaster serves {address}" in second.output
    assert Handover(address).health()


# pushdemo run


def server(running: Running) -> tuple[int, str]:
    """The server's process id, and the broadcaster's address."""
    found = running.found(r"server (\d+) (unix:\S+)")
    return int(found[1]), found[2]


def test_both_are_there_and_both_end(start: Start) -> None:
    running = start("run", "shop:push", "--", sys.executable, "server.py")
    pid, address = server(running)
    assert Handover(address).publish("orders", "text/plain", b"1")
    directory = Path(address.removeprefix("unix:")).parent
    assert directory.stat().st_mode & 0o777 == 0o700
    running.signal(signal.SIGTERM)
    assert running.code() == 3  # the server's
    assert not is_there(pid)
    assert not directory.exists()
    with pytest.raises(BroadcasterAway):
        Handover(address).health()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTTIN"])
def test_signals_are_the_server_s(start: Start, name: str) -> None:
    running = start("run", "shop:push", "--", sys.executable, "server.py")
    server(running)
    running.signal(getattr(signal, name))
    running.found(f"\n{name}\n")
    running.signal(signal.SIGINT)
    assert running.code() == 3
    assert "SIGINT" in running.output


def test_when_the_broadcaster_ends_so_does_the_server(start: Start) -> None:
    running = start("run", "shop:push", "--", sys.executable, "server.py")
    pid, _ = server(running)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text()
    (broadcaster,) = (int(child) for child in children.split() if int(child) != pid)
    os.kill(broadcaster, signal.SIGKILL)
    assert running.code() == 1
    assert "the broadcaster has ended (137), and so the server is stopped" in running.output
    assert not is_there(pid)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ([sys.executable, "-c", "raise SystemExit(5)"], 5),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 137),
        (["no-such-server"], 127),
        (["/"], 126),
    ],
)
def test_the_exit_code_is_the_server_s(start: Start, command: list[str], code: int) -> None:
    assert start("run", "shop:push", "--", *command).code() == code


def test_a_broadcaster_that_does_not_start_is_no_server_either(start: Start) -> None:
    running = start("run", "shop:pull", "--", sys.executable, "server.py")
    assert running.code() == 1
    assert "the module shop has no attribute pull" in running.output
    assert "server" not in running.output
    assert start("run", "shop:push").code() == 2


def test_a_server_that_does_not_end_is_killed_after_its_grace(start: Start) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('server 1 unix:x', flush=True); time.sleep(600)"  # noqa: E501
    running = start("run", "--grace", "0.2", "shop:push", "--", sys.executable, "-c", stubborn)
    server(running)
    time.sleep(0.1)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text()
    broadcaster = int(children.split()[0])
    os.kill(broadcaster, signal.SIGKILL)
    assert running.code() == 1
    assert not any(is_there(int(child)) for child in children.split())


def test_what_it_started_does_not_outlive_it(start: Start) -> None:
    running = start("run", "shop:push", "--", sys.executable, "server.py")
    pid, address = server(running)
    running.signal(signal.SIGKILL)
    running.code()
    until(lambda: not is_there(pid), "the server's end")

    def is_away() -> bool:
        try:
            Handover(address).health()
        except BroadcasterAway:
            return True
        return False

    until(is_away, "the broadcaster's end")
