"""A storm of clients that come and go while events flow to others: python -m benchmarks.churn

In each round a server is measured with standing clients alone, and with a storm beside them: how
many come and go in a second, what each costs the server, and how long the last standing client
waits for an event.

The server has one core, and all clients have the other. The storm takes all of that core that it
can get, so a standing client waits for its own side, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest.__main__ import BUILD, compile_programs
from benchmarks.contest.contestants import OURS, Contestant, Setting
from benchmarks.contest.measuring import LAST, Case, measure
from benchmarks.server import Server


class Storm(NamedTuple):
    """arrivals: in a second, and as many leave. failed: of all. cost: of the server's processor for
    one that comes and goes, in µs. first, late: ms until a newcomer has an event, of most and of
    the last in a hundred."""

    arrivals: float
    failed: int
    cost: float
    first: float
    late: float


def storm(at_once: int, seconds: float, case: Case, cores: tuple[int, int]) -> Storm:
    """A storm beside standing clients."""
    own, theirs = cores
    setting = Setting(case.interval, case.size, False, theirs, BUILD)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(OURS.start(setting))
        host, port = server.address
        crowd = stack.enter_context(
            subprocess.Popen(
                [BUILD / "crowd", host, str(port), str(case.clients), "1", "9999", OURS.request()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        os.sched_setaffinity(crowd.pid, {own})
        stack.callback(crowd.kill)
        assert crowd.stdout
        for line in crowd.stdout:
            if line.startswith("begin"):
                break
        before = server.cpu()
        time.sleep(seconds / 2)
        quiet = (server.cpu() - before) / (seconds / 2)  # for the standing clients' events
        before, began = server.cpu(), time.monotonic()
        with _churn(server, at_once, seconds, own) as churn:
            said, _ = churn.communicate()
        used = server.cpu() - before - quiet * (time.monotonic() - began)
    (_, came, failed, took), (_, first, late) = (line.split() for line in said.splitlines())
    each = used / max(1, int(came)) * 1e6
    return Storm(int(came) / float(took), int(failed), each, float(first), float(late))


def _churn(server: Server, at_once: int, seconds: float, core: int) -> subprocess.Popen[str]:
    host, port = server.address
    churn = subprocess.Popen(
        [BUILD / "churn", host, str(port), str(at_once), str(seconds), OURS.request()],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(churn.pid, {core})
    return churn


def beside_a_storm(at_once: int, core: int) -> Contestant:
    """pushdemo, to which clients come and from which they go all the time."""

    @contextlib.contextmanager
    def start(setting: Setting) -> Iterator[Server]:
        with OURS.start(setting) as server, _churn(server, at_once, 60, core) as churn:
            try:
                yield server
            finally:
                churn.kill()

    return replace(OURS, start=start)


def spread(numbers: Sequence[float]) -> str:
    return f"{statistics.median(numbers):,.1f} ({min(numbers):,.1f} - {max(numbers):,.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--clients", type=int, default=2_000, help="that stay (%(default)s)")
    parser.add_argument("--at-once", type=int, default=300, help="that come and go (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of storm (%(default)s)")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the clients and the server need a core each, and there is one")
    raise_descriptor_limit()
    compile_programs(BUILD)
    pair = cores[0], cores[-1]
    case = Case(options.clients, 250, 0.5, 8)
    alone, beside, storms = [], [], []
    for number in range(options.rounds):
        alone.append(measure(OURS, case, BUILD, pair)[LAST])
        beside.append(measure(beside_a_storm(options.at_once, pair[0]), case, BUILD, pair)[LAST])
        storms.append(storm(options.at_once, options.seconds, case, pair))
        one = storms[-1]
        print(
            f"round {number + 1}: {one.arrivals:,.0f} come and go in a second, {one.failed} failed,"
            f" {one.cost:.0f} µs each; last standing client {beside[-1]:.1f} ms, alone"
            f" {alone[-1]:.1f} ms",
            flush=True,
        )
    print(
        f"{options.clients:,} standing clients, {options.rounds} rounds: median (least - greatest)"
        "\n"
        f"come and go in a second   {spread([one.arrivals for one in storms])}\n"
        f"failed                    {sum(one.failed for one in storms)}\n"
        f"CPU for each, µs          {spread([one.cost for one in storms])}\n"
        f"first event, p50, ms      {spread([one.first for one in storms])}\n"
        f"first event, p99, ms      {spread([one.late for one in storms])}\n"
        f"last standing client, ms  {spread(beside)}, alone {spread(alone)}"
    )


if __name__ == "__main__":
    main()
