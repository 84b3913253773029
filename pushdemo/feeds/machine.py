"""How busy this machine and this process are, by psutil: nothing here waits or takes long."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import psutil


class Cpu:
    """How much of the processors' time is spent, from call to call. Any thread.

    psutil.cpu_percent() remembers the last call of each thread, and the calls of a feed may come
    from a new thread each: then it says 0 for ever.

    times: the processors' seconds since the machine started, as psutil.cpu_times() has them.
    """

    def __init__(self, times: Callable[[], Any] = psutil.cpu_times) -> None:
        self._times = times
        self._lock = threading.Lock()
        self._busy = self._total = self._percent = 0.0

    def percent(self) -> float:
        """Since the last call; the first time, since the machine started."""
        with self._lock:
            times = self._times()
            # Linux counts what guests use as the user's already.
            total = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
            busy = total - times.idle - getattr(times, "iowait", 0)
            # These clocks tick a hundred times a second: between two ticks nothing is known, and
            # the last answer is still the best. And time spent on I/O may be corrected downwards.
            if total > self._total:
                percent = 100 * (busy - self._busy) / (total - self._total)
                self._percent = round(min(100.0, max(0.0, percent)), 1)
                self._busy, self._total = busy, total
            return self._percent


def memory() -> tuple[float, int, int]:
    """Percent of it, and bytes, in use, and the bytes that there are."""
    # What is available, and not what is free: caches are given back when somebody asks.
    there = psutil.virtual_memory()
    used = there.total - there.available
    return round(100 * used / there.total, 1), used, there.total


_cpu = Cpu()


def load() -> dict[str, float]:
    """The machine and this process, now; `cpu_percent` since the last call."""
    percent, used, total = memory()
    return {
        "cpu_percent": _cpu.percent(),
        "cpu_count": os.cpu_count() or 1,
        "memory_percent": percent,
        "memory_used_bytes": used,
        "memory_total_bytes": total,
        **load_averages(),
        **process(),
    }


def load_averages() -> dict[str, float]:
    """Processes that run or want to, on average; empty where the system has no such number."""
    try:
        averages = os.getloadavg()
    except (AttributeError, OSError):
        return {}
    names = ("load_average_1_minute", "load_average_5_minutes", "load_average_15_minutes")
    return {name: round(average, 2) for name, average in zip(names, averages, strict=True)}


def process() -> dict[str, int]:
    """What this process holds; each connection is a descriptor."""
    # To tell connections from files costs eight times as much when there are thousands (120 ms for
    # 8,000 of them): the system's whole table has to be read, and every descriptor looked at.
    this = psutil.Process()
    if sys.platform == "win32":
        descriptors = this.num_handles()
    else:
        descriptors = this.num_fds()
    return {"process_descriptors": descriptors, "process_threads": this.num_threads()}
