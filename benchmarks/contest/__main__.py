"""Who delivers an event for least, and soonest: python -m benchmarks.contest, or make bench

Each run is a fresh server on one core and all its clients in another process on another core. In a
round every contestant is run for every case, and in the next the other way round. What is measured
is kept in build/contest.json as it comes, and benchmarks/RESULTS.md and its plot are written from
that at the end; `--report` writes them again. An hour and a quarter.

Needs Linux, two cores, a C compiler and the distributions of `pip install -e '.[bench]'`; who else
takes part if it is installed is in contestants.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest import report
from benchmarks.contest.contestants import CONTESTANTS, FLOOR, NCHAN, OURS, PURE, Contestant
from benchmarks.contest.measuring import Case, NotFinished, measure
from benchmarks.server import CHECKOUT

HERE = Path(__file__).resolve().parent
BUILD = CHECKOUT / "build"
KEPT = BUILD / "contest.json"

CASES = [
    Case(30, 250, 0.2, 6),
    Case(1_000, 250, 0.4, 5),
    Case(10_000, 250, 1.0, 4),
    Case(30, 100_000, 0.2, 6),
    Case(1_000, 100_000, 0.5, 4),
    Case(10_000, 100_000, 2.5, 2),
    Case(30, 250, 0.2, 6, busy=True),
    Case(1_000, 250, 0.4, 5, busy=True),
    Case(10_000, 250, 1.0, 4, busy=True),
    Case(30, 100_000, 0.2, 6, busy=True),
    Case(1_000, 100_000, 0.5, 4, busy=True),
    Case(10_000, 100_000, 2.5, 2, busy=True),
]
# How the cost grows: by these alone, or it would take all day. What is claimed of them is measured
# once more here, so that a round has two figures for it.
GROWTH = [
    CASES[1],
    Case(2_500, 250, 1.0, 4),
    Case(5_000, 250, 1.0, 4),
    CASES[2],
    Case(15_000, 250, 1.0, 4),
]
GROWING = (FLOOR, OURS, PURE, NCHAN)


def compile_programs(directory: Path, *options: str) -> None:
    """crowd, churn and bare, in `directory`."""
    directory.mkdir(exist_ok=True)
    for name in ("crowd", "churn", "bare"):
        source, program = HERE / f"{name}.c", directory / name
        command = ["cc", "-O2", "-std=gnu11", *options, "-o", str(program), str(source)]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            sys.exit("cc is not there: install a C compiler (Debian: apt install gcc libc6-dev)")


def runs(names: list[str], cases: list[str]) -> list[tuple[Contestant, Case]]:
    """All runs of a round, or those of these contestants and cases."""
    every = [(one, case) for case in CASES for one in CONTESTANTS]
    growing = [(one, case) for case in GROWTH for one in GROWING]
    return [
        (one, case)
        for one, case in every + growing
        if (one.most is None or case.clients <= one.most)
        and (one.hosts_python or not case.busy)
        and (not names or one.name in names)
        and (not cases or case.name in cases)
        and not one.missing()
    ]


def measure_all(rounds: int, todo: list[tuple[Contestant, Case]]) -> None:
    """Measure, and keep what comes of it."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the clients and the server need a core each, and there is one")
    if raise_descriptor_limit() < max(case.clients for case in CASES + GROWTH) + 100:
        sys.exit("too few descriptors for so many clients: see ulimit -Hn")
    compile_programs(BUILD)
    os.sched_setaffinity(0, {cores[0]})
    results: list[report.Run] = []
    began = time.monotonic()
    for number in range(rounds):
        # There and back, so that none is always first.
        for contestant, case in todo[:: -1 if number % 2 else 1]:
            run = report.Run(number, contestant.name, case.name, {}, "")
            try:
                figures = measure(contestant, case, BUILD, (cores[0], cores[-1]))
                run = run._replace(figures=figures)
            except NotFinished as reason:
                run = run._replace(failed=str(reason))
            results.append(run)
            KEPT.write_text(json.dumps([one._asdict() for one in results]))
            done = len(results) / (rounds * len(todo)) * 100
            minutes = (time.monotonic() - began) / 60
            print(f"{done:3.0f} % {minutes:5.1f} min  {run.line()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", choices=[one.name for one in CONTESTANTS],
        help=f"who is measured, of: {', '.join(one.name for one in CONTESTANTS)}",
    )  # fmt: skip
    cases = list(dict.fromkeys(case.name for case in CASES + GROWTH))
    parser.add_argument(
        "--cases", nargs="+", default=[], metavar="NAME", choices=cases,
        help=f"what is measured, of: {'; '.join(cases)}",
    )  # fmt: skip
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report")
    options = parser.parse_args()
    if not options.report:
        measure_all(options.rounds, runs(options.only, options.cases))
    try:
        kept = json.loads(KEPT.read_text())
    except FileNotFoundError:
        sys.exit(f"{KEPT.relative_to(CHECKOUT)} is not there: measure first, without --report")
    report.write([report.Run(**one) for one in kept], CASES, GROWTH, CONTESTANTS)


if __name__ == "__main__":
    main()
