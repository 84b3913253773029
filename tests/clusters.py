"""A cluster under faults: some nodes, an engine, and clients that move between the nodes.

`python -m tests.clusters --clients 400 --faults 150 --seed 1` has faults of ten kinds happen in a
random order, to the node that computes and to the engine, and checks what every client saw: see
tests/chains.py. It prints a line for each fault, then what it found, and ends with 1 where that is
any fault of ours.

Each node is `paster serve` in a process of its own, and reaches the engine through a proxy of its
own. The feeds count in another engine, to which nothing happens: their values are what that
counted, and it knows who computed which value when.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pushdemo.client.relay import RelayedEvent, RelayParser
from pushdemo.push.broker.body import decode_sent
from pushdemo.push.broker.protocol import Entry, Notice
from pushdemo.push.broker.redis import RedisBroker
from pushdemo.push.compute.payload import Data
from tests.chains import Found, Link, Loss, check, published_twice
from tests.cutting import CuttingProxy
from tests.engines import RealEngine, free_port
from tests.history import Disconnected, Reset, Seen
from tests.recording import Log
from tests.servers import CHECKOUT
from tests.shifted_clock import ShiftedClock

FORMATS = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")
INTERVALS = {"a": 1.0, "b": 1.5}
ASKED = (("a",), ("b",), ("a", "b"))
HISTORY = 60
STAY = (2.0, 8.0)  # seconds that a client stays with a node
RECOVERY = 30.0  # seconds in which every fault must be over
TAKEOVER = 2  # beats that may be left out when the node that computes is gone

FEEDS = """
import json, os, random, time
import redis

tally = redis.Redis(port={port}, protocol=2, socket_timeout=10)


def count(name):
    time.sleep(random.uniform(0.02, 0.2))
    number = tally.incr("count:" + name)
    tally.rpush("calls", json.dumps([name, number, os.getpid(), time.time()]))
    return number
"""
INI = """
[app:main]
use = egg:pushdemo
push.broker = redis://127.0.0.1:{engine}
push.heartbeat = 5
push.boundary = test
{feeds}
[server:main]
use = egg:pushdemo#http
port = {port}

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(asctime)s %(name)s %(message)s
"""
FEED = """
feed.{name} = counted:count
feed.{name}.arg.name = {name}
feed.{name}.interval = {interval}
feed.{name}.history = {history}
"""


class Node:
    """One process that serves, and reaches the engine through a proxy of its own."""

    def __init__(self, directory: Path, number: int, engine: int) -> None:
        self.number = number
        self.port = free_port()
        self.proxy = CuttingProxy(engine)
        self._directory = directory
        self._ini = directory / f"node{number}.ini"
        feeds = "".join(
            FEED.format(name=name, interval=interval, history=HISTORY)
            for name, interval in INTERVALS.items()
        )
        self._ini.write_text(INI.format(engine=self.proxy.port, port=self.port, feeds=feeds))
        self.log = directory / f"node{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environ = {**os.environ, "PYTHONPATH": f"{self._directory}{os.pathsep}{CHECKOUT}"}
        paster = str(Path(sys.executable).with_name("paster"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [paster, "serve", str(self._ini)], env=environ, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> None:
        assert self.process is not None
        self.process.wait(RECOVERY)

    def close(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.proxy.close()


class _Mover:
    """A client that moves. log: what it sees."""

    def __init__(self, name: str, feeds: Sequence[str], accept: str) -> None:
        self.log = Log(name, feeds)
        self.accept = accept
        self.sock: socket.socket | None = None
        self.until = 0.0
        self.last_id: str | None = None
        self.read = 0  # of the log's entries


class _Observer:
    """Reads one node's events of one feed, with what each follows."""

    def __init__(self, feed: str, port: int) -> None:
        self.feed = feed
        self.port = port
        self.sock: socket.socket | None = None
        self.parser = RelayParser()
        self.headed = False
        self.until = 0.0
        self.buffer = b""


class Crowd:
    """The clients, in one thread. ports: of the nodes."""

    def __init__(self, clients: int, ports: Sequence[int], random: random.Random) -> None:
        self._ports = ports
        self._random = random
        self.movers = [
            _Mover(f"client {number}", ASKED[number % 3], FORMATS[number // 3 % 3])
            for number in range(clients)
        ]
        self._observers = [_Observer(feed, port) for feed in INTERVALS for port in ports]
        self.links: dict[tuple[str, str], Link] = {}
        self.order: list[Link] = []
        self.newest: dict[tuple[str, int], float] = {}  # by feed and port: when the last came
        self._selector = selectors.DefaultSelector()
        self._running = True
        self.moving = True
        self._thread = threading.Thread(target=self._run, name="crowd")
        self._thread.start()

    def note(self, link: Link) -> None:
        """Any thread."""
        if self.links.setdefault((link.feed, link.id), link) is link:
            self.order.append(link)

    def close(self) -> None:
        """More than once is no error."""
        if not self._running:
            return
        self._running = False
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.05):
                data = key.data
                assert isinstance(key.fileobj, socket.socket)
                if isinstance(data, _Mover):
                    self._read(data)
                else:
                    self._observe(data)
            now = time.monotonic()
            for mover in self.movers:
                if now >= mover.until and (self.moving or mover.sock is None):
                    self._move(mover, now)
            for observer in self._observers:
                if observer.sock is None and now >= observer.until:
                    self._ask(observer, now)

    def _move(self, mover: _Mover, now: float) -> None:
        if mover.sock is not None:
            self._selector.unregister(mover.sock)
            mover.sock.close()
            mover.sock = None
            mover.log.disconnect(now)
        mover.until = now + self._random.uniform(*STAY)
        headers = f"Accept: {mover.accept}\r\n"
        if mover.last_id is not None:
            headers += f"Last-Event-ID: {mover.last_id}\r\n"
        port = self._random.choice(self._ports)
        mover.sock = self._request(port, "+".join(mover.log.client.feeds), headers)
        if mover.sock is None:
            mover.until = now + 0.2
            return
        mover.log.connect(mover.last_id)
        self._selector.register(mover.sock, selectors.EVENT_READ, mover)

    def _read(self, mover: _Mover) -> None:
        assert mover.sock is not None
        goes_on = mover.log.read(mover.sock)
        entries = mover.log.client.entries
        for entry in entries[mover.read :]:
            if isinstance(entry, Seen):
                mover.last_id = entry.id
        mover.read = len(entries)
        if not goes_on or not mover.log.is_open:
            self._selector.unregister(mover.sock)
            mover.sock.close()
            mover.sock = None
            mover.until = time.monotonic() + self._random.uniform(0.05, 0.3)

    def _ask(self, observer: _Observer, now: float) -> None:
        headers = "Accept: application/vnd.pushdemo.relay\r\n"
        observer.sock = self._request(observer.port, observer.feed, headers)
        if observer.sock is None:
            observer.until = now + 0.1
            return
        observer.parser, observer.headed, observer.buffer = RelayParser(), False, b""
        self._selector.register(observer.sock, selectors.EVENT_READ, observer)

    def _observe(self, observer: _Observer) -> None:
        assert observer.sock is not None
        try:
            data = observer.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(observer.sock)
            observer.sock.close()
            observer.sock = None
            observer.until = time.monotonic() + 0.1
            return
        if not observer.headed:
            observer.buffer += data
            _, blank, data = observer.buffer.partition(b"\r\n\r\n")
            if not blank:
                return
            observer.headed = True
        for event in observer.parser.feed(data) if data else ():
            if isinstance(event, RelayedEvent):
                assert event.id is not None
                self.note(Link(observer.feed, event.id, event.after, int(event.value)))
                self.newest[observer.feed, observer.port] = time.monotonic()

    @staticmethod
    def _request(port: int, feeds: str, headers: str) -> socket.socket | None:
        sock = socket.socket()
        sock.settimeout(0.3)
        try:
            sock.connect(("127.0.0.1", port))
            target = f"GET /server/index/{feeds} HTTP/1.1\r\nHost: test\r\n{headers}\r\n"
            sock.sendall(target.encode())
        except OSError:
            sock.close()
            return None
        sock.setblocking(False)
        return sock


class _Tap:
    """Follows the engine itself."""

    def __init__(self, crowd: Crowd, broker: RedisBroker) -> None:
        self._crowd = crowd
        self._broker = broker
        for feed in INTERVALS:
            broker.follow(feed, self)

    def hear(self, said: Entry | Notice) -> None:
        if isinstance(said, Entry):
            payload = decode_sent(said.body, self._broker.clock).value.payload
            assert isinstance(payload, Data)
            self._crowd.note(Link(said.feed, said.id, said.after, int(payload.value)))

    def caught_up(self) -> None:
        pass

    def cut_off(self, why: str) -> None:
        pass


class Cluster:
    """All of it, and what can happen to it: a method for each kind of fault, which returns when the
    cause is over.

    clients: how many. seed: of all that is random, but for the timing.
    """

    def __init__(self, clients: int, seed: int, kind: str = "redis", nodes: int = 3) -> None:
        self.random = random.Random(seed)
        self._stack = contextlib.ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.tally = RealEngine()
        self._stack.callback(self.tally.close)
        (self.directory / "counted.py").write_text(FEEDS.format(port=self.tally.port))
        self._clock = ShiftedClock(self.directory)
        self.engine = RealEngine(kind, persistent=True, environ=self._clock.environ)
        self._stack.callback(self.engine.close)
        self.losses: list[Loss] = []
        self.nodes = []
        for number in range(nodes):
            node = Node(self.directory, number, self.engine.port)
            self.nodes.append(node)
            self._stack.callback(node.close)
        self._copy: tuple[Path, float] | None = None
        ports = [node.port for node in self.nodes]
        self.crowd = Crowd(clients, ports, random.Random(seed))
        self._stack.callback(self.crowd.close)
        broker = RedisBroker(self.engine.url)
        self._stack.callback(broker.close)
        _Tap(self.crowd, broker)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def wait_for_all(self, since: float) -> None:
        """Until each node has sent a new event of each feed. Raises TimeoutError."""
        deadline = time.monotonic() + RECOVERY
        while not all(
            self.crowd.newest.get((feed, node.port), 0) > since
            for feed in INTERVALS
            for node in self.nodes
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(self._missing(since))
            time.sleep(0.05)

    def _missing(self, since: float) -> str:
        missing = [
            f"feed {feed} at node {node.number}"
            for feed in INTERVALS
            for node in self.nodes
            if self.crowd.newest.get((feed, node.port), 0) <= since
        ]
        return f"after {RECOVERY:g} s there is nothing of {', '.join(missing)}"

    def calls(self) -> list[tuple[str, int, int, float]]:
        """Feed, number, process and time of each computation."""
        with self.tally.client() as client:
            return [tuple(json.loads(call)) for call in client.lrange("calls", 0, -1)]

    def leader(self, feed: str) -> Node:
        """The node that computed last."""
        with self.tally.client() as client:
            for call in reversed(client.lrange("calls", -50, -1)):
                name, _, pid, _ = json.loads(call)
                for node in self.nodes:
                    if name == feed and node.pid == pid:
                        return node
        return self.random.choice(self.nodes)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        begin = time.monotonic()
        self.losses.append(Loss(begin - 1, float("inf")))
        yield
        self.losses[-1] = Loss(begin - 1, time.monotonic() + 5)

    # The kinds of faults

    def kill(self) -> None:
        """kill -9 of the node that computes"""
        node = self.leader(self.random.choice(list(INTERVALS)))
        node.signal(signal.SIGKILL)
        node.wait()
        time.sleep(self.random.uniform(0, 2))
        node.start()

    def terminate(self) -> None:
        """SIGTERM of the node that computes"""
        node = self.leader(self.random.choice(list(INTERVALS)))
        node.signal(signal.SIGTERM)
        node.wait()
        time.sleep(self.random.uniform(0, 2))
        node.start()

    def stand_still(self) -> None:
        """SIGSTOP of the node that computes, past its lease, and SIGCONT"""
        node = self.leader(self.random.choice(list(INTERVALS)))
        node.signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(2.5, 5))
        node.signal(signal.SIGCONT)

    def restart_engine(self) -> None:
        """the engine killed, with persistence"""
        with self.engine.away():
            time.sleep(self.random.uniform(0, 2))

    def empty_engine(self) -> None:
        """the engine killed, without persistence"""
        with self._losing():
            self.engine.empty()

    def roll_back_engine(self) -> None:
        """the engine rolled back to an old snapshot"""
        copy = self.engine.keep_copy()
        time.sleep(self.random.uniform(1, 6))
        with self._losing():
            self.engine.roll_back(copy)

    def pause_engine(self) -> None:
        """the engine paused 10 s"""
        self.engine.stop()
        time.sleep(10)
        self.engine.go_on()

    def fill_engine(self) -> None:
        """the engine's memory full"""
        self.engine.command("CONFIG", "SET", "maxmemory", "1mb")
        time.sleep(self.random.uniform(2, 5))
        self.engine.command("CONFIG", "SET", "maxmemory", "0")

    def cut(self) -> None:
        """connections cut in the middle of a reply"""
        for _ in range(6):
            self.random.choice(self.nodes).proxy.cut_next_reply(self.random.randrange(40))
            time.sleep(self.random.uniform(0.1, 0.8))

    def set_clock_back(self) -> None:
        """the engine's clock set back an hour"""
        self._clock.shift(-3600)


KINDS: tuple[Callable[[Cluster], None], ...] = (
    Cluster.kill,
    Cluster.terminate,
    Cluster.stand_still,
    Cluster.restart_engine,
    Cluster.empty_engine,
    Cluster.roll_back_engine,
    Cluster.pause_engine,
    Cluster.fill_engine,
    Cluster.cut,
    Cluster.set_clock_back,
)
OF_NODES = (Cluster.kill, Cluster.terminate, Cluster.stand_still)


class Report:
    """What was seen.

    found: faults of ours.
    """

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.hung: list[str] = []
        self.skipped: list[tuple[str, int]] = []
        self.figures: dict[str, Any] = {}

    @property
    def right(self) -> bool:
        late = [beats for _, beats in self.skipped if beats > TAKEOVER]
        return not (self.found or self.hung or late)


def run(
    clients: int, faults: int, seed: int, *, kind: str = "redis", quiet: float = 6.0,
    kinds: Sequence[Callable[[Cluster], None]] = (), say: Callable[[str], None] = print,
) -> Report:  # fmt: skip
    """Have so many faults happen, of all kinds in turn, in a random order."""
    report = Report()
    with Cluster(clients, seed, kind) as cluster:
        say(f"seed {seed}: {clients} clients, {faults} faults, {kind}; files: {cluster.directory}")
        cluster.wait_for_all(0.0)
        began = time.time()
        time.sleep(quiet)
        report.figures["quiet"] = _most_calls(cluster.calls(), began, time.time())
        for number, fault in enumerate(_in_random_order(kinds or KINDS, faults, cluster.random)):
            _happen(cluster, fault, number, report, say)
        time.sleep(quiet)
        cluster.wait_for_all(time.monotonic())
        calls = cluster.calls()
        cluster.crowd.close()
        _judge(cluster, calls, report)
    return report


def _in_random_order(
    kinds: Sequence[Callable[[Cluster], None]], faults: int, random: random.Random
) -> Iterator[Callable[[Cluster], None]]:
    ordered: list[Callable[[Cluster], None]] = []
    while len(ordered) < faults:
        some = list(kinds)
        random.shuffle(some)
        ordered += some
    return itertools.islice(ordered, faults)


def _happen(
    cluster: Cluster,
    fault: Callable[[Cluster], None],
    number: int,
    report: Report,
    say: Callable[[str], None],
) -> None:
    began = time.time()
    fault(cluster)
    over = time.monotonic()
    try:
        cluster.wait_for_all(over)
    except TimeoutError as error:
        report.hung.append(f"{fault.__doc__}: {error}")
    recovered = time.monotonic() - over
    time.sleep(cluster.random.uniform(1.5, 3))
    left_out = 0
    if fault in OF_NODES:
        left_out = max(_beats_left_out(cluster.calls(), feed, began) for feed in INTERVALS)
        report.skipped.append((fault.__doc__ or "", left_out))
    say(f"{number + 1:4d}  {fault.__doc__}: all nodes go on {recovered:.1f} s after it"
        + (f", {left_out} beats left out" if left_out else ""))  # fmt: skip


def _beats_left_out(calls: Sequence[tuple[str, int, int, float]], feed: str, since: float) -> int:
    """The most beats in a row, from a little before that time on, for which nobody computed."""
    interval = INTERVALS[feed]
    beats = [int(at // interval) for name, _, _, at in calls if name == feed]
    recent = sorted(beat for beat in set(beats) if (beat + 3) * interval >= since)
    return max((two - one - 1 for one, two in itertools.pairwise(recent)), default=0)


def _most_calls(
    calls: Sequence[tuple[str, int, int, float]], begin: float, end: float
) -> dict[str, int]:
    """For each feed, the most computations for one beat, between those times."""
    of: dict[str, Counter[int]] = defaultdict(Counter)
    for feed, _, _, at in calls:
        if begin <= at < end:
            of[feed][int(at // INTERVALS[feed])] += 1
    return {feed: max(counts.values()) for feed, counts in of.items()}


def _judge(cluster: Cluster, calls: Sequence[tuple[str, int, int, float]], report: Report) -> None:
    logs = [mover.log.client for mover in cluster.crowd.movers]
    links = cluster.crowd.order
    beat_of = {(feed, number): int(at // INTERVALS[feed]) for feed, number, _, at in calls}
    report.found = [
        *check(links, logs, cluster.losses, HISTORY - 5),
        *published_twice(links, beat_of),
    ]
    entries = [entry for log in logs for entry in log.entries]
    broken = [
        entry.fault
        for entry in entries
        if isinstance(entry, Disconnected) and entry.fault and "ended the stream" not in entry.fault
    ]
    report.figures |= {
        "events seen": sum(isinstance(entry, Seen) for entry in entries),
        "resets": sum(isinstance(entry, Reset) for entry in entries),
        "losses": len(cluster.losses),
        "computed": len(calls),
        "published": len(links),
        "broken": Counter(broken).most_common(5),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=400)
    parser.add_argument("--faults", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--engine", choices=("redis", "valkey"), default="redis")
    parser.add_argument("--kind", action="append", default=[], choices=[k.__name__ for k in KINDS],
        help="have only faults of this kind happen; may be given several times")  # fmt: skip
    asked = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if kind.__name__ in asked.kind]
    report = run(asked.clients, asked.faults, asked.seed, kind=asked.engine, kinds=kinds,
                 say=lambda line: print(line, flush=True))  # fmt: skip
    for name, figure in report.figures.items():
        print(f"{name}: {figure}")
    beats = Counter(beats for _, beats in report.skipped)
    print(f"beats left out when the node that computes was gone: {dict(sorted(beats.items()))}")
    for what in report.hung:
        print(f"HUNG: {what}")
    print(f"faults found: {Counter(found.fault.value for found in report.found)}")
    for found in report.found[:30]:
        print(f"FOUND: {found.fault.value}: {found.client}: {found.what}")
        for entry in found.around:
            print(f"         {entry}")
    return 0 if report.right else 1


if __name__ == "__main__":
    sys.exit(main())
