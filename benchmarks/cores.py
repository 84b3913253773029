"""One event by one thread, and by two: python -m benchmarks.cores, or make cores

The server and its clients share all cores, as nothing is pinned: two, or it says nothing. In a
round every contestant is run for every case, and in the next the other way round. What comes of it
is printed, and written to benchmarks/CORES.md.

The bare C loop is one thread that sends the same bytes to one client after another. It is the least
that one core can do, and the others are held against it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest.__main__ import BUILD, compile_programs
from benchmarks.contest.contestants import FLOOR, SENDERS, WORKERS, Contestant
from benchmarks.contest.measuring import CPU, LAST, LOST, Case, Figures, NotFinished, measure
from benchmarks.server import CHECKOUT

CONTESTANTS = (FLOOR, SENDERS[1], SENDERS[2], WORKERS[1], WORKERS[2])
CASES = {
    30: Case(30, 250, 0.2, 15),
    1_000: Case(1_000, 250, 0.3, 12),
    10_000: Case(10_000, 250, 1.0, 8),
    15_000: Case(15_000, 250, 1.5, 6),
}
WRITTEN = CHECKOUT / "benchmarks" / "CORES.md"

# What is claimed: of whom, to whom, which figure, at most how much, from how many clients on.
CLAIMS = (
    (SENDERS[2], FLOOR, LAST, 0.75, 1_000),
    (SENDERS[2], WORKERS[2], LAST, 1.0, 1_000),
    (SENDERS[2], SENDERS[1], CPU, 1.1, 1_000),
)

Runs = dict[tuple[str, int], list[Figures]]


def measure_all(
    rounds: int,
    todo: Sequence[tuple[Contestant, Case]],
    cores: tuple[int | None, int | None] = (None, None),
) -> Runs:
    """Each contestant with each case, once a round. cores: the clients', and the contestant's."""
    runs: Runs = {}
    for number in range(rounds):
        for one, case in todo[:: -1 if number % 2 else 1]:
            try:
                figures = measure(one, case, BUILD, cores)
            except NotFinished as reason:
                print(f"{one.name}, {case.name}: {reason}", flush=True)
                figures = {}
            runs.setdefault((one.name, case.clients), []).append(figures)
            said = f"{figures[LAST]:7.2f} ms {figures[CPU]:6.2f} µs" if figures else ""
            print(f"round {number + 1}  {one.name:24} {case.clients:6,}  {said}", flush=True)
    return runs


def values(runs: Runs, one: Contestant, clients: int, name: str) -> list[float]:
    return [figures[name] for figures in runs.get((one.name, clients), []) if figures]


def ratios(runs: Runs, one: Contestant, other: Contestant, clients: int, name: str) -> list[float]:
    """Of figures of the same round."""
    pairs = zip(runs.get((one.name, clients), []), runs.get((other.name, clients), []), strict=True)
    return [a[name] / b[name] for a, b in pairs if a and b]


def spread(numbers: Sequence[float], digits: int = 1) -> str:
    if not numbers:
        return "-"
    middle = statistics.median(numbers)
    return f"{middle:.{digits}f} ({min(numbers):.{digits}f} - {max(numbers):.{digits}f})"


def table(runs: Runs, clients: Sequence[int], name: str) -> list[str]:
    lines = [
        "| clients | " + " | ".join(one.name for one in CONTESTANTS) + " |",
        "|-:|" + "-:|" * len(CONTESTANTS),
    ]
    for number in clients:
        cells = [spread(values(runs, one, number, name)) for one in CONTESTANTS]
        lines.append(f"| {number:,} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def claims(runs: Runs, clients: Sequence[int]) -> list[str]:
    lines = ["| | clients | at most | measured | |", "|-|-:|-:|-:|-|"]
    for one, other, name, limit, least in CLAIMS:
        for number in clients:
            found = ratios(runs, one, other, number, name)
            if number < least or not found:
                continue
            middle = statistics.median(found)
            verdict = (
                "kept" if middle <= limit else f"**missed by {(middle / limit - 1) * 100:.0f} %**"
            )
            what = f"{name.partition(',')[0]}: {one.name}, to {other.name}"
            lines.append(f"| {what} | {number:,} | {limit:g} | {spread(found, 2)} | {verdict} |")
    return [*lines, ""]


def growth(runs: Runs, clients: Sequence[int]) -> list[str]:
    """What more cores would do, as far as two of them say."""
    lines = [
        "The time until the last client has an event is a part that one thread does alone, and a"
        " part that is shared: `alone + shared / cores`. Both follow from what one sender and two"
        " need. The clients of this measurement take their part of the same cores; on a machine"
        " with cores to spare for them, more is shared.",
        "",
        "| clients | alone, ms | shared, ms | with 4 cores, ms | with 8 cores, ms |",
        "|-:|-:|-:|-:|-:|",
    ]
    for number in clients:
        one, two = (values(runs, SENDERS[count], number, LAST) for count in (1, 2))
        if not one or not two:
            continue
        shared = 2 * (statistics.median(one) - statistics.median(two))
        alone = statistics.median(one) - shared
        cells = (alone, shared, alone + shared / 4, alone + shared / 8)
        lines.append(
            f"| {number:,} | " + " | ".join(f"{max(cell, 0):.1f}" for cell in cells) + " |"
        )
    return [*lines, ""]


def report(runs: Runs, rounds: int, clients: Sequence[int]) -> str:
    lost = sum(figures.get(LOST, 0) for some in runs.values() for figures in some)
    lines = [
        "# Several cores",
        "",
        f"`make cores`, {rounds} rounds, {len(os.sched_getaffinity(0))} cores that the server and"
        " the clients share: median (least - greatest). Ratios are of two figures of the same"
        f" round. Events have 250 bytes. {lost:,.0f} deliveries were left out.",
        "",
        *claims(runs, clients),
        "Milliseconds until the last client has an event:",
        "",
        *table(runs, clients, LAST),
        "CPU for one delivery, in µs:",
        "",
        *table(runs, clients, CPU),
        "## More cores, on paper",
        "",
        *growth(runs, [number for number in clients if number >= 1_000]),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument(
        "--clients", nargs="+", type=int, default=list(CASES), choices=list(CASES), metavar="N"
    )
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two senders need two cores, and there is one")
    if raise_descriptor_limit() < max(options.clients) + 100:
        sys.exit("too few descriptors for so many clients: see ulimit -Hn")
    compile_programs(BUILD)
    todo = [
        (one, CASES[number])
        for number in options.clients
        for one in CONTESTANTS
        if not one.missing()
    ]
    text = report(measure_all(options.rounds, todo), options.rounds, options.clients)
    print(text)
    if options.clients == list(CASES):
        WRITTEN.write_text(text)


if __name__ == "__main__":
    main()
