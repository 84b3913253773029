"""Whatever a feed's function does, its hundred watchers get the next good value, and go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.history import Client, Connected, witnessed
from tests.judging import judge
from tests.recording import Lines
from tests.servers import Paster, Reader, until

WATCHERS = 100

# What it does is in a file, for it may run in another process.
FEEDS = """
import itertools, os, pathlib, sys, time

numbers = itertools.count(int(time.time() * 1000))
here = pathlib.Path(__file__).parent

def do(what):
    if what == "raise":
        raise ValueError("on purpose")
    if what == "exit":
        sys.exit(1)
    if what == "die":
        os._exit(3)
    if what == "hang":
        time.sleep(3600)
    if what == "endless":
        nest = []
        nest.append(nest)
        return nest
    if what == "nan":
        return {"number": float("nan")}
    if what == "deep":
        nest = []
        for _ in range(100_000):
            nest = [nest]
        return nest
    if what == "generator":
        return (x for x in "abc")
    if what == "surrogates":
        return "\\ud800"
    if what == "bytes":
        return b"\\0" * 10
    if what == "keys":
        return {(1, 2): 3}
    if what == "type":
        return b"x", "image/png\\r\\nSet-Cookie: a=b"
    return {"number": next(numbers), "pid": os.getpid()}

def good():
    what = (here / "what").read_text()
    if what == "alternate":
        what = "raise" if next(numbers) % 2 else "good"
    return do(what)

def large():
    return "x" * 50_000_000
"""

INI = """\
push.heartbeat = 0.3
feed.steady = faultyfeeds:good
feed.steady.interval = 0.2
feed.steady.timeout = 0.6
feed.steady.executor = {executor}
feed.large = faultyfeeds:large
feed.large.interval = 0.5
"""


class Faulty:
    """A server with a feed that misbehaves, and a hundred who watch it."""

    def __init__(self, directory: Path, executor: str, stack: contextlib.ExitStack) -> None:
        (directory / "faultyfeeds.py").write_text(FEEDS)
        self._what = directory / "what"
        self.do("good")
        self.server = Paster(directory, INI.format(executor=executor))
        stack.callback(self.server.close)
        # On a busy machine, its process may not have started within the function's time.
        first = "/server/index/steady?format=json"
        until(lambda: self.server.get(first)[0] == 200, "a first value")
        target = "/server/index/steady?format=ndjson"
        self.watchers = [
            Watcher(f"watcher {n}", stack.enter_context(self.server.connect(target)))
            for n in range(WATCHERS)
        ]
        self.events = [watcher.next_good() for watcher in self.watchers]

    def do(self, what: str) -> None:
        new = self._what.with_suffix(".new")
        new.write_text(what)
        new.rename(self._what)

    def all_get_a_newer_value(self) -> None:
        newest = max(event["value"]["number"] for event in self.events)
        for index, watcher in enumerate(self.watchers):
            while self.events[index]["value"]["number"] <= newest:
                self.events[index] = watcher.next_good()

    def judge(self) -> None:
        """What its watchers have seen, one like the other. A value that cannot be a line of JSON
        was seen by none."""
        clients = [watcher.client for watcher in self.watchers]
        verdict = judge(witnessed(clients, nobody_saw=False), clients)
        assert verdict, verdict


class Watcher:
    """Reads a stream of lines, and records what it has seen."""

    def __init__(self, name: str, stream: Reader) -> None:
        assert stream.head()[0] == 200
        self.client = Client(name, ["steady"], [Connected(time.monotonic())])
        self._stream = stream
        self._lines = Lines("steady")

    def line(self) -> bytes:
        """What came next."""
        line = self._stream.line()
        assert line, "the stream has ended"
        self.client.entries += self._lines.read(line, time.monotonic())
        return line

    def anything(self) -> None:
        """Wait for a heartbeat, which is a space, or for a line."""
        first = self._stream.take(1)
        assert first, "the stream has ended"
        self.client.entries += self._lines.read(first, time.monotonic())
        if first != b" ":
            self.line()

    def next_good(self) -> dict:  # type: ignore[type-arg]
        """The next event whose value is a good one."""
        while True:
            event: dict = json.loads(self.line())  # type: ignore[type-arg]
            if isinstance(event.get("value"), dict) and "number" in event["value"]:
                return event


@pytest.fixture(scope="module", params=["thread", "process"])
def faulty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faulty]:
    with contextlib.ExitStack() as stack:
        faulty = Faulty(tmp_path_factory.mktemp("faulty"), request.param, stack)
        yield faulty
        faulty.judge()


FAULTS = ["raise", "exit", "endless", "nan", "deep", "generator", "surrogates", "bytes", "keys",
          "type", "alternate", "hang"]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_after_any_fault_all_get_the_next_good_value(faulty: Faulty, fault: str) -> None:
    faulty.do(fault)
    # Something comes on every beat, be it only the last value; and some of them pass.
    for watcher in faulty.watchers:
        for _ in range(3):
            watcher.anything()
    faulty.do("good")
    faulty.all_get_a_newer_value()
    faulty.judge()


def test_a_large_value_of_another_feed_holds_nobody_up(faulty: Faulty) -> None:
    with faulty.server.connect("/server/index/large?format=ndjson&limit=2") as reader:
        assert reader.head()[0] == 200
        assert len(reader.line()) > 50_000_000
        faulty.all_get_a_newer_value()


def test_a_process_that_dies_is_replaced(faulty: Faulty) -> None:
    if faulty.events[0]["value"]["pid"] == faulty.server.process.pid:
        return  # it runs in the server, whose death is another matter
    faulty.all_get_a_newer_value()
    # On a busy machine it may have been given up for too slow, and replaced, just now.
    with contextlib.suppress(ProcessLookupError):
        os.kill(faulty.events[0]["value"]["pid"], signal.SIGKILL)
    faulty.all_get_a_newer_value()
    faulty.do("die")
    for watcher in faulty.watchers:
        watcher.anything()
    faulty.do("good")
    faulty.all_get_a_newer_value()


def test_the_processes_of_feeds_end_with_the_server_even_if_it_is_killed(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        faulty = Faulty(tmp_path, "process", stack)
        pid = faulty.events[0]["value"]["pid"]
        faulty.do("hang")
        for _ in range(3):
            faulty.watchers[0].anything()
        faulty.server.process.kill()
        until(lambda: not alive(pid), "the feed's process to end")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
