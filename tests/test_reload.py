"""Servers that are reloaded: real processes, signals, and requests that are under way."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pushdemo.handover import guardian
from pushdemo.servers import control
from tests.servers import CHECKOUT, HANG, Reader, free_port, listens, until
from tests.serving import PASTER, environment

APPLICATION = """
import time
from pushdemo import Push

VERSION = 1
push = Push()
push.pushed_feed("x", history=10)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/slow"):
        time.sleep(1.5)
    if path.endswith("live"):
        response = push.respond(environ)
        start_response(response.status, response.headers)
        return response.body
    body = str(VERSION).encode()
    if path == "/publish":
        body = push.publish("x", "published").encode()
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) + body
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

app = push.middleware(app)

def factory(global_conf, **section):
    return app
"""
INI = """
[app:main]
paste.app_factory = application:factory
[server:main]
use = egg:pushdemo#http
port = {port}
"""
BARE = """
VERSION = 1

def factory(global_conf, **section):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "1")])
        return [str(VERSION).encode()]
    return app
"""


class Served:
    """`paster serve` in a directory, at a port that stays the same."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.write("application.py", APPLICATION)
        self.write("served.ini", INI.format(port=self.port))

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def change(self, before: str, after: str, name: str = "application.py") -> None:
        self.write(name, (self.directory / name).read_text().replace(before, after))

    def start(self, *arguments: str, listening: bool = True) -> subprocess.Popen[bytes]:
        with (self.directory / "output").open("ab") as output:
            process = subprocess.Popen(
                [PASTER, "serve", "served.ini", *arguments],
                cwd=self.directory,
                env=environment(self.directory),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        if listening:
            until(lambda: listens(self.port), f"a server\n{self.output}")
            self.says("serving on")
        return process

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    def says(self, what: str) -> None:
        until(lambda: what in self.output, what)

    def request(self, target: str, method: str = "GET", headers: str = "") -> Reader:
        lines = f"{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n"
        return Reader(("127.0.0.1", self.port), lines.encode())

    def get(self, target: str = "/") -> str:
        with self.request(target) as reader:
            status, _ = reader.head()
            assert status == 200
            return reader.rest().decode()

    def serves(self, version: str) -> None:
        until(lambda: self.get() == version, f"version {version}\n{self.output}")

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(HANG)
            process.kill()
            process.wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


LIVE = "/live?format=ndjson"


def test_new_code_serves_in_the_same_process_s_place(served: Served) -> None:
    process = served.start("--pid-file", "served.pid")
    pid_file = served.directory / "served.pid"
    with served.request(LIVE) as stream:
        served.get("/publish")
        assert stream.head()[0] == 200
        assert b'"published"' in stream.line()
        for version in ("2", "3"):
            served.change(f"VERSION = {int(version) - 1}", f"VERSION = {version}")
            process.send_signal(signal.SIGHUP)
            served.serves(version)
            served.get("/publish")
            assert b'"published"' in stream.line()
        assert process.poll() is None
        assert pid_file.read_text() == str(process.pid)
        process.terminate()
        assert stream.rest() == b""
    assert process.wait(HANG) == 0
    assert not pid_file.exists()
    assert not listens(served.port)
    assert "Traceback" not in served.output


def test_an_application_that_does_not_load_leaves_all_as_it_is(served: Served) -> None:
    process = served.start()
    with served.request(LIVE) as stream:
        served.change("VERSION = 1", "VERSION = 1 1")
        process.send_signal(signal.SIGHUP)
        served.says("nothing was reloaded, and this process goes on: the new process ended (exit")
        assert served.get() == "1"
        served.change("VERSION = 1 1", "VERSION = 2")
        process.send_signal(signal.SIGHUP)
        served.serves("2")
        served.change("VERSION = 2", "VERSION = 2 2")
        process.send_signal(signal.SIGHUP)  # of the guardian, this time
        served.says("nothing was reloaded: the new process ended (exit code 1)")
        served.get("/publish")
        stream.head()
        assert b'"published"' in stream.line()


def test_what_was_under_way_is_finished(served: Served) -> None:
    process = served.start()
    slow, stream = served.request("/slow"), served.request("/slow/live?format=ndjson")
    half = served.request("/", "POST", "Content-Length: 10\r\n")
    with slow, stream, half:
        half.sock.sendall(b"01234")
        time.sleep(0.3)
        served.change("VERSION = 1", "VERSION = 2")
        process.send_signal(signal.SIGHUP)
        served.serves("2")
        half.sock.sendall(b"56789")
        assert half.head()[0] == 200
        assert half.rest() == b"01234567891"  # by the old code
        assert slow.head()[0] == 200
        assert slow.rest() == b"1"
        # The stream that the old process has opened late is the new one's.
        served.get("/publish")
        assert stream.head()[0] == 200
        assert b'"published"' in stream.line()
        until(lambda: "guardian.py" in _command(process.pid), "the old process's end")
        served.get("/publish")
        assert b'"published"' in stream.line()


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_signal_that_comes_meanwhile_is_remembered(served: Served) -> None:
    process = served.start()
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    until(lambda: served.output.count("Starting server") >= 3, "two reloads")
    served.serves("1")


def test_another_process_takes_over_when_it_is_told_so(served: Served) -> None:
    first = served.start("--take-over")  # nobody is there
    with served.request(LIVE) as stream:
        served.change("VERSION = 1", "VERSION = 2")
        served.start("--take-over")
        assert first.wait(HANG) == 0
        assert served.get() == "2"
        served.get("/publish")
        stream.head()
        assert b'"published"' in stream.line()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_guardian_ends_as_the_server_ends(served: Served, number: signal.Signals) -> None:
    process = served.start()
    served.change("VERSION = 1", "VERSION = 2")
    process.send_signal(signal.SIGHUP)
    served.serves("2")
    until(lambda: "guardian.py" in _command(process.pid), "the guardian")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (child,) = children.read_text().split()
    os.kill(int(child), number)
    assert process.wait(HANG) == (-signal.SIGKILL if number == signal.SIGKILL else 0)


def test_an_application_without_feeds_hands_its_port_on(served: Served) -> None:
    served.write("application.py", BARE)
    process = served.start()
    assert served.get() == "1"
    served.change("VERSION = 1", "VERSION = 2")
    process.send_signal(signal.SIGHUP)
    served.serves("2")


def test_streams_of_an_application_that_has_no_feeds_any_more_stay(served: Served) -> None:
    process = served.start()
    with served.request(LIVE) as stream:
        served.get("/publish")
        stream.head()
        stream.line()
        served.write("application.py", BARE)
        process.send_signal(signal.SIGHUP)
        served.says("1 streams are open, and the application has no Push now")
        assert "-" in served.get("/publish")
        assert b'"published"' in stream.line()


def test_two_push_objects_cannot_be_taken_over(served: Served) -> None:
    one = 'push.pushed_feed("x", history=10)\n'
    served.change(one, one + 'other = Push()\nother.pushed_feed("y")\n')
    process = served.start()
    process.send_signal(signal.SIGHUP)
    served.says("nothing was reloaded, and this process goes on: the application has 2 Push")
    assert served.get() == "1"


def test_a_port_that_has_changed_is_said(served: Served) -> None:
    process = served.start()
    served.change(f"port = {served.port}", f"port = {free_port()}", "served.ini")
    process.send_signal(signal.SIGHUP)
    served.says("and the ini says unix:/tmp/pushdemo-")
    served.says("nothing was reloaded")
    assert served.get() == "1"


def test_any_port_cannot_be_taken_over(served: Served) -> None:
    served.change(f"port = {served.port}", "port = 0", "served.ini")
    process = served.start("--take-over", listening=False)
    assert process.wait(HANG) == 1
    served.says("--take-over: with port = 0 there is no other process to be found")
    process = served.start(listening=False)
    served.says("serving on")
    process.send_signal(signal.SIGHUP)
    served.says("with port = 0 it has no control socket")


def test_the_control_socket_is_where_it_is_told_to_be(served: Served) -> None:
    with (served.directory / "served.ini").open("a") as ini:
        ini.write(f"control = unix:{served.directory}/control\n")
    process = served.start()
    served.says("serving on")
    assert (served.directory / "control").stat().st_mode & 0o777 == 0o600
    served.change("VERSION = 1", "VERSION = 2")
    process.send_signal(signal.SIGHUP)
    served.serves("2")
    process.terminate()
    assert process.wait(HANG) == 0
    assert not (served.directory / "control").exists()


@pytest.mark.parametrize("given", ["/run/control", "unix:relative", "tcp:1"])
def test_what_is_no_control_socket_is_said(served: Served, given: str) -> None:
    with (served.directory / "served.ini").open("a") as ini:
        ini.write(f"control = {given}\n")
    process = served.start(listening=False)
    assert process.wait(HANG) == 1
    served.says(f"control = {given}: ")


def test_a_directory_of_others_is_not_trusted(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/open/a.sock"
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(SystemExit, match="no directory of this user alone"):
        control.make_directory(address)
    control.make_directory(f"unix:{tmp_path}/new/a.sock")
    control.make_directory(f"unix:{tmp_path}/new/a.sock")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_daemon_is_reloaded(served: Served) -> None:
    served.start("--daemon", "--pid-file", "d.pid", "--log-file", "output")
    pid = int((served.directory / "d.pid").read_text())
    try:
        served.change("VERSION = 1", "VERSION = 2")
        os.kill(pid, signal.SIGHUP)
        served.serves("2")
        assert int((served.directory / "d.pid").read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not (served.directory / "d.pid").exists(), "its end")
    until(lambda: not listens(served.port), "its end")


# A broadcaster

BROADCASTER = """
from pushdemo import Push
push = Push()
push.pushed_feed("x")
"""


@pytest.fixture
def broadcaster(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    (tmp_path / "feeds.py").write_text(BROADCASTER)
    started: list[subprocess.Popen[bytes]] = []

    def start(**options: object) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pushdemo",
                    "broadcaster",
                    "feeds:push",
                    "--socket",
                    f"unix:{tmp_path}/socket",
                ],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                **options,  # type: ignore[call-overload]
            )
        )
        until((tmp_path / "socket").exists, "the broadcaster")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_terminal_that_goes_ends_what_was_started_in_it(
    broadcaster: Callable[..., subprocess.Popen[bytes]],
) -> None:
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first one opened is the session's

    process = broadcaster(stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal)
    os.close(theirs)
    time.sleep(0.5)
    os.close(ours)
    assert process.wait(HANG) in (0, 120)  # Python's own, where its output has gone, too


def test_without_a_terminal_the_signal_reloads(
    broadcaster: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = broadcaster(start_new_session=True)
    process.send_signal(signal.SIGHUP)
    until(lambda: "guardian.py" in _command(process.pid), "the guardian")
    process.terminate()
    assert process.wait(HANG) == 0


def test_a_guardian_needs_little_memory(
    broadcaster: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = broadcaster(start_new_session=True)
    process.send_signal(signal.SIGHUP)
    until(lambda: "guardian.py" in _command(process.pid), "the guardian")
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(line.split()[1]) < 20_000  # kB
    imports = Path(guardian.__file__).read_text()
    assert "import pushdemo" not in imports
    assert "from pushdemo" not in imports


def test_free_ports_are_told_apart() -> None:
    assert control.default_address("127.0.0.1", 80) != control.default_address("127.0.0.1", 81)
    assert control.default_address("::1", 80).endswith("/__1-80.sock")
