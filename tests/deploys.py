"""Workers that come and go while thousands of streams are watched: python -m tests.deploys, or
make deploys.

`pushdemo run` starts a broadcaster and stock gunicorn with four workers, each of which is recycled
after a hundred requests. Streams of three formats are recorded while workers are killed and the
server is reloaded, the broadcaster with it. At the end the checker of tests/judging.py judges what
each client saw, no stream may have ended, and the feed's function must have run once for each of
its periods.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pushdemo.push.deliver import descriptors
from tests.history import Verdict, witnessed
from tests.judging import Bounds, judge
from tests.servers import until
from tests.watching import Watching
from tests.wsgi_servers import GUNICORN, PYTHON, WsgiServer

INTERVAL = 1.0  # seconds
KILLS = 3

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


class Server(WsgiServer):
    """`pushdemo run` with gunicorn, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        (directory / "deployed.py").write_text(APPLICATION)
        self.calls = directory / "calls"
        super().__init__(
            directory,
            *(*PYTHON, "pushdemo", "run", "deployed:push", "--", *GUNICORN, "-w", "4"),
            *("--max-requests", "100", "--max-requests-jitter", "20", "--backlog", "4096"),
            "deployed:app",
        )

    @property
    def master(self) -> int:
        """gunicorn's own process, whose children are the workers."""
        found = re.search(r"Listening at: \S+ \((\d+)\)", self.log)
        assert found
        return int(found[1])

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.master}/task/{self.master}/children")
        return [int(pid) for pid in children.read_text().split()]

    @property
    def started(self) -> int:
        """How many workers there have been."""
        return self.log.count("Booting worker")


def ask_until_recycled(server: Server, workers: int) -> None:
    """Ask for pages until so many workers more have been started, for having answered enough."""
    enough = server.started + workers
    for _ in range(10 * 100 * workers):
        assert server.ask()[0] == 200
        if server.started >= enough:
            return
    raise AssertionError(f"no {workers} workers were recycled:\n{server.log}")


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
        stack.enter_context(server)
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
                assert server.ask()[0] == 200
        before = server.started
        os.kill(server.process.pid, signal.SIGHUP)
        tell("reloaded")
        until(lambda: server.started >= before + 4, "four new workers")
        ask_until_recycled(server, 2)
        seen = watching.seen
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
    sys.exit(bool(report.verdict.faults) or report.streams < options.streams or report.callers > 2)


if __name__ == "__main__":
    main()
