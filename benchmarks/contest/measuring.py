"""One contestant, one case: what it costs and when its events are where."""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.contestants import Contestant, Setting
from benchmarks.server import Server, listen_overflows

WARM_UP = 10  # clients, before the memory is first looked at
PATIENCE = 40.0  # seconds for a run
MS = 1e6  # nanoseconds

Figures = dict[str, float]

# The figures' names.
CPU = "CPU, µs a delivery"
P50 = "p50, ms"
P99 = "p99, ms"
LAST = "last, ms"
FIRST = "all have one, s"
MEMORY = "memory, KiB a client"
WIRE = "bytes a delivery"
CLIENT = "client busy, %"
EVENT = "CPU, ms an event"
LOST = "lost"


@dataclass(frozen=True)
class Case:
    """clients: how many, all at once.
    size: of a value, in bytes.
    interval: seconds from one to the next.
    events: how many are measured.
    busy: beside a feed that computes all the time.
    """

    clients: int
    size: int
    interval: float
    events: int
    busy: bool = False

    @property
    def name(self) -> str:
        size = f"{self.size // 1000} KB" if self.size >= 1000 else f"{self.size} bytes"
        busy = ", beside a feed that computes" if self.busy else ""
        return f"{self.clients:,} clients, {size}{busy}"


class NotFinished(Exception):
    """A run that did not come to its end, and why."""


class _Crowd:
    """The clients, in a process of their own: see crowd.c."""

    def __init__(
        self,
        program: Path,
        server: Server,
        request: str,
        clients: int,
        events: int,
        core: int | None,
    ) -> None:
        host, port = server.address
        settle = 1  # the first event that all have may have come while some were not there yet
        numbers = (port, clients, settle, events)
        self._process = subprocess.Popen(
            [program, host, *map(str, numbers), request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})
        self._deadline = time.monotonic() + PATIENCE
        self._buffer = b""

    def __enter__(self) -> _Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self, name: str) -> list[float]:
        """The numbers of its next line, which must be the one called `name`."""
        assert self._process.stdout
        while b"\n" not in self._buffer:
            self._wait(name)
            self._buffer += os.read(self._process.stdout.fileno(), 4096)
        line, _, self._buffer = self._buffer.partition(b"\n")
        found, *numbers = line.decode().split()
        assert found == name, line
        return [float(number) for number in numbers]

    def numbers(self) -> array[int]:
        """What it says at its end."""
        rest, _ = self._process.communicate(timeout=PATIENCE)
        return array("q", self._buffer + rest)

    def _wait(self, name: str) -> None:
        assert self._process.stdout
        assert self._process.stderr
        left = max(0.0, self._deadline - time.monotonic())
        if not select.select([self._process.stdout], [], [], left)[0]:
            raise NotFinished(f"no '{name}' in {PATIENCE:g} s")
        if self._process.poll() is not None and self._process.returncode:
            raise NotFinished(self._process.stderr.read().decode().strip().removeprefix("crowd: "))


def measure(
    contestant: Contestant, case: Case, programs: Path, cores: Sequence[int | None]
) -> Figures:
    """A run. Raises NotFinished.

    programs: the directory of crowd and bare.
    cores: the clients', and the contestant's; None for all.
    """
    own, theirs = cores
    setting = Setting(case.interval, case.size, case.busy, theirs, programs)
    crowd = programs / "crowd"
    request = contestant.request()
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(contestant.start(setting))
        except RuntimeError as error:
            raise NotFinished(f"it does not start: {error}") from None
        with _Crowd(crowd, server, request, WARM_UP, 1, own) as few:
            few.line("connected")
            few.line("first")
        time.sleep(0.3)  # it notices that they have left
        memory, overflows = _memory(server), listen_overflows()
        many = stack.enter_context(_Crowd(crowd, server, request, case.clients, case.events, own))
        many.line("connected")
        (first,) = many.line("first")
        bytes_before, crowd_before = many.line("begin")
        began = server.cpu()
        bytes_after, crowd_after = many.line("end")
        cpu = server.cpu() - began
        memory = _memory(server) - memory
        overflows = listen_overflows() - overflows
        numbers = many.numbers()
    arrivals = numbers[case.clients + 2 :]
    took = sorted(arrivals[1::2])
    last: dict[int, int] = {}
    for number, nanoseconds in zip(arrivals[::2], arrivals[1::2], strict=True):
        last[number] = max(last.get(number, 0), nanoseconds)
    if not took:
        raise NotFinished("no events")
    deliveries = len(took)
    return {
        CPU: cpu / deliveries * 1e6,
        EVENT: cpu / len(last) * 1e3,
        P50: statistics.median(took) / MS,
        P99: took[deliveries * 99 // 100] / MS,
        LAST: statistics.median(last.values()) / MS,
        FIRST: first,
        MEMORY: memory / case.clients,
        WIRE: (bytes_after - bytes_before) / deliveries,
        CLIENT: (crowd_after - crowd_before) / (sum(last.values()) / 1e9) * 100,
        LOST: case.events * case.clients - deliveries,
        "listen overflows": overflows,
    }


def _memory(server: Server) -> int:
    return server.memory("RssAnon") + server.memory("RssShmem")
