"""A run: the server, the recording streams, the attackers; and what is wrong afterwards."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fuzz import streams
from tests.fuzz.attacks import NAMES, kind_of, script_of
from tests.fuzz.engine import Client, Engine, Outcome
from tests.fuzz.steps import Facts
from tests.fuzz.target import Target, Usage
from tests.history import Verdict

# Afterwards, what may be more than before: a feed may just be running.
MORE_DESCRIPTORS = 3
MORE_THREADS = 4
# The allocator keeps some of what was freed, and more after few clients than after many, for then
# it had not yet grown to what it needs.
MORE_MEMORY = 16 * 1024 * 1024
WARM_UP = 1_000_000_000  # the first index of the clients before the measured ones
IDLE = 4.0  # seconds after which what was slow is given up by the server
SETTLED = 30.0  # seconds after which nothing gets better
SLICE = 0.25  # seconds between two words of an attacker
REFUSED = 50  # connections in a row

# Of the attackers: nothing of their machine's processor that the server or the recorder wants.
NICE = 10

_processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Settings:
    """What to run.

    indexes: of the clients.
    only: the kinds there may be.
    warm_up: clients before the first measurement.
    python: the interpreter of an environment with the pushdemo to attack.
    more_memory: bytes that the server may have more afterwards than before.
    stop: at the first thing that is wrong with the server or the streams.
    """

    seed: int
    indexes: Sequence[int]
    only: tuple[str, ...] = NAMES
    warm_up: int = 2000
    python: Path = Path(sys.executable)
    attackers: int = 2
    streams: int = streams.STREAMS
    more_memory: int = MORE_MEMORY
    stop: bool = True


@dataclass
class Report:
    """What came of a run.

    rate: connections a second.
    faults: a line or several for each.
    log: what the server printed.
    """

    outcome: Outcome = field(default_factory=Outcome)
    usages: dict[str, Usage] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    faults: list[str] = field(default_factory=list)
    rate: float = 0.0
    log: str = ""

    def __str__(self) -> str:
        lines = []
        for kind, tally in sorted(self.outcome.kinds.items()):
            statuses = ", ".join(
                f"{status or 'none'}: {count}" for status, count in sorted(tally.statuses.items())
            )
            lines.append(f"{kind:24} {tally.count:7}  {statuses}")
        lines += [f"{when:24} {usage}" for when, usage in self.usages.items()]
        lines.append(f"streams: {self.verdict}")
        lines.append(
            f"{self.outcome.count} clients, {self.outcome.connections} connections,"
            f" {self.rate:.0f} a second"
        )
        lines += [f"FAULT: {fault}" for fault in self.faults]
        return "\n".join(lines)


def run(settings: Settings, say: Callable[[str], None]) -> Report:
    """Run it all; ends by itself, and leaves nothing running. say: takes a line of progress."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        target = Target(directory, settings.python)
        stack.callback(target.close)
        return _Run(settings, say, target, stack).run()


class _Run:
    """See `run`."""

    def __init__(
        self, settings: Settings, say: Callable[[str], None], target: Target, stack: ExitStack
    ) -> None:
        self._settings = settings
        self._say = say
        self._target = target
        self._stack = stack
        self._report = Report()
        self._recorder, pipe = _processes.Pipe()
        self._start(streams.record, target.address, pipe, settings.streams)
        pipe.close()

    def run(self) -> Report:
        report, settings = self._report, self._settings
        self._wait_for_streams()
        report.usages["at first"] = self._target.usage()
        facts = self._target.facts()
        if settings.warm_up:
            self._attack(range(WARM_UP, WARM_UP + settings.warm_up), facts)
            self._settle(None)
        if self._alive:
            report.usages["before"] = self._target.usage()
        if not self._stopped:
            began, warm = time.monotonic(), report.outcome.connections
            self._attack(settings.indexes, facts)
            report.rate = (report.outcome.connections - warm) / (time.monotonic() - began)
            self._settle(report.usages.get("before"))
        if self._alive:
            report.usages["afterwards"] = self._target.usage()
        self._judge()
        return report

    @property
    def _alive(self) -> bool:
        return self._target.exit_code is None

    @property
    def _stopped(self) -> bool:
        return not self._alive or (self._settings.stop and bool(self._report.faults))

    def _start(self, function: Callable[..., None], *arguments: object) -> BaseProcess:
        process = _processes.Process(target=function, args=arguments, daemon=True)
        process.start()

        def end() -> None:
            process.kill()
            process.join()

        self._stack.callback(end)
        return process

    def _wait_for_streams(self) -> None:
        deadline = time.monotonic() + SETTLED
        while self._silent() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _silent(self) -> list[str]:
        self._recorder.send(True)
        if not self._recorder.poll(SETTLED):
            return ["the recorder"]
        silent: list[str] = self._recorder.recv()
        return silent

    def _attack(self, indexes: Sequence[int], facts: Facts) -> None:
        """Have all these clients run, and look after the server meanwhile."""
        settings = self._settings
        pipes: list[Connection] = []
        for number in range(settings.attackers):
            pipe, other = _processes.Pipe(duplex=False)
            share = indexes[number :: settings.attackers]
            self._start(attack, self._target.address, settings, facts, share, other)
            other.close()
            pipes.append(pipe)
        last: dict[Connection, int] = {}
        looked = time.monotonic()
        while pipes and not self._stopped:
            ready = wait(pipes, 1.0)
            for pipe in [pipe for pipe in pipes if pipe in ready]:
                try:
                    outcome, last[pipe] = pipe.recv()
                    self._report.outcome.add(outcome)
                except EOFError:
                    pipes.remove(pipe)
            if time.monotonic() - looked >= 1:
                looked = time.monotonic()
                self._look(sorted(last.values()))
        for pipe in pipes:
            pipe.close()

    def _look(self, last: list[int]) -> None:
        silent = self._silent()
        count = self._report.outcome.count
        self._say(
            f"{count} clients, {len(self._report.outcome.faults)} answers wrong,"
            f" {len(silent)} streams silent, {self._target.usage() if self._alive else 'ended'}"
        )
        if silent and self._alive:
            self._fault(
                f"{len(silent)} streams silent, such as {silent[0]}; the last clients that began"
                f" were {last} and those before them"
            )
        if not self._alive:
            self._fault(f"the last clients that began were {last} and those before them")

    def _settle(self, before: Usage | None) -> None:
        """Wait until what the clients left is given up: until it is as it was before, or does not
        change any more."""
        began = time.monotonic()
        usages: list[Usage] = []
        while self._alive and time.monotonic() - began < SETTLED:
            usages.append(self._target.usage())
            # Not the threads, of which each computation of a feed has one.
            same = len({one.descriptors for one in usages[-4:]}) == 1
            settled = same and len(usages) >= 4 if before is None else not _left(usages[-1], before)
            if settled and time.monotonic() - began >= IDLE:
                break
            time.sleep(0.5)

    def _judge(self) -> None:
        report, settings = self._report, self._settings
        if (code := self._target.exit_code) is not None:
            self._fault(f"the server ended with {code}")
        before, after = report.usages.get("before"), report.usages.get("afterwards")
        if before and after:
            report.faults += _left(after, before)
            if after.memory > before.memory + settings.more_memory:
                self._fault(f"memory was {before}, and is {after}")
        with suppress(EOFError, OSError):
            self._recorder.send(None)
            report.verdict = self._recorder.recv()
        if not report.verdict:
            self._fault(f"streams: {report.verdict}")
        report.faults += report.outcome.faults
        for traceback, count in Counter(self._target.tracebacks()).items():
            self._fault(f"{count} times in the log:\n{traceback}")
        report.log = self._target.log

    def _fault(self, what: str) -> None:
        self._report.faults.append(what)


def _left(after: Usage, before: Usage) -> list[str]:
    """What clients have left behind."""
    found = []
    if after.descriptors > before.descriptors + MORE_DESCRIPTORS:
        found.append(f"descriptors were {before.descriptors}, and are {after.descriptors}")
    if after.threads > before.threads + MORE_THREADS:
        found.append(f"threads were {before.threads}, and are {after.threads}")
    return found


def attack(
    address: tuple[str, int],
    settings: Settings,
    facts: Facts,
    indexes: Sequence[int],
    pipe: Connection,
) -> None:
    """An attacker's process. Tells what came of its clients, and the last index that began."""
    os.nice(NICE)
    last = indexes[0] if indexes else 0

    def clients() -> Iterator[Client]:
        nonlocal last
        for last in indexes:  # it is told
            kind = kind_of(settings.seed, last, settings.only)
            yield Client(last, kind.name, script_of(kind, settings.seed, last, facts), kind.slow)

    engine = Engine(address, clients())
    more = True
    while more and engine.outcome.refused < REFUSED:
        more = engine.run(time.monotonic() + SLICE)
        outcome, engine.outcome = engine.outcome, Outcome(refused=engine.outcome.refused)
        try:
            pipe.send((outcome, last))
        except OSError:  # who started this has had enough
            break
    engine.close()
    pipe.close()
