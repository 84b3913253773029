"""A server in a process of its own, on a core of its own, and what it costs. Linux only."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.clients import Address

CHECKOUT = Path(__file__).resolve().parent.parent
START = 20.0  # seconds within which it must listen
STOP = 30.0  # seconds within which it must end when told to

LINGER = 3.0  # seconds that it has to end in at the end, before it is killed

_LISTENING = re.compile(r"http://([\d.]+):(\d+)")

_INI = """\
[app:main]
use = config:{checkout}/development.ini
feed.bench = benchmarks.feed:stamp
feed.bench.interval = {interval}
feed.bench.duration = {interval}
feed.bench.arg.size = {payload}
{more}

[server:main]
use = config:{checkout}/development.ini
port = 0
threadpool_workers = {workers}
"""


class Server:
    """A running server. Made by `running`."""

    def __init__(
        self, process: subprocess.Popen[bytes], address: Address, core: int | None
    ) -> None:
        self._process = process
        self.address = address
        self.core = core

    def cpu(self) -> float:
        """Seconds of processor time used so far by all its threads, and those of the processes it
        has started, in the kernel too: utime and stime of /proc/PID/stat, but finer than their
        10 ms."""
        # What clock_getcpuclockid(3) returns; Python has that for threads only.
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self._pids())

    def memory(self, field: str) -> int:
        """A field of /proc/PID/status (RssAnon: a process's own) or smaps_rollup (Pss), in KiB, of
        them all."""
        return sum(_memory(pid, field) for pid in self._pids())

    def _pids(self) -> list[int]:
        process = psutil.Process(self._process.pid)
        return [process.pid, *(child.pid for child in process.children(recursive=True))]

    def terminate(self) -> tuple[float, int | None]:
        """Send SIGTERM; returns the seconds until it had ended, and its exit code: None if it had
        not in STOP seconds."""
        # Popen.wait with a timeout sleeps up to 50 ms between two looks.
        process = os.pidfd_open(self._process.pid)
        ended = select.poll()
        ended.register(process, select.POLLIN)
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        ended.poll(STOP * 1000)
        seconds = time.monotonic() - began
        os.close(process)
        return seconds, self._process.poll()


def _memory(pid: int, field: str) -> int:
    for name in ("status", "smaps_rollup"):
        text = Path(f"/proc/{pid}/{name}").read_text()
        if found := re.search(rf"^{field}:\s+(\d+) kB$", text, re.M):
            return int(found[1])
    raise KeyError(field)


def core_busy(core: int) -> float:
    """Seconds for which `core` has worked so far, for whomever, in steps of 10 ms."""
    text = Path("/proc/stat").read_text()
    user, nice, system, _idle, _waiting, *more = re.findall(rf"^cpu{core} (.*)", text, re.M)[
        0
    ].split()
    irq, softirq, steal = more[:3]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def listen_overflows() -> int:
    """How many connections this machine has turned back so far because too many were waiting to
    be accepted. Each comes back a second later, then after two more, and so on."""
    names, values = (
        line.split() for line in Path("/proc/net/netstat").read_text().splitlines()[:2]
    )
    return int(values[names.index("ListenOverflows")])


@contextlib.contextmanager
def running(
    command: Sequence[str], *, core: int | None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`command` on `core`, or on all for None, from when it has printed the URL it listens
    on; ended at the end.

    Raises RuntimeError with all that it printed, if it does not come to that.
    """
    with tempfile.NamedTemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})  # its threads inherit it
            yield Server(process, _address(process, Path(output.name)), core)
        finally:
            process.terminate()  # no harm to one that has ended
            try:
                process.wait(LINGER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], output: Path) -> Address:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        if found := _LISTENING.search(output.read_text()):
            return found[1], int(found[2])
        time.sleep(0.02)
    raise RuntimeError(f"the server does not listen; it printed:\n{output.read_text()}")


@contextlib.contextmanager
def pushdemo(
    *,
    interval: float,
    payload: int,
    core: int | None,
    workers: int = 10,
    more: str = "",
    pure: bool = False,
) -> Iterator[Server]:
    """This application, run by `paster serve`, with benchmarks.feed as its feed `bench`.

    interval: seconds from one value to the next.
    payload: bytes of a value.
    more: lines for the application's section.
    pure: without what is in C.
    """
    text = _INI.format(
        checkout=CHECKOUT, interval=interval, payload=payload, workers=workers, more=more
    )
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as ini:
        ini.write(text)
        ini.flush()
        paster = str(Path(sys.executable).with_name("paster"))
        environment = {
            "PYTHONPATH": str(CHECKOUT),
            "PUSHDEMO_PURE_PYTHON": "1" if pure else "",
        }
        with running([paster, "serve", ini.name], core=core, environment=environment) as server:
            yield server
