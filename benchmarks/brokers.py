"""What a broker costs: python -m benchmarks.brokers, or make brokers

1. From the value to the last client, through Redis and without it: the same server, with 30, 1,000
   and 10,000 clients. Rounds, there and back; ratios are of two figures of the same round.
2. Two nodes with 10,000 clients each, on one engine, at the same time.
3. The engine alone: its processor time for an event and each process that reads it, for a lease,
   and for a publication; and how long a publication takes.

What comes of it is printed, and written to benchmarks/BROKERS.md; the figures that
benchmarks/scaling.py reckons with, to benchmarks/scaling.json. A quarter of an hour, on a machine
with two cores that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest.__main__ import BUILD, compile_programs
from benchmarks.contest.contestants import OURS, REDIS, Contestant, at_engine
from benchmarks.contest.measuring import (
    CPU,
    FIRST,
    LAST,
    LOST,
    P50,
    Case,
    Figures,
    measure,
)
from benchmarks.cores import Runs, measure_all, ratios, spread, values
from benchmarks.engine import HOST, EngineProcess, engine
from benchmarks.server import CHECKOUT
from pushdemo.push.broker.redis import RedisBroker

CASES = {
    30: Case(30, 250, 0.2, 15),
    1_000: Case(1_000, 250, 0.3, 12),
    10_000: Case(10_000, 250, 1.0, 8),
}
NODES = Case(10_000, 250, 2.0, 8)
READERS = (10, 50, 200)
SIZES = (250, 100_000)
EVENTS = 400
WRITTEN = CHECKOUT / "benchmarks" / "BROKERS.md"
FIGURES = CHECKOUT / "benchmarks" / "scaling.json"


def measure_servers(rounds: int) -> Runs:
    todo = [(one, case) for case in CASES.values() for one in (OURS, REDIS)]
    return measure_all(rounds, todo, _cores())


def _cores() -> tuple[int | None, int | None]:
    """The clients' and the engine's, and the server's."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def measure_nodes() -> list[Figures]:
    """Two nodes at the same time, on one engine; each shares a core with the other's clients."""
    cores = _cores()
    found: list[Figures] = []
    failed: list[BaseException] = []
    with engine() as (_, port):
        node = Contestant("node", at_engine(port), path=OURS.path)

        def run(own: tuple[int | None, int | None]) -> None:
            try:
                found.append(measure(node, NODES, BUILD, own))
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(own,)) for own in (cores, cores[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return found


class Readers:
    """Processes that read one feed's log, as the engine sees them: connections that wait for the
    next entry, and then ask for the one after it."""

    def __init__(self, port: int, count: int) -> None:
        self._socks = []
        for _ in range(count):
            sock = socket.create_connection((HOST, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks.append(sock)
        self._last = b"0-0"

    def ask(self) -> None:
        words = [b"XREAD", b"COUNT", b"64", b"BLOCK", b"5000", b"STREAMS",
                 b"{pushdemo}:log:x", b"{pushdemo}:notice:x", self._last, b"0-0"]  # fmt: skip
        command = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in words
        )
        for sock in self._socks:
            sock.sendall(command)

    def read(self, event_id: str, size: int) -> None:
        self._last = event_id.encode()
        for sock in self._socks:
            received = 0
            tail = b""
            while received < size or not tail.endswith(b"\r\n"):
                data = sock.recv(1 << 20)
                received += len(data)
                tail = data[-2:]

    def close(self) -> None:
        for sock in self._socks:
            sock.close()


def measure_engine() -> dict[str, Any]:
    figures: dict[str, Any] = {"an event, each reader, µs": {}}
    with engine() as (process, port):
        broker = RedisBroker(f"redis://{HOST}:{port}")
        for size in SIZES:
            published, took = _publications(process, broker, size)
            figures[f"a publication of {size:,} bytes, µs"] = round(published, 1)
            figures[f"a publication of {size:,} bytes takes, ms"] = round(took, 3)
            for count in READERS:
                one = _each_reader(process, port, broker, size, count, published)
                figures["an event, each reader, µs"][f"{size:,} bytes, {count} readers"] = one
                print(f"engine: {size:,} bytes, {count} readers: {one:.1f} µs each", flush=True)
        before = process.cpu()
        held = broker.lease("x", None, "token", 60)
        for _ in range(2000):
            held = broker.lease("x", held, "unused", 60)
        figures["a lease, µs"] = round((process.cpu() - before) / 2000 * 1e6, 1)
        broker.close()
    return figures


def _publications(process: EngineProcess, broker: RedisBroker, size: int) -> tuple[float, float]:
    """The engine's µs for one, with nobody that reads; and the ms that one takes."""
    body, took = b"x" * size, []
    before = process.cpu()
    for number in range(EVENTS):
        began = time.perf_counter()
        broker.publish("x", body, once=f"{size} {number}", keep=40)
        took.append(time.perf_counter() - began)
    return (process.cpu() - before) / EVENTS * 1e6, statistics.median(took) * 1000


def _each_reader(
    process: EngineProcess, port: int, broker: RedisBroker, size: int, count: int, alone: float
) -> float:
    """The engine's µs for each reader of one event."""
    readers, body = Readers(port, count), b"x" * size
    events = max(20, min(EVENTS, 4000 // count))
    last = broker.publish("x", b"first", once=f"begin {size} {count}", keep=40)
    readers._last = last.encode()
    before = process.cpu()
    for number in range(events):
        readers.ask()
        last = broker.publish("x", body, once=f"{size} {count} {number}", keep=40)
        readers.read(last, size)
    cpu = process.cpu() - before
    readers.close()
    return round((cpu / events * 1e6 - alone) / count, 1)


def report(runs: Runs, nodes: Sequence[Figures], figures: dict[str, Any], rounds: int) -> str:
    lost = sum(one.get(LOST, 0) for some in (*runs.values(), nodes) for one in some)
    lines = [
        "# A broker",
        "",
        f"`make brokers`, {rounds} rounds: median (least - greatest). Ratios are of two figures of"
        " the same round. Events have 250 bytes. The server has a core to itself; the engine shares"
        f" the other one with the clients. {lost:,.0f} deliveries were left out.",
        "",
        "| clients | last client, ms, without | through Redis | ratio | CPU, µs a delivery, without"
        " | through Redis | ratio | p50, ms, without | through Redis |",
        "|-:|" + "-:|" * 8,
    ]
    for clients in CASES:
        cells = []
        for name in (LAST, CPU):
            cells += [spread(values(runs, one, clients, name), 2) for one in (OURS, REDIS)]
            cells.append(spread(ratios(runs, REDIS, OURS, clients, name), 2))
        cells += [spread(values(runs, one, clients, P50), 2) for one in (OURS, REDIS)]
        lines.append(f"| {clients:,} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Two nodes with {NODES.clients:,} clients each, on one engine, at the same time, one core"
        " for each node and the other's clients:",
        "",
        "| node | last client, ms | CPU, µs a delivery | left out |",
        "|-:|-:|-:|-:|",
    ]
    for number, one in enumerate(nodes):
        lines.append(f"| {number + 1} | {one[LAST]:.1f} | {one[CPU]:.2f} | {one[LOST]:,.0f} |")
    lines += ["", "The engine's processor time:", "", "| | |", "|-|-:|"]
    for what, figure in figures.items():
        if isinstance(figure, dict):
            lines += [f"| {what}: {case} | {one} |" for case, one in figure.items()]
        else:
            lines.append(f"| {what} | {figure} |")
    return "\n".join(lines) + "\n"


def for_scaling(runs: Runs, figures: dict[str, Any]) -> dict[str, float]:
    """The figures that benchmarks/scaling.py has as its input."""
    readers = figures["an event, each reader, µs"]

    def worst(size: str) -> float:
        return float(max(readers[f"{size} bytes, {count} readers"] for count in READERS))

    delivery = statistics.median(values(runs, REDIS, 10_000, CPU))
    first = statistics.median(values(runs, REDIS, 10_000, FIRST))
    return {
        "delivery_us": round(delivery, 2),
        "connect_us": round(first / 10_000 * 1e6, 1),
        "engine_event_us": worst("250"),
        "engine_large_event_us": worst("100,000"),
        "engine_publish_us": figures["a publication of 250 bytes, µs"],
        "engine_lease_us": figures["a lease, µs"],
        "publish_ms": figures["a publication of 250 bytes takes, ms"],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    if missing := REDIS.missing():
        print(f"not installed here: {', '.join(missing)}", file=sys.stderr)
        return 1
    raise_descriptor_limit()
    compile_programs(BUILD)
    figures = measure_engine()
    runs = measure_servers(asked.rounds)
    nodes = measure_nodes()
    text = report(runs, nodes, figures, asked.rounds)
    WRITTEN.write_text(text)
    FIGURES.write_text(json.dumps(for_scaling(runs, figures), indent=2) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
