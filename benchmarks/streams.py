"""What a stream costs, and when an event is where: python -m benchmarks.streams --clients 10000

A round is a fresh `paster serve` on one core and all clients in this process on another. The
clients arrive, at once or at random moments; then they are left alone for some beats, which are
measured; then a visitor looks at ordinary pages for as many beats; then the server is told to end
with all streams open. Each figure is the median of the rounds, with the least and the greatest.

Both ends are on one machine, so an event's way to the last client contains some of the clients'
work, and the kernel does most of the receiving within the server's `send`. How busy the clients
were is in the table (30 to 45 % with 10,000 of them): near 100 % they would be what is measured.
With few clients the loop's idle turns are most of what they do, and that line says nothing. What
other programs took of the two cores is there too: where it is more than a little, run it again.

Exits with 1 if an event was lost or repeated, or what `--random-arrival` is about was not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Iterable, Sequence

from benchmarks.clients import Audience, Loop, raise_descriptor_limit
from benchmarks.pages import Visitor
from benchmarks.server import Server, core_busy, listen_overflows, pushdemo
from benchmarks.wires import WIRES, Wire

PAGES = ("/", "/unknown")

WARM_UP = 10  # streams, before the memory is first looked at
PATIENCE = 60.0  # seconds for all clients to arrive, and more than a beat can be late
TOGETHER = 5.0  # ms from the first client to the last, for a few of them
CPU = "CPU of the server per delivery, µs"
P99 = "computed to client, p99, ms"
BUSY = "+busy"
# It computes for two seconds of every three, in pure Python.
BUSY_FEED = """\
feed.busy = benchmarks.feed:busy
feed.busy.interval = 3
feed.busy.executor = {executor}
"""
MS = 1e6  # nanoseconds
SECOND = 1e9

Figures = dict[str, float]


def measure(options: argparse.Namespace, way: str, core: int, seed: int) -> Figures:
    """One round."""
    loop = Loop()
    name, busy = way.removesuffix(BUSY), way.endswith(BUSY)
    wire = WIRES[name]
    more = BUSY_FEED.format(executor=options.executor) if busy else ""
    with (
        pushdemo(
            interval=options.interval, payload=options.payload, core=core, more=more
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        warm_up(loop, server, wire)
        if busy:
            watcher = stack.enter_context(socket.create_connection(server.address))
            watcher.sendall(b"GET /server/index/busy HTTP/1.0\r\n\r\n")
        before = server.memory("RssAnon")
        audience = Audience(loop, server.address, wire)
        if options.random_arrival:
            moments = random.Random(seed)
            pauses = [moments.expovariate(options.clients) for _ in range(options.clients)]
            figures = arrive(audience, [2 * options.interval * pause for pause in pauses])
        else:
            figures = arrive(audience, [0] * options.clients)
        figures |= deliver(server, audience, options.beats, options.interval)
        own = server.memory("RssAnon") - before
        figures["memory of the server per stream, KiB"] = own / options.clients
        figures["memory of the server in all (PSS), MiB"] = server.memory("Pss") / 1024
        figures |= visit(server, audience, options.beats)
        figures["events lost between a client's first and last"] = audience.lost
        figures["events that a client got twice"] = audience.repeated
        figures["streams that ended"] = audience.gone
        seconds, code = server.terminate()
        figures["SIGTERM to exit, s"] = seconds
        figures["exit code (-1: it ran on)"] = -1 if code is None else code
        audience.leave()
    return figures


def warm_up(loop: Loop, server: Server, wire: Wire) -> None:
    """A few streams and a page each, so that all is imported that will be."""
    audience = Audience(loop, server.address, wire)
    audience.join(WARM_UP)
    visitor = Visitor(loop, server.address, PAGES, audience.delivering)

    def over() -> bool:
        visitor.step()
        return len(audience.waits) == WARM_UP and len(visitor.statuses) == len(PAGES)

    if not loop.run(over, PATIENCE, tick=0.01):
        sys.exit(f"of {WARM_UP} streams, {len(audience.waits)} had an event in {PATIENCE:g} s")
    visitor.leave()
    audience.leave()
    loop.run(lambda: False, 0.5)  # the server notices that they left


def arrive(audience: Audience, pauses: Sequence[float]) -> Figures:
    """Connect as many clients as there are pauses, each after its own, in seconds."""
    overflows = listen_overflows()
    began = time.monotonic()
    for pause in pauses:
        if pause:
            audience.loop.run(lambda: False, pause)
        audience.join(1)
    connected = time.monotonic() - began
    if not audience.loop.run(lambda: len(audience.waits) == len(pauses), PATIENCE):
        sys.exit(
            f"of {len(pauses)} clients, {len(audience.waits)} had an event in {PATIENCE:g} s,"
            f" and {audience.gone} were sent away"
        )
    served = time.monotonic() - began
    return {
        "first connect to last connect, s": connected,
        "first connect to first event at all clients, s": served,
        "connect to first event, p50, ms": statistics.median(audience.waits) / MS,
        "connect to first event, last, ms": max(audience.waits) / MS,
        "connections turned back, the queue being full": listen_overflows() - overflows,
    }


def deliver(server: Server, audience: Audience, beats: int, interval: float) -> Figures:
    """Nothing but events, over whole beats."""
    # The value that is newest now may have come while some were not there yet, and the next one
    # right behind the last of them.
    before = audience.newest + 2
    last = before + beats
    patience = beats * interval + PATIENCE
    audience.loop.run(lambda: audience.has(before), patience)
    began, bytes_before = _clocks(server), audience.received
    audience.loop.run(lambda: audience.has(last), patience)
    took, server_cpu, own_cpu, others = (
        now - then for now, then in zip(_clocks(server), began, strict=True)
    )

    numbers = [n for n in range(before + 1, last + 1) if audience.arrivals.get(n)]
    if not numbers or before not in audience.computed:
        sys.exit(f"no events for {patience:g} s")
    computed, arrivals = audience.computed, audience.arrivals
    latencies = sorted(t - computed[n] for n in numbers for t in arrivals[n])
    lasts = [arrivals[n][-1] - computed[n] for n in numbers]
    spreads = [arrivals[n][-1] - arrivals[n][0] for n in numbers]
    runs = numbers[-1] - before
    durations = (computed[numbers[-1]] - computed[before]) / SECOND / interval
    return {
        "computed to client, p50, ms": statistics.median(latencies) / MS,
        P99: latencies[len(latencies) * 99 // 100] / MS,
        "computed to last client, median beat, ms": statistics.median(lasts) / MS,
        "computed to last client, worst beat, ms": max(lasts) / MS,
        "first to last client, median beat, ms": statistics.median(spreads) / MS,
        "first to last client, worst beat, ms": max(spreads) / MS,
        "bytes per delivery": (audience.received - bytes_before) / len(latencies),
        CPU: server_cpu / len(latencies) * 1e6,
        "CPU of the clients per delivery, µs": own_cpu / len(latencies) * 1e6,
        "clients busy while a value is delivered, %": own_cpu / (sum(lasts) / SECOND) * 100,
        "times the function ran per duration": runs / durations,
        "time of the two cores that others took, %": others / took / 2 * 100,
        "deliveries that did not come": beats * len(audience.clients) - len(latencies),
    }


def _clocks(server: Server) -> tuple[float, ...]:
    """Seconds: the time, and what the processors spent on the server, on us and on others."""
    own_core = min(os.sched_getaffinity(0))
    assert server.core is not None
    busy = core_busy(server.core) + core_busy(own_core)
    server_cpu, own_cpu = server.cpu(), time.process_time()
    return time.monotonic(), server_cpu, own_cpu, busy - server_cpu - own_cpu


def visit(server: Server, audience: Audience, beats: int) -> Figures:
    """Ordinary pages, while the streams are up."""
    visitor = Visitor(audience.loop, server.address, PAGES, audience.delivering)
    last = audience.newest + beats

    def over() -> bool:
        visitor.step()
        return audience.has(last)

    audience.loop.run(over, PATIENCE + beats, tick=0.002)
    visitor.leave()
    figures = {}
    for (path, busy), times in visitor.times.items():
        status = visitor.statuses.get(path, "no answer")
        when = f"{path} ({status}), {'during a beat' if busy else 'between beats'}"
        if times:
            figures[f"{when}, p50, ms"] = statistics.median(times) * 1e3
            figures[f"{when}, max, ms"] = max(times) * 1e3
        figures[f"{when}, number"] = len(times)
    return figures


def broken(figures: Figures, *, together: bool) -> Iterable[str]:
    """What a round did not keep."""
    for name in (
        "deliveries that did not come",
        "events lost between a client's first and last",
        "events that a client got twice",
        "streams that ended",
        "exit code (-1: it ran on)",
    ):
        if figures[name]:
            yield f"{name}: {figures[name]:g}"
    if together:
        if (spread := figures["first to last client, worst beat, ms"]) > TOGETHER:
            yield f"one client saw a value {spread:.1f} ms after another"
        if abs((ran := figures["times the function ran per duration"]) - 1) > 0.01:
            yield f"the function ran {ran:.2f} times per duration"


def show(rounds: Sequence[Figures]) -> None:
    """The table."""
    print(f"\n{'':56} {'median':>10}   least - greatest")
    for name in dict.fromkeys(itertools.chain.from_iterable(rounds)):
        values = [figures[name] for figures in rounds if name in figures]
        middle, least, greatest = map(_text, (statistics.median(values), min(values), max(values)))
        print(f"{name:56} {middle:>10}   {least} - {greatest}")


def _text(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000, help="streams (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="servers (%(default)s)")
    parser.add_argument("--beats", type=int, default=10, help="measured in a round (%(default)s)")
    parser.add_argument("--interval", type=float, default=1, help="seconds a beat (%(default)s)")
    parser.add_argument("--payload", type=int, default=100, help="bytes a value (%(default)s)")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=[*WIRES, *(name + BUSY for name in WIRES)],
        metavar="FORMAT",
        default=["multipart"],
        help=f"what the clients ask for, of {', '.join(WIRES)}; with {BUSY} beside a feed that"
        " computes in Python most of the time; of several, each round measures all (%(default)s)",
    )
    parser.add_argument(
        "--executor", default="process", help=f"where {BUSY} computes: thread, process"
    )
    parser.add_argument(
        "--random-arrival",
        action="store_true",
        help="clients come at random moments of two beats, not at once; fails if a value is"
        f" more than {TOGETHER:g} ms later at one client than at another",
    )
    return parser.parse_args()


def main() -> int:
    options = _options()
    if options.clients > raise_descriptor_limit() - 64:
        sys.exit(f"{options.clients} clients are more than the descriptors: see ulimit -Hn")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    # Arrivals are millions of numbers and no cycles: a collection would only look like a delay.
    gc.disable()
    print(
        f"Python {sys.version.split()[0]}, {options.clients:,} clients, {options.rounds} rounds of"
        f" {options.beats} beats, a value of {options.payload} bytes every {options.interval:g} s"
    )
    rounds: dict[str, list[Figures]] = {name: [] for name in options.format}
    for seed in range(options.rounds):
        # There and back, so that none is always first.
        for name in options.format[:: -1 if seed % 2 else 1]:
            rounds[name].append(measure(options, name, cores[-1], seed))
    for name, measured in rounds.items():
        print(f"\n{name}")
        show(measured)
    first, *others = rounds.values()
    for name, other in zip(options.format[1:], others, strict=True):
        for figure in (CPU, P99):
            ratios = sorted(
                theirs[figure] / ours[figure] for ours, theirs in zip(first, other, strict=True)
            )
            print(
                f"\n{figure}, {name} to {options.format[0]}: "
                f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
            )
    faults = [
        f"{name}, round {number}: {fault}"
        for name, measured in rounds.items()
        for number, figures in enumerate(measured, 1)
        for fault in broken(figures, together=options.random_arrival)
    ]
    print("\n".join(faults) or "all was kept")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
