"""Workers that come and go while thousands of streams are watched: python -m tests.deploys, or
make deploys.

`pushdemo run` starts a broadcaster and stock gunicorn with four workers, each of which is recycled
after a hundred requests. Streams of three formats are recorded while workers are killed and the
server is reloaded. At the end the checker of tests/judging.py judges what each client saw, no
stream may have ended, and the feed's function must have run once for each of its periods.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pushdemo.push.deliver import descriptors
from tests.history import Client, Verdict, witnessed
from tests.judging import Bounds, judge
from tests.recording import Log, Recorder
from tests.servers import CHECKOUT, HANG, until

INTERVAL = 1.0  # seconds
KILLS = 3
FORMATS = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")
CHUNK = 64 * 1024

# Each call of the function leaves a line: by whom it was made, and when.
APPLICATION = f"""
import itertools, os, time
from flask import Flask, request
from pushdemo import Push

push = Push()
numbers = itertools.count(1)

@push.feed(interval={INTERVAL})
def count():
    with open("calls", "a") as calls:
        print(os.getpid(), time.monotonic(), file=calls)
    return f"number {{next(numbers)}}"

app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)

@app.get("/live")
def live():
    return push.flask(request, "count")

@app.get("/")
def home():
    return f"worker {{os.getpid()}}"
"""


class Server:
    """`pushdemo run` in a directory of its own."""

    def __init__(self, directory: Path, *, backlog: int = 4096) -> None:
        (directory / "deployed.py").write_text(APPLICATION)
        self._log = directory / "log"
        self.calls = directory / "calls"
        command = [
            *(sys.executable, "-m", "pushdemo", "run", "deployed:push", "--"),
            *(sys.executable, "-m", "gunicorn", "-w", "4", "-b", "127.0.0.1:0"),
            *("--max-requests", "100", "--max-requests-jitter", "20", "--backlog", str(backlog)),
            *("--no-control-socket", "deployed:app"),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{directory}{os.pathsep}{CHECKOUT}",
            "PYTHONUNBUFFERED": "1",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until(lambda: self._found is not None, "gunicorn's address")
        except BaseException:
            self.close()
            raise
        assert self._found
        self.address = "127.0.0.1", int(self._found[1])

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def _found(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log
        return re.search(r"Listening at: http://127\.0\.0\.1:(\d+) \((\d+)\)", self.log)

    @property
    def master(self) -> int:
        """gunicorn's own process, whose children are the workers."""
        assert self._found
        return int(self._found[2])

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.master}/task/{self.master}/children")
        return [int(pid) for pid in children.read_text().split()]

    @property
    def started(self) -> int:
        """How many workers there have been."""
        return self.log.count("Booting worker")

    def ask(self) -> str:
        """An ordinary request."""
        with socket.create_connection(self.address, timeout=HANG) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            received = b"".join(iter(lambda: sock.recv(CHUNK), b""))
        assert b"200 OK" in received, received
        return received.rpartition(b"\r\n\r\n")[2].decode()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(HANG)
        finally:
            self.process.kill()


class Watching:
    """Streams, recorded by a thread."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._recorder = Recorder()
        self._logs: list[Log] = []
        self._selector = selectors.DefaultSelector()
        self._running = True
        self._thread = threading.Thread(target=self._run, name="watching")

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def connect(self, number: int) -> None:
        """A stream more. A worker that was killed with it in its hands, or in its part of the
        backlog, has not answered: a browser would ask again, and so does this."""
        log = self._recorder.log(f"client {number}", ("count",))
        sock = socket.create_connection(self._address, timeout=HANG)
        accept = FORMATS[number % len(FORMATS)]
        log.connect()
        sock.sendall(f"GET /live HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n".encode())
        sock.setblocking(False)
        self._logs.append(log)
        self._selector.register(sock, selectors.EVENT_READ, log)

    @property
    def clients(self) -> list[Client]:
        return self._recorder.clients

    @property
    def connected(self) -> int:
        return sum(log.connected for log in list(self._logs))

    def all_have(self, events: int) -> bool:
        """Whether each client has seen so many."""
        return all(len(client.seen) >= events for client in self.clients)

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._thread.join(HANG)

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.2):
                log: Log = key.data
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    data = sock.recv(CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                log.receive(data, time.monotonic())
                if not data:
                    self._selector.unregister(sock)


class Report(NamedTuple):
    """streams: how many were open at the end. started: workers. calls: of the feed's function, and
    by how many processes. periods: of the feed, meanwhile."""

    streams: int
    events: int
    started: int
    calls: int
    callers: int
    periods: float
    verdict: Verdict

    def __str__(self) -> str:
        return (
            f"{self.streams} streams open at the end, {self.events} events seen, {self.started}"
            f" workers started\nthe function was called {self.calls} times by {self.callers}"
            f" process(es) in {self.periods:.1f} periods\n{self.verdict}"
        )


def run(
    streams: int, *, seed: int, tell: Callable[[str], object] = lambda _: None, rounds: int = KILLS
) -> Report:
    """Watch, kill, reload, judge."""
    choose = random.Random(seed)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="deploys-")))
        server = Server(directory)
        stack.callback(server.close)
        watching = stack.enter_context(Watching(server.address))
        began = time.monotonic()
        for number in range(streams):
            watching.connect(number)
        until(lambda: watching.connected == streams, f"{streams} streams")
        tell(f"{streams} streams after {time.monotonic() - began:.1f} s")
        until(lambda: watching.all_have(2), "two events each")
        for _ in range(rounds):
            victim = choose.choice(server.workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            tell(f"killed worker {victim}")
            until(lambda victim=victim: victim not in server.workers, "its end")  # type: ignore[misc]
            for _ in range(50):
                server.ask()
        before = server.started
        os.kill(server.process.pid, signal.SIGHUP)
        tell("reloaded")
        until(lambda: server.started >= before + 4, "four new workers")
        for _ in range(150):  # some are recycled, too
            server.ask()
        seen = min(len(client.seen) for client in watching.clients)
        until(lambda: watching.all_have(seen + 3), "three more events each")
        watching.stop()
        now = time.monotonic()
        for client in watching.clients:
            client.until = now
        calls = [line.split() for line in server.calls.read_text().splitlines()]
        verdict = judge(witnessed(watching.clients), watching.clients, Bounds())
        return Report(
            streams=watching.connected,
            events=sum(len(client.seen) for client in watching.clients),
            started=server.started,
            calls=len(calls),
            callers=len({pid for pid, _ in calls}),
            periods=(float(calls[-1][1]) - float(calls[0][1])) / INTERVAL + 1,
            verdict=verdict,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    descriptors.raise_limit()
    report = run(options.streams, seed=options.seed, tell=print)
    print(report)
    sys.exit(bool(report.verdict.faults) or report.streams < options.streams or report.callers > 1)


if __name__ == "__main__":
    main()
