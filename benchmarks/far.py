"""Two nodes far from their engine: 30 ms in each direction, and 1 % of all packets lost.

`python -m benchmarks.far` puts the engine into one network namespace and the nodes with their
clients into another (see tests/distance.py), measures for a minute, kills the node that computes,
and does the same without any distance. It needs root, and takes three minutes. For each:

    seen after   from the end of a computation until a client has its value, seconds
    events       that a client saw, of those that were due
    resets       told to clients
    takeover     seconds without an event when the node that computes is killed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from pushdemo.client import watch
from tests.distance import Distance
from tests.engines import free_port, redis_server

DELAY, LOSS = 0.030, 0.01
SECONDS = 60.0
INTERVALS = {"small": 1.0, "large": 5.0}
SIZE = 1 << 20  # bytes of the large value
PORT = 7399

FEEDS = f"""
import os, time


def small():
    return {{"pid": os.getpid(), "at": time.time()}}


def large():
    return {{"pid": os.getpid(), "at": time.time(), "text": "x" * {SIZE}}}
"""
INI = """
[app:main]
use = egg:pushdemo
push.broker = redis://{host}:{port}
feed.small = far_feeds:small
feed.small.interval = 1
feed.small.history = 20
feed.large = far_feeds:large
feed.large.interval = 5
feed.large.history = 4

[server:main]
use = egg:pushdemo#http
port = {own}
"""


class Seen:
    """What one client saw of one feed."""

    def __init__(self, url: str, feed: str) -> None:
        self.feed = feed
        self.after: list[float] = []
        self.times: list[float] = []
        self.resets = 0
        self.pids: list[int] = []
        self._watch = watch(f"{url}/server/index/{feed}", accept="ndjson")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for event in self._watch:
            now = time.time()
            if event.type == "reset":
                self.resets += 1
            elif event.type == "message":
                self.after.append(now - event.value["at"])
                self.times.append(now)
                self.pids.append(event.value["pid"])

    def close(self) -> None:
        self._watch.close()


def measure(host: str, port: int, seconds: float) -> dict[str, Any]:
    """Start two nodes beside this process, and watch them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "far_feeds.py").write_text(FEEDS)
        nodes, urls = [], []
        environ = {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{os.getcwd()}"}
        for number in range(2):
            own = free_port()
            ini = directory / f"{number}.ini"
            ini.write_text(INI.format(host=host, port=port, own=own))
            paster = str(Path(sys.executable).with_name("paster"))
            nodes.append(
                subprocess.Popen(
                    [paster, "serve", str(ini)],
                    env=environ,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            urls.append(f"http://127.0.0.1:{own}")
        clients: list[Seen] = []
        try:
            time.sleep(3)
            clients = [Seen(url, feed) for feed in INTERVALS for url in urls for _ in range(2)]
            time.sleep(10)  # the first connection, and the first value
            for client in clients:
                client.after.clear()
                client.times.clear()
                client.resets = 0
            time.sleep(seconds)
            found: dict[str, Any] = {feed: _figures(feed, clients, seconds) for feed in INTERVALS}
            leader = next(one.pids[-1] for one in clients if one.feed == "small")
            gone = next(number for number, node in enumerate(nodes) if node.pid == leader)
            left = next(
                one for number, one in enumerate(clients)
                if one.feed == "small" and number % 4 // 2 != gone
            )  # fmt: skip
            nodes[gone].kill()
            killed = time.time()
            time.sleep(8)
            before = [at for at in left.times if at <= killed][-1]
            found["takeover"] = min(at for at in left.times if at > killed) - before
            return found
        finally:
            for client in clients:
                client.close()
            for node in nodes:
                node.kill()
                node.wait()


def _figures(feed: str, clients: Sequence[Seen], seconds: float) -> dict[str, Any]:
    own = [client for client in clients if client.feed == feed]
    after = [one for client in own for one in client.after]
    return {
        "median": median(after),
        "95 %": quantiles(after, n=20)[-1],
        "longest": max(after),
        "events": min(len(client.after) for client in own),
        "due": round(seconds / INTERVALS[feed]),
        "resets": sum(client.resets for client in own),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--delay", type=float, default=DELAY)
    parser.add_argument("--loss", type=float, default=LOSS)
    parser.add_argument("--inside", metavar="HOST", help="for the script itself")
    asked = parser.parse_args(arguments)
    if asked.inside:
        print(json.dumps(measure(asked.inside, PORT, asked.seconds)))
        return 0
    server = redis_server()
    if server is None:
        print("there is no redis-server", file=sys.stderr)
        return 1
    options = ["--port", str(PORT), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    for delay, loss in ((0.0, 0.0), (asked.delay, asked.loss)):
        with Distance(delay, loss) as line:
            engine = subprocess.Popen(
                line.command(line.far, server, *options), stdout=subprocess.DEVNULL
            )
            try:
                said = subprocess.run(
                    line.command(line.near, sys.executable, "-m", "benchmarks.far", "--inside",
                                 line.far_address, "--seconds", str(asked.seconds)),
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )  # fmt: skip
            finally:
                engine.kill()
                engine.wait()
            found = json.loads(said.stdout)
            print(f"{delay * 1000:g} ms each way, {loss:.1%} lost"
                  f" ({line.passed} packets passed, {line.lost} lost)")  # fmt: skip
        for feed in INTERVALS:
            one = found[feed]
            print(f"  {feed}: seen after {one['median']:.3f} s (95 %: {one['95 %']:.3f}, longest"
                  f" {one['longest']:.3f}); {one['events']} events of {one['due']} due,"
                  f" {one['resets']} resets")  # fmt: skip
        print(f"  takeover: {found['takeover']:.2f} s from one event to the next")
    return 0


if __name__ == "__main__":
    sys.exit(main())
