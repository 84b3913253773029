"""What a number of pages needs: python -m benchmarks.scaling --clients 1000000 --machines 100

The arithmetic of docs/scaling.md, with the figures that benchmarks/brokers.py has measured and kept
in benchmarks/scaling.json; another file with others is read by --figures. It prints what a process,
the engine and the network have to do, what of it is too much, and what a deploy costs: for that,
the clients of one machine are simulated, each of which comes back to another one when it was told
to.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FIGURES = Path(__file__).with_name("scaling.json")
SMALL, LARGE = 250, 100_000  # bytes of the values that were measured
HALF = 0.5  # of a core: more is not planned for
TERM = 1.5  # a lease, in intervals; at least SHORTEST and at most LONGEST seconds
SHORTEST, LONGEST = 1.0, 10.0
WORKING = 3  # times in a term a process asks for it
FEWEST, MOST_ENTRIES, MOST_BYTES = 8, 256, 4 << 20  # of a log


@dataclass(frozen=True)
class Figures:
    """As measured: microseconds of a core, but for publish_ms."""

    delivery_us: float
    connect_us: float
    engine_event_us: float
    engine_large_event_us: float
    engine_publish_us: float
    engine_lease_us: float
    publish_ms: float

    def engine_event(self, size: int) -> float:
        """For an event of that many bytes and one process that reads it."""
        a_byte = (self.engine_large_event_us - self.engine_event_us) / (LARGE - SMALL)
        return self.engine_event_us + max(0, size - SMALL) * a_byte


@dataclass(frozen=True)
class Plan:
    """clients: open pages.
    machines: each with one process that holds its streams.
    feeds: how many there are. interval: of each, in seconds. size: of a value, in bytes.
    asked: how many of the feeds a page watches.
    network: bits a second of the engine's machine.
    """

    clients: int
    machines: int
    feeds: int
    interval: float
    size: int
    asked: int
    network: float

    @property
    def events(self) -> float:
        """Of all feeds, a second."""
        return self.feeds / self.interval


def loads(plan: Plan, figures: Figures) -> dict[str, float]:
    """Shares of a core, seconds, bytes: by what they are of."""
    each = plan.clients / plan.machines
    asked = plan.asked / plan.interval  # events a second to one page
    term = min(LONGEST, max(SHORTEST, TERM * plan.interval))
    leases = plan.machines * plan.feeds * WORKING / term
    entries = max(FEWEST, min(MOST_ENTRIES, MOST_BYTES // max(plan.size, 1)))
    return {
        "process: share of a core": each * asked * figures.delivery_us / 1e6,
        "process: an event is with its last client after, s": each * figures.delivery_us / 1e6,
        "engine: share of a core for events": (
            plan.events
            * (plan.machines * figures.engine_event(plan.size) + figures.engine_publish_us)
            / 1e6
        ),
        "engine: share of a core for leases": leases * figures.engine_lease_us / 1e6,
        "engine: share of its network": plan.events * plan.machines * plan.size * 8 / plan.network,
        "engine: memory, MB": plan.feeds * entries * plan.size / 1e6,
    }


def too_much(found: dict[str, float]) -> list[str]:
    """What of it is beyond half of a core, or of the network."""
    engine = found["engine: share of a core for events"]
    engine += found["engine: share of a core for leases"]
    said = []
    if found["process: share of a core"] > HALF:
        said.append("a process delivers too much: more machines")
    if engine > HALF:
        said.append("the engine has too many readers: relays, each of which is one reader for many")
    if found["engine: share of its network"] > HALF:
        said.append("the engine sends too many bytes: relays, or smaller values")
    return said


def deploy(plan: Plan, figures: Figures, drain: float, retry: float, seed: int) -> dict[str, float]:
    """One machine goes: its clients are told over `drain` seconds to come back after `retry`, half
    of it more or less, and come to any of the others. How long each waits, in seconds, from the end
    of its stream to its next first event; and the most that wait at one machine at a time."""
    chance = random.Random(seed)
    others = max(1, plan.machines - 1)
    leaving = plan.clients // plan.machines
    arrivals: list[tuple[float, float]] = []
    for number in range(leaving):
        gone = drain * number / max(1, leaving)
        heapq.heappush(arrivals, (gone + retry * chance.uniform(0.5, 1.5), gone))
    free = [0.0] * others
    waits, most = [], 0.0
    while arrivals:
        at, gone = heapq.heappop(arrivals)
        machine = chance.randrange(others)
        free[machine] = max(free[machine], at) + figures.connect_us / 1e6
        waits.append(free[machine] - gone)
        most = max(most, (free[machine] - at) / (figures.connect_us / 1e6))
    waits.sort()
    return {
        "clients that move": leaving,
        "half of them have an event again after, s": waits[len(waits) // 2] if waits else 0.0,
        "all of them, s": waits[-1] if waits else 0.0,
        "the most that wait at one machine": round(most),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--figures", type=Path, default=FIGURES)
    add("--clients", type=int, default=1_000_000)
    add("--machines", type=int, default=100)
    add("--feeds", type=int, default=20)
    add("--interval", type=float, default=5.0, help="seconds")
    add("--size", type=int, default=SMALL, help="bytes of a value")
    add("--asked", type=int, default=1, help="feeds that a page watches")
    add("--network", type=float, default=1e9, help="bits a second")
    add("--drain", type=float, default=10.0, help="push.drain, seconds")
    add("--retry", type=float, default=2.0, help="push.retry, seconds")
    add("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    if min(asked.clients, asked.machines, asked.feeds, asked.size, asked.interval) <= 0:
        parser.error("clients, machines, feeds, size and interval must be more than 0")
    figures = Figures(**json.loads(asked.figures.read_text()))
    plan = Plan(asked.clients, asked.machines, asked.feeds, asked.interval, asked.size,
                min(asked.asked, asked.feeds), asked.network)  # fmt: skip
    found = loads(plan, figures)
    for what, figure in found.items():
        print(f"{what}: {figure:.3g}")
    for what, figure in deploy(plan, figures, asked.drain, asked.retry, asked.seed).items():
        print(f"deploy of one machine: {what}: {figure:.3g}")
    for what in too_much(found) or ["one engine and these machines carry it"]:
        print(f"=> {what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
