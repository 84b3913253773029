"""From what was measured to benchmarks/RESULTS.md and its plot."""

from __future__ import annotations

import datetime
import json
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.contest import measuring
from benchmarks.contest.contestants import (
    FLASK,
    FLASK_WORKERS,
    FLOOR,
    NCHAN,
    OURS,
    PURE,
    REDIS,
    STARLETTE,
    Contestant,
)
from benchmarks.contest.measuring import CPU, EVENT, FIRST, LAST, LOST, MEMORY, Case
from benchmarks.server import CHECKOUT
from benchmarks.versions import version

RESULTS = CHECKOUT / "benchmarks" / "RESULTS.md"
PLOT = CHECKOUT / "benchmarks" / "results.svg"
MICRO = CHECKOUT / "build" / "micro.json"

COLUMNS = (
    measuring.CPU,
    measuring.P50,
    measuring.P99,
    measuring.LAST,
    measuring.FIRST,
    measuring.MEMORY,
    measuring.WIRE,
    measuring.CLIENT,
)
# Of the case that the claims are about.
CLIENTS, SIZE = 10_000, 250
BROKERS = CHECKOUT / "benchmarks" / "BROKERS.md"

HEAD = """\
# Results

Written by `make bench`, which starts each contestant itself, measures it, and writes this file and
its plot. {date}.

{machine}

![CPU for a delivery, and how the cost of an event grows](results.svg)

## How it was measured

- A run is a fresh server on one core, and all its clients in one process on the other
  (`contest/crowd.c`). The contestants were run one after another, in the next round the other way
  round; {rounds} rounds. Each figure is the median of its rounds, with the least and the greatest.
- All contestants make the same events, once for everybody, on the same beat, and send each to all
  who have asked for it. Who is new gets the newest at once. Each is written as its own
  documentation would have it: its file in `contest/` says how.
- All clients connect at once, with a browser's headers and a cookie of their own each.
- **CPU**: the server's processes, user and system, its publisher's too. Beside a feed that computes
  it would be that feed's, and is left out.
- **p50, p99, last**: from when the value was made to when a client had read its last byte; p99 is
  of all deliveries, `last` of the median event's last client.
- **all have one**: from the first connect to when the last client had its first event.
- **memory**: what the server's processes have of their own (RssAnon and RssShmem), above what they
  had after ten clients.
- **client busy**: of the time in which an event was delivered, how much the clients computed, in
  the kernel too. It is for this that they are in C: as long as it is well under 100, the server is
  what was waited for. With 30 clients the idle turns are most of it.
- Both ends are on one machine: the kernel does most of the receiving within the server's `send`.
  That is the same for all, and is why the bare loop, which does nothing but `send`, costs what it
  does.
"""


class Run(NamedTuple):
    """figures: by their names, of a run that came to its end; failed: why one did not."""

    round: int
    contestant: str
    case: str
    figures: dict[str, float]
    failed: str

    def line(self) -> str:
        """For who is waiting."""
        told = self.failed or ", ".join(
            f"{name} {text(self.figures[name])}" for name in (CPU, LAST, FIRST, MEMORY)
        )
        return f"{self.contestant}: {self.case}: {told}"


class Claim(NamedTuple):
    """What is claimed: that `ratio` of a round is at most, or less than, `limit`."""

    what: str
    limit: float
    ratio: Callable[[int], float | None]
    strictly: bool = False


def text(figure: float) -> str:
    """A figure with three digits, or all of a whole number."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def spread(values: Sequence[float]) -> str:
    """Median, least and greatest."""
    least, middle, greatest = min(values), statistics.median(values), max(values)
    return f"{text(middle)} ({text(least)} - {text(greatest)})"


class Results:
    """What was measured."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self.rounds = sorted({run.round for run in runs})

    def of(self, contestant: Contestant, case: Case) -> list[Run]:
        """The runs of one contestant in one case."""
        return [
            run for run in self._runs if (run.contestant, run.case) == (contestant.name, case.name)
        ]

    def figure(self, contestant: Contestant, case: Case, name: str, number: int) -> float | None:
        """Of one round, the median if there was more than one run."""
        runs = self.of(contestant, case)
        values = [r.figures[name] for r in runs if r.round == number and name in r.figures]
        return statistics.median(values) if values else None

    def figures(self, contestant: Contestant, case: Case, name: str) -> list[float]:
        """Of all rounds."""
        return [run.figures[name] for run in self.of(contestant, case) if name in run.figures]

    def ratio(
        self, name: str, one: tuple[Contestant, Case], other: tuple[Contestant, Case]
    ) -> Callable[[int], float | None]:
        """One contestant's figure to another's, of a round."""

        def ratio(number: int) -> float | None:
            above, below = self.figure(*one, name, number), self.figure(*other, name, number)
            return None if above is None or not below else above / below

        return ratio


def write(
    runs: Sequence[Run],
    cases: Sequence[Case],
    growth: Sequence[Case],
    contestants: Sequence[Contestant],
) -> None:
    """The report and its plot."""
    results = Results(runs)
    measured = {run.case for run in runs}
    growing = sorted(growth, key=lambda case: case.clients)
    pieces = [
        HEAD.format(
            date=f"{datetime.date.today():%d %B %Y}",
            machine=machine(contestants),
            rounds=len(results.rounds),
        ),
        "## What is claimed\n\n" + claims(results, cases, growing),
        *(
            f"## {case.name}\n\n" + table(results, case, contestants)
            for case in cases
            if case.name in measured
        ),
        "## How the cost grows\n\n" + grows(results, growing),
    ]
    if MICRO.exists():
        from benchmarks import micro  # needs what no test does

        pieces.append(
            "## The small things\n\n`python -m benchmarks.micro`, which says what each line is.\n\n"
            + micro.markdown(json.loads(MICRO.read_text()))
        )
    if BROKERS.exists():
        pieces.append(brokers())
    RESULTS.write_text("\n".join(piece.rstrip() + "\n" for piece in pieces))
    plot(results, contestants, growing)
    print(f"written: {RESULTS.relative_to(CHECKOUT)}, {PLOT.relative_to(CHECKOUT)}")


def brokers() -> str:
    """What benchmarks/brokers.py has measured and written, on a day of its own."""
    _, _, text = BROKERS.read_text().partition("\n")
    return f"## Through an engine\n{text}"


def machine(contestants: Sequence[Contestant]) -> str:
    """What it ran on, and with."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    parts = [
        f"{processor[1] if processor else platform.machine()}, two cores used",
        f"Linux {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        _printed("cc", "--version"),
        _printed("nginx", "-v"),
    ]
    needed = dict.fromkeys(need for contestant in contestants for need in contestant.needs)
    parts += [f"{need} {found}" for need in needed if (found := version(need))]
    return "; ".join(part for part in parts if part) + "."


def _printed(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return f"no {command[0]}"
    return (done.stdout + done.stderr).splitlines()[0].removeprefix("nginx version: ")


def table(results: Results, case: Case, contestants: Sequence[Contestant]) -> str:
    """All contestants in one case."""
    columns = [name for name in COLUMNS if not (case.busy and name == CPU)]
    lines = ["| | " + " | ".join(columns) + " |", "|-|" + "-:|" * len(columns)]
    notes: list[str] = []
    for contestant in contestants:
        runs = results.of(contestant, case)
        if runs and (rows := [run.figures for run in runs if run.figures]):
            cells = [spread([row[name] for row in rows]) for name in columns]
            lines.append(f"| {contestant.name} | " + " | ".join(cells) + " |")
        else:
            lines.append(f"| {contestant.name} | " + " | ".join("-" for _ in columns) + " |")
        notes += _notes(contestant, case, runs)
    return "\n".join([*lines, "", *notes]) + "\n"


def _notes(contestant: Contestant, case: Case, runs: Sequence[Run]) -> Iterator[str]:
    name = contestant.name
    if missing := contestant.missing():
        yield f"- {name}: not installed here ({', '.join(missing)})."
    elif contestant.most is not None and case.clients > contestant.most:
        yield f"- {name}: not asked of more than {contestant.most:,} clients; its file says why."
    elif case.busy and not contestant.hosts_python:
        yield f"- {name}: has no feeds."
    for reason in dict.fromkeys(run.failed for run in runs if run.failed):
        count = sum(run.failed == reason for run in runs)
        yield f"- {name}: {count} of {len(runs)} runs did not end: {reason}."
    if lost := sum(run.figures.get(LOST, 0) for run in runs):
        wanted = len(runs) * case.clients * case.events
        yield f"- {name}: {lost:,.0f} of {wanted:,} deliveries were left out by it."
    overflows = [run.figures["listen overflows"] for run in runs if run.figures]
    if any(overflows):
        yield f"- {name}: connections that came again, the listener's queue being full: " + (
            spread(overflows) + "."
        )


def claims(results: Results, cases: Sequence[Case], growing: Sequence[Case]) -> str:
    """Each claim, and whether it was kept. Ratios are of figures of the same round."""
    (idle,) = (c for c in cases if (c.clients, c.size, c.busy) == (CLIENTS, SIZE, False))
    (busy,) = (c for c in cases if (c.clients, c.size, c.busy) == (CLIENTS, SIZE, True))
    ours = (OURS, idle)
    first, last = growing[0], growing[-1]
    each = [
        Claim("CPU a delivery, to the bare C loop", 1.10, results.ratio(CPU, ours, (FLOOR, idle))),
        Claim("the same in pure Python", 1.25, results.ratio(CPU, (PURE, idle), (FLOOR, idle))),
        Claim("CPU a delivery, to nchan", 1, results.ratio(CPU, ours, (NCHAN, idle)), True),
        Claim("CPU a delivery, to sse-starlette", 0.2, results.ratio(CPU, ours, (STARLETTE, idle))),
        Claim("last client, to the bare C loop", 1.15, results.ratio(LAST, ours, (FLOOR, idle))),
        Claim(
            "last client beside a feed that computes in the same process, to without it",
            1.5,
            results.ratio(LAST, (OURS, busy), ours),
        ),
        Claim(
            "all connect at once: until all have one, to nchan",
            1,
            results.ratio(FIRST, ours, (NCHAN, idle)),
            True,
        ),
        *(
            Claim(
                f"{what}, {one.name}, to `paster serve`",
                1.1,
                results.ratio(name, (one, idle), ours),
            )
            for one in (FLASK, FLASK_WORKERS)
            for what, name in (("CPU a delivery", CPU), ("last client", LAST))
        ),
        *(
            Claim(
                f"{what}, through Redis, to without", 1.1, results.ratio(name, (REDIS, idle), ours)
            )
            for what, name in (("CPU a delivery", CPU), ("last client", LAST))
        ),
        Claim("memory, KiB a client", 1, lambda n: results.figure(*ours, MEMORY, n), True),
        Claim(
            f"CPU a delivery with {last.clients:,} clients, to with {first.clients:,}",
            1.25,
            results.ratio(CPU, (OURS, last), (OURS, first)),
        ),
    ]
    lines = [
        f"With {CLIENTS:,} clients and events of {SIZE} bytes, where nothing else is said. Ratios"
        " are of two figures of the same round.",
        "",
        "| | | median (least - greatest) | |",
        "|-|-|-:|-|",
    ]
    for claim in each:
        values = [v for number in results.rounds if (v := claim.ratio(number)) is not None]
        if not values:
            lines.append(f"| {claim.what} | | not measured | |")
            continue
        middle = statistics.median(values)
        kept = middle < claim.limit if claim.strictly else middle <= claim.limit
        limit = f"{'under' if claim.strictly else 'at most'} {claim.limit:g}"
        verdict = "kept" if kept else f"**missed by {(middle / claim.limit - 1) * 100:.0f} %**"
        lines.append(f"| {claim.what} | {limit} | {_ratio(values)} | {verdict} |")
    floor = results.ratio(CPU, (FLOOR, idle), (STARLETTE, idle))
    values = [v for number in results.rounds if (v := floor(number)) is not None]
    if values:
        lines += [
            "",
            "To sse-starlette there is a limit that nobody gets below: the bare C loop, which"
            f" costs what the kernel does for a delivery, is {_ratio(values)} of it.",
        ]
    return "\n".join(lines) + "\n"


def _ratio(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def grows(results: Results, growing: Sequence[Case]) -> str:
    """The CPU of one event, by the number of clients, in ms."""
    who = (FLOOR, OURS, PURE, NCHAN)
    lines = [
        "CPU for one event of 250 bytes, in ms, and for one delivery of it, in µs.",
        "",
        "| clients | " + " | ".join(f"{one.name}, ms | µs" for one in who) + " |",
        "|-:|" + "-:|-:|" * len(who),
    ]
    for case in growing:
        cells = []
        for one in who:
            for name in (EVENT, CPU):
                values = results.figures(one, case, name)
                cells.append(spread(values) if values else "-")
        lines.append(f"| {case.clients:,} | " + " | ".join(cells) + " |")
    for one in who:
        points = [
            (case.clients, statistics.median(values))
            for case in growing
            if (values := results.figures(one, case, EVENT))
        ]
        if len(points) > 2:
            clients, costs = zip(*points, strict=True)
            fit = statistics.correlation(clients, costs) ** 2
            lines.append(f"\nA straight line explains {fit * 100:.1f} % of it for {one.name}.")
    return "\n".join(lines) + "\n"


def plot(results: Results, contestants: Sequence[Contestant], growing: Sequence[Case]) -> None:
    """results.svg."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pushdemo"  # the same picture, the same file
    from matplotlib import pyplot

    (case,) = (one for one in growing if one.clients == CLIENTS)
    bars = [
        (one.name, figures) for one in contestants if (figures := results.figures(one, case, CPU))
    ]
    bars.sort(key=lambda bar: statistics.median(bar[1]))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = [name for name, _ in bars]
    medians = [statistics.median(values) for _, values in bars]
    errors = [
        [middle - min(values) for middle, (_, values) in zip(medians, bars, strict=True)],
        [max(values) - middle for middle, (_, values) in zip(medians, bars, strict=True)],
    ]
    colors = ["#2a6f97" if "pushdemo" in name else "#b0b7bd" for name in names]
    left.barh(names, medians, xerr=errors, color=colors, ecolor="#444", capsize=2)
    left.invert_yaxis()
    left.set_xlabel(f"CPU, µs a delivery ({CLIENTS:,} clients, {SIZE} bytes)")
    styles = {FLOOR: ("#444", "--"), OURS: ("#2a6f97", "-"), PURE: ("#89c2d9", "-"),
              NCHAN: ("#c1666b", "-")}  # fmt: skip
    for one, (color, style) in styles.items():
        points = [
            (c.clients, statistics.median(values))
            for c in growing
            if (values := results.figures(one, c, EVENT))
        ]
        if points:
            right.plot(*zip(*points, strict=True), style, color=color, marker="o", ms=4,
                       label=one.name)  # fmt: skip
    right.set_xlabel("clients")
    right.set_ylabel("CPU, ms an event")
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)
