"""What clients that do not read cost the others, and the server: python -m benchmarks.stopped

A round is a fresh `paster serve` with a feed of large values, and a few quick readers. After some
beats, which are measured, a thousand clients come that ask and never read, and one that reads a
byte a second; then as many beats are measured again. The promise is that the quick readers do not
notice, that the server keeps no more for the others than two copies of a value and 2 KiB each, and
that the kernel keeps no more than their buffers.

The server is to drop a client that takes nothing for 30 seconds, so the beats must be fewer.
Exits with 1 if the promise about the memory was not kept.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import sys
import time
from pathlib import Path

from benchmarks.clients import Audience, Loop, raise_descriptor_limit
from benchmarks.server import Server, pushdemo
from benchmarks.streams import MS, Figures, show
from benchmarks.wires import WIRES

WIRE = WIRES["sse"]
PER_CLIENT = 2  # KiB
PATIENCE = 60.0
SETTLE = 2  # beats after which all buffers are full


def kernel_memory() -> int:
    """What the kernel keeps in the buffers of all TCP connections of this machine, in KiB."""
    text = Path("/proc/net/sockstat").read_text()
    found = re.search(r"^TCP: .* mem (\d+)", text, re.M)
    assert found
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def latencies(audience: Audience, beats: int, each_beat: list[socket.socket]) -> list[float]:
    """From a value's computation to its last byte at each client, in ms, over some beats."""
    first = audience.newest + 2
    for number in range(first, first + beats):
        audience.loop.run(lambda number=number: audience.has(number), PATIENCE)  # type: ignore[misc]
        for sock in each_beat:
            sock.recv(1)
    return [
        (arrived - audience.computed[number]) / MS
        for number in range(first, first + beats)
        for arrived in audience.arrivals[number]
    ]


def stopped(server: Server, count: int) -> list[socket.socket]:
    """Clients that ask, and do not read."""
    socks = []
    for _ in range(count):
        sock = socket.create_connection(server.address)
        sock.sendall(WIRE.request)
        socks.append(sock)
    return socks


def measure(options: argparse.Namespace, core: int) -> Figures:
    """One round."""
    loop = Loop()
    with pushdemo(interval=options.interval, payload=options.payload, core=core) as server:
        audience = Audience(loop, server.address, WIRE)
        audience.join(options.readers)
        loop.run(lambda: len(audience.waits) == options.readers, PATIENCE)
        alone = latencies(audience, options.beats, [])
        memory, kernel = server.memory("RssAnon"), kernel_memory()
        idle = stopped(server, options.clients)
        slow = stopped(server, 1)
        latencies(audience, SETTLE, slow)
        among = latencies(audience, options.beats, slow)
        own = server.memory("RssAnon") - memory
        in_kernel = kernel_memory() - kernel
        audience.leave()
        for sock in idle + slow:
            sock.close()
    allowed = 2 * options.payload / 1024 + PER_CLIENT * options.clients
    return {
        "computed to reader, alone, p50, ms": statistics.median(alone),
        "computed to reader, alone, last, ms": max(alone),
        "computed to reader, among the stopped, p50, ms": statistics.median(among),
        "computed to reader, among the stopped, last, ms": max(among),
        "the two p50, ratio": statistics.median(among) / statistics.median(alone),
        "memory of the server for the stopped, KiB": own,
        "what was promised, KiB": allowed,
        "memory of the kernel per stopped client, KiB": in_kernel / options.clients,
        "events lost by the readers": audience.lost,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000, help="that stop (%(default)s)")
    parser.add_argument("--readers", type=int, default=10, help="that read (%(default)s)")
    parser.add_argument("--payload", type=int, default=1024 * 1024, help="bytes (%(default)s)")
    parser.add_argument("--interval", type=float, default=1, help="seconds a beat (%(default)s)")
    parser.add_argument("--beats", type=int, default=10, help="measured twice (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="servers (%(default)s)")
    options = parser.parse_args()
    raise_descriptor_limit()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    began = time.monotonic()
    rounds = [measure(options, cores[-1]) for _ in range(options.rounds)]
    show(rounds)
    print(f"\n{options.rounds} rounds in {time.monotonic() - began:.0f} s")
    kept = all(
        figures["memory of the server for the stopped, KiB"] <= figures["what was promised, KiB"]
        for figures in rounds
    )
    print("all was kept" if kept else "the server kept more than was promised")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
