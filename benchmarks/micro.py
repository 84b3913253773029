"""What a memoized hit, a cold storm and an encoded event cost: python -m benchmarks.micro

Needs pyperf. cachetools and dogpile.cache are measured if they are installed; this application
needs neither.

Hits: a call whose value is there already, with no argument and with one.

Events: what a framing does once for each event, whatever the number of clients: an `Event` is made
of a value that is computed already, and encoded. A fresh one each time, so its store of frames is
empty: a Gzip row is the encoding by the framing inside and then the compression, and the
compression alone is what the row has more than that framing's own. MB/s (1,000,000 bytes) count
the value and not the frame. A text is one line without anything to escape, and it is ASCII unless
its title says otherwise; the images are random bytes, for they come compressed.

How these are timed: a round has one worker process of pyperf's for each row, one after the other,
and the next round starts again with the first row, so that a busy moment of the machine meets many
rows a little and no row alone. A process warms up once and then takes VALUES values, each of them
a loop of MIN_TIME or longer, of which pyperf finds the length in the first round; all workers are
on one core, if there is a choice. `timeit` has the loop, with garbage collection off, and its
share of each call is some 10 ns. Median and middle half are of all values of all rounds. A ratio
compares two medians of the same run.

Storm: THREADS threads ask at the same moment for what takes SLOW seconds and was never computed,
or fails. Once for each library, in this process, on any core: computations are counted, and the
seconds until the last thread has its answer are mostly sleep, so this is nothing for pyperf.

--json writes what was measured to a file. `measure` returns it, and `markdown` shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import os
import random
import statistics
import sys
import threading
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pyperf

from benchmarks.versions import version
from pushdemo.lib.memoize import memorize
from pushdemo.push.compute.payload import Blob, Data, Payload, Text, payload_of
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event, Value

ROUNDS = 6  # so many processes for each row
VALUES = 3  # for each process
MIN_TIME = 0.02  # seconds for each value
THREADS = 50
SLOW = 0.1  # seconds
DURATION = 3600  # seconds: nothing expires here

OURS = "pushdemo"
DEFAULT = "Multipart"  # what a client gets that has no wish
MICRO = 1e6
MEGA = 1e6


class Timing(TypedDict):
    """Seconds for each call: the median, and the quartiles."""

    low: float
    median: float
    high: float


class Hits(TypedDict):
    """By library; None: it is not installed."""

    title: str
    rows: dict[str, Timing | None]


class Events(TypedDict):
    """By framing. bytes: what the value has."""

    title: str
    bytes: int
    rows: dict[str, Timing]


class Answer(TypedDict):
    """seconds: until the last thread had it."""

    computations: int
    seconds: float


class Storm(TypedDict):
    """By library; None: it is not installed."""

    title: str
    rows: dict[str, Answer | None]


class Results(TypedDict):
    """All that was measured, fit for JSON. versions: of Python and what else was installed."""

    versions: dict[str, str]
    rounds: int
    values: int
    hits: list[Hits]
    storms: list[Storm]
    events: list[Events]


# --- What is measured

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


class Library(NamedTuple):
    """distribution: its name where packages are installed from; None: it is always there.
    decorator: makes one with an empty cache."""

    distribution: str | None
    decorator: Callable[[], Decorator]

    @property
    def installed(self) -> bool:
        # Not by an import: every worker asks this for all libraries, and runs one.
        return self.distribution is None or version(self.distribution) is not None


LIBRARIES = {
    OURS: Library(None, lambda: memorize(duration=DURATION)),
    "functools.lru_cache": Library(None, _lru_cache),
    "cachetools, lock": Library("cachetools", lambda: _cachetools(lock=threading.RLock())),
    "cachetools, condition": Library(
        "cachetools", lambda: _cachetools(condition=threading.Condition())
    ),
    "dogpile.cache, memory": Library("dogpile.cache", _dogpile),
}


def _nothing() -> str:
    return "value"


def _one(name: str) -> str:
    return name


# Title to what is memoized, and how it is called.
CALLS: dict[str, tuple[Callable[..., str], str]] = {
    "no argument": (_nothing, "f()"),
    "one argument": (_one, "f(name)"),
}


def hit_timer(library: str, title: str) -> timeit.Timer:
    function, call = CALLS[title]
    memoized = LIBRARIES[library].decorator()(function)
    # The call is the setup, too: it is the one that computes.
    return timeit.Timer(call, setup=call, globals={"f": memoized, "name": "clock"})


def _text(size: int, letter: str = "A") -> Payload:
    """letter: what stands for each A, of which 100,000 bytes have some 800."""
    # Not above: to make its filler takes longer than all else that a worker does before it starts.
    from benchmarks.feed import stamp

    return payload_of(stamp(size).replace("A", letter))


def _mapping() -> Payload:
    return payload_of(
        {
            "orders": 42,
            "total": 1234.5,
            "at": "2009-02-04T12:00:00",
            "open": True,
            "regions": {"eu": 17, "us": 20, "asia": 5},
            "latest": [{"id": number, "price": number / 4} for number in range(1001, 1006)],
        }
    )


def _image(size: int) -> Payload:
    return Blob(random.Random(0).randbytes(size), "image/png")


_MULTIPART = Multipart("0123456789abcdef" * 2)
_IMAGES: dict[str, Framing] = {DEFAULT: _MULTIPART, "Images": Images(_MULTIPART)}
_PLAIN: dict[str, Framing] = {
    DEFAULT: _MULTIPART,
    "EventStream": EventStream(),
    "NdJson": NdJson(),
}
_FORMATS: dict[str, Framing] = {
    **_PLAIN,
    "Gzip(EventStream)": Gzip(EventStream()),
    "Gzip(Multipart)": Gzip(_MULTIPART),
}

# Title to what makes the value, and the framings that can carry it.
EVENTS: dict[str, tuple[Callable[[], Payload], dict[str, Framing]]] = {
    "short text": (lambda: _text(250), _FORMATS),
    "long text": (lambda: _text(100_000), _FORMATS),
    "long text, not all ASCII": (lambda: _text(100_000, "\u00c4"), _PLAIN),
    "mapping": (_mapping, _FORMATS),
    "small image": (lambda: _image(250), _IMAGES),
    "large image": (lambda: _image(100_000), _IMAGES),
}


def event_timer(title: str, framing: str) -> timeit.Timer:
    make, framings = EVENTS[title]
    names = {
        "Event": Event,
        "encode": framings[framing].encode,
        "value": Value(make(), time.time(), fresh_until=0, took=0.25),
    }
    return timeit.Timer("encode(Event(1, '01234567-1', 'clock', value))", globals=names)


def size_of(payload: Payload) -> int:
    match payload:
        case Text(text) | Data(text):
            return len(text.encode())
        case Blob(data):
            return len(data)


def storm(decorate: Decorator, *, fails: bool) -> Answer:
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
    return {"computations": len(computations), "seconds": time.perf_counter() - start}


# --- pyperf's rounds
#
# pyperf's manager starts this module again for each worker and tells it a number: of the benchmark
# that it is to run, in the order in which they are defined. So each process has to define the same,
# in the same order, and a benchmark that comes back in the next round is another, with a name of
# its own.


class Row(NamedTuple):
    name: str
    timer: Callable[[], timeit.Timer]


def hit_row(title: str, library: str) -> Row:
    return Row(f"{title}: {library}", functools.partial(hit_timer, library, title))


def event_row(title: str, framing: str) -> Row:
    return Row(f"{title}: {framing}", functools.partial(event_timer, title, framing))


def all_rows() -> list[Row]:
    installed = [name for name, library in LIBRARIES.items() if library.installed]
    return [
        *(hit_row(title, name) for title in CALLS for name in installed),
        *(event_row(title, name) for title, (_, framings) in EVENTS.items() for name in framings),
    ]


def _in_rounds(rounds: int) -> Iterator[tuple[int, Row]]:
    return itertools.product(range(1, rounds + 1), all_rows())


def _elapsed(loops: int, row: Row) -> float:
    return row.timer().timeit(loops)


def _bench(runner: pyperf.Runner, number: int, row: Row) -> Any:
    """In the manager: a pyperf.Benchmark, of one more process. In a worker: its own if it is this,
    or else None."""
    return runner.bench_time_func(f"{row.name}, round {number}", _elapsed, row)


def _runner() -> pyperf.Runner:
    def hand_on(command: list[str], args: argparse.Namespace) -> None:
        command.append(f"--rounds={args.rounds}")

    runner = pyperf.Runner(
        values=VALUES,
        processes=1,
        min_time=MIN_TIME,
        program_args=("-m", "benchmarks.micro"),
        add_cmdline_args=hand_on,
    )
    runner.argparser.add_argument("--rounds", type=int)
    return runner


def work() -> None:
    """What a worker does: its manager has told it all, in the command line."""
    runner = _runner()
    rounds = runner.parse_args().rounds
    for number, row in _in_rounds(rounds):
        _bench(runner, number, row)


def time_all(rounds: int) -> dict[str, Timing]:
    """By a row's name. pyperf says on standard error where it is."""
    runner = _runner()
    arguments = ["--quiet", f"--rounds={rounds}"]
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        arguments.append(f"--affinity={max(cores)}")
    args = runner.parse_args(arguments)
    loops: dict[str, int] = {}
    values: dict[str, list[float]] = {}
    with contextlib.redirect_stdout(sys.stderr):
        for number, row in _in_rounds(rounds):
            args.loops = loops.get(row.name, 0)  # 0: find out
            bench = _bench(runner, number, row)
            loops[row.name] = bench.get_runs()[-1].get_loops()
            values.setdefault(row.name, []).extend(bench.get_values())
    return {name: _timing(found) for name, found in values.items()}


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return {"low": low, "median": median, "high": high}


# --- All together


def measure(rounds: int = ROUNDS) -> Results:
    """Measure everything. Once per process: pyperf allows one Runner. The working directory must be
    one from which `python -m benchmarks.micro` runs."""
    timings = time_all(rounds)
    return {
        "versions": _versions(),
        "rounds": rounds,
        "values": VALUES,
        "hits": [
            {
                "title": title,
                "rows": {name: timings.get(hit_row(title, name).name) for name in LIBRARIES},
            }
            for title in CALLS
        ],
        "storms": [_storms("succeeds", fails=False), _storms("fails", fails=True)],
        "events": [
            {
                "title": title,
                "bytes": size_of(make()),
                "rows": {name: timings[event_row(title, name).name] for name in framings},
            }
            for title, (make, framings) in EVENTS.items()
        ],
    }


def _storms(title: str, *, fails: bool) -> Storm:
    return {
        "title": title,
        "rows": {
            name: storm(library.decorator(), fails=fails) if library.installed else None
            for name, library in LIBRARIES.items()
        },
    }


def _versions() -> dict[str, str]:
    others = (library.distribution for library in LIBRARIES.values() if library.distribution)
    found = {name: version(name) for name in ("pyperf", *others)}
    return {"Python": sys.version.split()[0], **{name: v for name, v in found.items() if v}}


# --- As text


def markdown(results: Results) -> str:
    """The tables, to be read as they are or put into a document, without a heading above them."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    parts = [
        f"{versions}. {results['rounds']} rounds, each a process for each row and"
        f" {results['values']} values from it."
    ]
    for hits in results["hits"]:
        ours = hits["rows"][OURS]
        assert ours
        head = (f"A hit, {hits['title']}", "median, µs", "middle half, µs", f"ratio to {OURS}")
        lines = [
            (name, *(_columns(timing, ours) if timing else _absent(3)))
            for name, timing in hits["rows"].items()
        ]
        parts.append(_table(head, lines))
    for storms in results["storms"]:
        title = f"A cold storm of {THREADS} threads, {SLOW * 1000:.0f} ms, it {storms['title']}"
        lines = [
            (name, *(_storm_columns(answer) if answer else _absent(2)))
            for name, answer in storms["rows"].items()
        ]
        parts.append(_table((title, "computations", "seconds"), lines))
    for events in results["events"]:
        size, rows = events["bytes"], events["rows"]
        title = f"An event, {events['title']}, {size:,} bytes"
        head = (title, "median, µs", "middle half, µs", f"ratio to {DEFAULT}")
        lines = [
            (name, *_columns(timing, rows[DEFAULT]), f"{size / timing['median'] / MEGA:,.1f}")
            for name, timing in rows.items()
        ]
        parts.append(_table((*head, "MB/s"), lines))
    return "\n\n".join(parts) + "\n"


def _columns(timing: Timing, reference: Timing) -> tuple[str, ...]:
    return (
        _micro(timing["median"]),
        f"{_micro(timing['low'])} - {_micro(timing['high'])}",
        f"{timing['median'] / reference['median']:.2f}",
    )


def _storm_columns(answer: Answer) -> tuple[str, ...]:
    return str(answer["computations"]), f"{answer['seconds']:.2f}"


def _absent(columns: int) -> tuple[str, ...]:
    return ("not installed", *[""] * (columns - 1))


def _micro(seconds: float) -> str:
    micro = seconds * MICRO
    return f"{micro:.3f}" if micro < 10 else f"{micro:,.1f}"


def _table(head: Sequence[str], lines: list[tuple[str, ...]]) -> str:
    """Markdown, padded: text to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *rest))} |"

    rule = line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join([line(head), rule, *map(line, lines)])


def main() -> None:
    if "--worker" in sys.argv:
        work()
        return
    parser = argparse.ArgumentParser(
        description="What a memoized hit, a cold storm and an encoded event cost."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE, too")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    args = parser.parse_args()
    results = measure(args.rounds)
    if args.json:
        args.json.parent.mkdir(exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(markdown(results), end="")


if __name__ == "__main__":
    main()
