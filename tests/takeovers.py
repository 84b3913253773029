"""Processes that take over from each other while thousands of streams are watched: python -m
tests.takeovers, or make takeovers.

Streams of three formats, of gzip and of WebSockets are recorded, some by clients that stop reading
for a while. A server is reloaded again and again; then its successor crashes, at each step of the
protocol. At the end the checker of tests/judging.py judges what each client saw, and no stream may
have ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
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
from tests.servers import free_port, until
from tests.silence import Listener
from tests.watching import Watching
from tests.wsgi_servers import GUNICORN, PYTHON, WsgiServer

INTERVAL = 0.25  # seconds
SLOW_INTERVAL = 0.4  # where the clients, who are one thread of Python, cannot read more
MANY = 5000  # streams from which on that is so
LARGE = 150_000  # bytes: two of these are more than a slow client leaves room for

# A successor reads in the file `crash` what is to end it: a function of pushdemo, before it is
# called or after it has returned.
APPLICATION = f"""
import importlib, itertools, os, time
from flask import Flask, request
from pushdemo import Push

def crash_at(module, name, when):
    owner = importlib.import_module(module)
    *owners, name = name.split(".")
    for attribute in owners:
        owner = getattr(owner, attribute)
    function = getattr(owner, name)

    def crash(*arguments, **options):
        if when == "before":
            os._exit(77)
        result = function(*arguments, **options)
        os._exit(77)

    setattr(owner, name, crash)

if os.path.exists("crash"):
    with open("crash") as crash:
        crash_at(*crash.read().split())

INTERVAL = float(os.environ["INTERVAL"])
push = Push()
numbers = itertools.count(1)

@push.feed(interval=INTERVAL, history=40)  # a machine that is slow skips none of them
def count():
    with open("calls", "a") as calls:
        print(os.getpid(), time.monotonic(), file=calls)
    return f"number {{next(numbers)}} of {{os.getpid()}}"

@push.feed(interval=1)
def large():
    return str(time.monotonic()).ljust({LARGE}, "x")

app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)

@app.route("/live", websocket=False)
@app.route("/live", websocket=True)
def live():
    return push.flask(request, request.args.get("feed", "count"))

@app.get("/")
def home():
    return f"process {{os.getpid()}}"

def factory(global_conf, **section):
    return app
"""
INI = """
[app:main]
paste.app_factory = taken:factory
[server:main]
use = egg:pushdemo#http
port = {port}
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys =
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
"""
PASTER = "paster serve"
RUN = "pushdemo run"

_SUCCESSION = "pushdemo.handover.succession"
# Where a successor ends: the module, the function, and whether before or after it.
STEPS = {
    "connected": (_SUCCESSION, "_call", "before"),
    "called": (_SUCCESSION, "_answer", "before"),
    "answered": (_SUCCESSION, "Inheritance.receive", "before"),
    "half of it": (_SUCCESSION, "Inheritance._receive_state", "before"),
    "all of it": (_SUCCESSION, "Inheritance.receive", "after"),
    "ready": (_SUCCESSION, "expect", "before"),
    "yours": (_SUCCESSION, "expect", "after"),
}


class Server(WsgiServer):
    """A server of a kind, in a directory of its own."""

    def __init__(self, directory: Path, kind: str, interval: float) -> None:
        self._directory = directory
        (directory / "taken.py").write_text(APPLICATION)
        (directory / "taken.ini").write_text(INI.format(port=free_port()))
        self._crash = directory / "crash"
        self.calls = directory / "calls"
        if kind == PASTER:
            paster = str(Path(sys.executable).with_name("paster"))
            command: tuple[str, ...] = (paster, "serve", "taken.ini")
        else:
            command = (*PYTHON, "pushdemo", "run", "taken:push", "--", *GUNICORN, "-w", "2")
            command += ("--backlog", "4096", "taken:app")
        super().__init__(directory, *command, environment={"INTERVAL": str(interval)})

    @property
    def taken(self) -> list[float]:
        """How long each take-over took, in seconds."""
        return [float(took) for took in re.findall(r"has taken over, in ([\d.]+) s", self.log)]

    @property
    def refused(self) -> int:
        """How many reloads came to nothing."""
        return self.log.count("nothing was reloaded")

    def reload(self) -> None:
        before = len(self.taken)
        os.kill(self.process.pid, signal.SIGHUP)
        until(lambda: len(self.taken) > before, f"a take-over\n{self.log[-2000:]}")

    def reload_in_vain(self, step: str) -> None:
        before = self.refused
        self._crash.write_text(" ".join(STEPS[step]))
        os.kill(self.process.pid, signal.SIGHUP)
        until(lambda: self.refused > before, f"a successor that dies\n{self.log[-2000:]}")
        self._crash.unlink()


class Report(NamedTuple):
    """streams: how many were open at the end. callers: the processes that ran the feed. silence:
    the longest time in which a client in a process of its own saw no event, in seconds. interval:
    in which there should be one. took: each take-over."""

    streams: int
    events: int
    callers: int
    calls: int
    periods: float
    silence: float
    interval: float
    took: list[float]
    verdict: Verdict

    def __str__(self) -> str:
        took = ", ".join(f"{one:.2f}" for one in self.took)
        return (
            f"{self.streams} streams open at the end, {self.events} events seen\n"
            f"the function was called {self.calls} times by {self.callers} processes in"
            f" {self.periods:.1f} periods of {self.interval} s\n"
            f"longest silence {self.silence:.2f} s; take-overs held the streams for {took} s\n"
            f"{self.verdict}"
        )


def run(
    kind: str,
    streams: int,
    *,
    slow: int,
    reloads: int,
    steps: tuple[str, ...] = tuple(STEPS),
    tell: Callable[[str], object] = lambda _: None,
) -> Report:
    """Watch, reload, judge. slow: how many of the clients stop reading meanwhile."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="takeovers-")))
        interval = INTERVAL if streams < MANY else SLOW_INTERVAL
        server = Server(directory, kind, interval)
        stack.enter_context(server)
        watching = stack.enter_context(Watching(server.address, every=True))
        for number in range(streams - slow):
            watching.connect(number)
        for number in range(slow):
            watching.connect_slow(number, "large")
        until(lambda: watching.connected == streams, f"{streams} streams")
        tell(f"{kind}: {streams} streams")
        until(lambda: watching.all_have(2), "two events each")
        listener = stack.enter_context(Listener(server.address))
        for number in range(reloads):
            watching.pause()
            time.sleep(3)  # until what is sent to the slow ones fills what there is room for
            server.reload()
            tell(f"reloaded in {server.taken[-1]:.2f} s")
            watching.resume()
            watching.connect(streams + number)  # and who comes then is served
            time.sleep(2)  # while the slow ones read
        for step in steps:
            server.reload_in_vain(step)
            tell(f"a successor has died: {step}")
        seen = watching.seen
        until(lambda: watching.all_have(seen + 3), "three more events each")
        longest = listener.longest()
        watching.stop()
        now = time.monotonic()
        for client in watching.clients:
            client.until = now
        calls = [line.split() for line in server.calls.read_text().splitlines()]
        return Report(
            streams=watching.connected,
            events=sum(len(client.seen) for client in watching.clients),
            callers=len({pid for pid, _ in calls}),
            calls=len(calls),
            periods=(float(calls[-1][1]) - float(calls[0][1])) / interval + 1,
            silence=longest,
            interval=interval,
            took=server.taken,
            verdict=judge(witnessed(watching.clients), watching.clients, Bounds()),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--slow", type=int, default=200, help="of them (%(default)s)")
    parser.add_argument("--reloads", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    descriptors.raise_limit()
    failed = False
    for kind in (PASTER, RUN):
        report = run(kind, options.streams, slow=options.slow, reloads=options.reloads, tell=print)
        print(report)
        failed = failed or bool(report.verdict.faults) or report.silence >= 1
        failed = failed or report.streams != options.streams + options.reloads
    sys.exit(failed)


if __name__ == "__main__":
    main()
