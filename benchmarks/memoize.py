"""What a hit costs, and what a cold storm costs: python -m benchmarks.memoize

Hits: every library is timed in turn, round after round, so that a busy moment of the machine
meets them all alike. Median and spread (the middle half of the rounds) are per call, in µs.
Storm: 50 threads ask at the same moment for what takes 100 ms and was never computed, or fails.

cachetools and dogpile.cache are measured if they are installed; this application needs neither.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import statistics
import sys
import threading
import time
import timeit
from collections.abc import Callable
from typing import Any

from pushdemo.lib.memoize import memorize

ROUNDS = 25
CALLS = 10_000  # per library and round
THREADS = 50
SLOW = 0.1  # seconds
DURATION = 3600  # seconds: nothing expires here

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _lru_cache() -> Decorator:
    return functools.lru_cache(maxsize=1024)


def _cachetools(**synchronization: object) -> Decorator:
    cachetools: Any = importlib.import_module("cachetools")
    decorator: Decorator = cachetools.cached(cachetools.TTLCache(1024, DURATION), **synchronization)
    return decorator


def _dogpile() -> Decorator:
    region: Any = importlib.import_module("dogpile.cache").make_region()
    region.configure("dogpile.cache.memory", expiration_time=DURATION)
    decorator: Decorator = region.cache_on_arguments()
    return decorator


MAKERS: dict[str, Callable[[], Decorator]] = {
    "pushdemo": lambda: memorize(duration=DURATION),
    "functools.lru_cache": _lru_cache,
    "cachetools, lock": lambda: _cachetools(lock=threading.RLock()),
    "cachetools, condition": lambda: _cachetools(condition=threading.Condition()),
    "dogpile.cache, memory": _dogpile,
}


def installed() -> dict[str, Decorator]:
    """Name to a decorator whose cache is empty."""
    decorators = {}
    for name, make in MAKERS.items():
        with contextlib.suppress(ImportError):
            decorators[name] = make()
    return decorators


def _nothing() -> str:
    return "value"


def _one(name: str) -> str:
    return name


def hits(function: Callable[..., Any], *arguments: object) -> dict[str, list[float]]:
    """Name to µs per hit, one for each round."""
    timers = {
        name: timeit.Timer(
            "f(*a)" if arguments else "f()", globals={"f": decorate(function), "a": arguments}
        )
        for name, decorate in installed().items()
    }
    found: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            found[name].append(timer.timeit(CALLS) / CALLS * 1e6)
    return found


def storm(decorate: Decorator, *, fails: bool) -> tuple[int, float]:
    """How many computations, and seconds until the last caller had its answer."""
    computations = []
    together = threading.Barrier(THREADS + 1)

    def slow() -> None:
        computations.append(1)
        time.sleep(SLOW)
        if fails:
            raise LookupError("the feed is down")

    memoized = decorate(slow)

    def caller() -> None:
        together.wait()
        with contextlib.suppress(LookupError):
            memoized()

    threads = [threading.Thread(target=caller) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    together.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(computations), time.perf_counter() - start


def print_hits(title: str, found: dict[str, list[float]]) -> None:
    print(f"\nA hit, {title:<30} median   spread        ratio to ours")
    ours = statistics.median(found["pushdemo"])
    for name in MAKERS:
        if name not in found:
            print(f"  {name:<35} not installed")
            continue
        low, median, high = statistics.quantiles(found[name], n=4)
        print(f"  {name:<35} {median:5.2f}   {low:.2f} - {high:.2f}   {median / ours:6.2f}")


def print_storm(title: str, *, fails: bool) -> None:
    print(f"\nA cold storm of {THREADS} threads, {title:<18} computations   seconds")
    decorators = installed()
    for name in MAKERS:
        if name not in decorators:
            print(f"  {name:<46} not installed")
            continue
        count, seconds = storm(decorators[name], fails=fails)
        print(f"  {name:<46} {count:>6}   {seconds:10.2f}")


def main() -> None:
    print(f"Python {sys.version.split()[0]}, {ROUNDS} rounds of {CALLS:,} calls")
    print_hits("no argument", hits(_nothing))
    print_hits("one argument", hits(_one, "name"))
    print_storm("100 ms", fails=False)
    print_storm("100 ms, it fails", fails=True)


if __name__ == "__main__":
    main()
