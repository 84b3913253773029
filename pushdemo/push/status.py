"""What there is to say of the feeds and streams of a process, as values that JSON has.

Two feeds are made of it, like any others but for their names, which no application can use:

    ~feeds    how each feed is: for everybody who may see the feeds
    ~status   how the process is, and the others that it knows of: for who runs it
"""

from __future__ import annotations

import datetime
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pushdemo.push.channel import Channel
from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.compute.executor import InThread
from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.counting import Counts, quantile
from pushdemo.push.event import Event

INTERNAL = "~"  # what the names of such feeds begin with
FEEDS = "~feeds"
STATUS = "~status"
VERSION = 1  # of a report: two releases may meet on one server, or by one broker
INTERVAL = 2.0  # seconds between two values of them

Report = dict[str, Any]


def _nothing_yet() -> InThread:
    raise NotImplementedError("an engine has what computes this")


# Computed on each beat, and anew for who comes between two.
FIGURES_FEED = Declaration(FEEDS, _nothing_yet, interval=INTERVAL, duration=INTERVAL / 2)
STATUS_FEED = replace(FIGURES_FEED, name=STATUS)


class Status:
    """See the module.

    channels, declarations: of the feeds, by name. They may grow.
    facts: what else is to be said of the process.
    others: what other processes have said of themselves, for a person.
    clock: monotonic seconds. wall: seconds since the epoch.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        declarations: Mapping[str, Declaration],
        counts: Counts,
        *,
        facts: Callable[[], Report] = dict,
        others: Callable[[], Iterable[Report]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._channels = channels
        self._declarations = declarations
        self._counts = counts
        self._facts = facts
        self._others = others
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._rates: dict[str, Rate] = {}

    def declarations(self) -> list[Declaration]:
        """Those of the two feeds."""
        return [
            replace(FIGURES_FEED, make_executor=lambda: InThread(FEEDS, self.feeds)),
            replace(STATUS_FEED, make_executor=lambda: InThread(STATUS, self.processes)),
        ]

    def feeds(self) -> list[Report]:
        """One object for each feed.

        name.
        kind: "computed", "pushed" or "relayed".
        interval, duration: seconds; null where the values come from elsewhere.
        repeats: whether each beat sends the value.
        type: the media type of the newest value; null where there is none.
        computed: when that was, in seconds since the epoch; null where there is none.
        took: seconds that its computation took; null where there is none.
        failing_since: when the feed failed first, in seconds since the epoch; null while it works.
        watchers: the open streams.
        values: how many values this process has had since its start, and
        deliveries: how often it has sent one to a client.
        """
        return [self._feed(name, one) for name, one in list(self._declarations.items())]

    def _feed(self, name: str, declared: Declaration) -> Report:
        channel, counts = self._channels[name], self._counts.feed(name)
        return {
            "name": name,
            **described(declared),
            **_newest(channel),
            "watchers": counts.watchers,
            "values": channel.values,
            "deliveries": counts.deliveries,
        }

    def processes(self) -> Report:
        """This process, and the others that it knows of: see `merged`."""
        return merged(self._wall(), [self.process(), *self._others()])

    def process(self) -> Report:
        """This one, for a person."""
        return readable(self.report(), self._wall())

    def report(self) -> Report:
        """This one: what it is and has, its feeds, and what it has counted."""
        declarations = list(self._declarations.items())
        for name, _ in declarations:
            self._counts.feed(name)  # also where there is nothing to count yet
        counts = self._counts.snapshot()
        feeds = {}
        for name, declared in declarations:
            counted = counts["feeds"][name]
            deliveries = sum(one["deliveries"] for one in counted["streams"].values())
            feeds[name] = {
                **described(declared),
                **_newest(self._channels[name]),
                "values": self._channels[name].values,
                "deliveries_per_second": self._rate(name, deliveries),
                **counted,
            }
        return {
            "version": VERSION,
            "node": socket.gethostname(),
            "pid": os.getpid(),
            "since": counts["since"],
            "memory": resident_memory(),
            **self._facts(),
            "bounds": counts["bounds"],
            "feeds": feeds,
            "clients": counts["clients"],
        }

    def _rate(self, name: str, deliveries: int) -> float | None:
        """Several ask for a report: a request, another worker, a node."""
        with self._lock:
            return self._rates.setdefault(name, Rate(self._clock)).of(deliveries)


class Rate:
    """How fast a number grows, over the last seconds."""

    LEAST = 1.0  # seconds between two looks that are told apart
    WINDOW = 10.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def of(self, number: int) -> float | None:
        """Per second, since a look that was up to WINDOW ago, or since the last; None at first."""
        now = self._clock()
        while len(self._seen) > 1 and self._seen[1][0] <= now - self.WINDOW:
            del self._seen[0]
        rate = None
        if self._seen and now - self._seen[0][0] >= self.LEAST:
            since, before = self._seen[0]
            rate = round((number - before) / (now - since), 3)
        if not self._seen or now - self._seen[-1][0] >= self.LEAST:
            self._seen.append((now, number))
        return rate


def described(declared: Declaration) -> Report:
    """What a declaration says, as far as it concerns who watches."""
    computed = declared.make_executor is not None
    return {
        "kind": "computed" if computed else "pushed" if declared.is_pushed else "relayed",
        "interval": declared.interval if computed else None,
        "duration": declared.duration if computed else None,
        "repeats": computed and declared.repeat,
    }


def content_type_of(newest: Event | None) -> str | None:
    """That of a value; None where there is none."""
    match newest and newest.value.payload:
        case Text():
            return "text/plain"
        case Data():
            return "application/json"
        case Blob(_, content_type):
            return content_type
    return None


def resident_memory() -> int | None:
    """Bytes of this process that are in memory; None where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _newest(channel: Channel) -> Report:
    newest = channel.last
    statuses = channel.statuses()
    return {
        "type": content_type_of(newest),
        "computed": None if newest is None else newest.value.computed,
        "took": None if newest is None else newest.value.took,
        "failing_since": statuses[0].failing_since if statuses else None,
    }


TABLES = ("processes", "feeds", "streams", "clients", "threads")


def merged(at: float, readable_reports: Iterable[Report]) -> Report:
    """What several processes have to say of themselves: a list of rows for each of TABLES."""
    tables: dict[str, list[Report]] = {name: [] for name in TABLES}
    for one in readable_reports:
        for name, rows in tables.items():
            found = one.get(name)
            rows += found if isinstance(found, list) else []
    return {"at": _iso(at), **tables}


def readable(report: Report, now: float) -> Report:
    """The same with the figures that a person looks for, as rows of tables. Times are ISO 8601, and
    where a name has no unit, a number counts something."""
    process = f"{report['node']} {report['pid']}"
    feeds = [_feed_row(report, name, one, now) for name, one in report["feeds"].items()]
    broker = report["broker"]
    return {
        "version": VERSION,
        "processes": [
            {
                "process": process,
                "up_seconds": round(max(0.0, now - report["since"])),
                "memory_bytes": report["memory"],
                "streams": report["streams"],
                "max_streams": report["max_streams"],
                "deliveries_per_second": round(
                    sum(one["deliveries_per_second"] or 0 for one in feeds), 1
                ),
                "broker": None if broker is None else broker["away"] or "connected",
            }
        ],
        "feeds": [{"process": process, **one} for one in feeds],
        "streams": [
            {
                "process": process,
                "feed": name,
                "format": form,
                "open": counts["opened"] - counts["closed"],
                **{key: counts[key] for key in ("opened", "deliveries", "bytes")},
            }
            for name, one in report["feeds"].items()
            for form, counts in one["streams"].items()
        ],
        "clients": [
            {"process": process, "format": form, **counts}
            for form, counts in report["clients"].items()
        ],
        "threads": [
            {"process": process, "thread": name, **health}
            for name, health in report["threads"].items()
        ],
    }


def _feed_row(report: Report, name: str, feed: Report, now: float) -> Report:
    counts = feed["latency"]["counts"]
    streams = feed["streams"].values()
    failing_since = feed["failing_since"]
    return {
        "feed": name,
        "kind": feed["kind"],
        "watchers": sum(one["opened"] - one["closed"] for one in streams),
        "age_seconds": _rounded(None if feed["computed"] is None else now - feed["computed"]),
        "took_seconds": _rounded(feed["took"]),
        "computations": feed["computations"],
        "failures": feed["failures"],
        "failing_since": None if failing_since is None else _iso(failing_since),
        "values": feed["values"],
        "deliveries": sum(one["deliveries"] for one in streams),
        "deliveries_per_second": feed["deliveries_per_second"],
        "sent_p50_ms": _milliseconds(quantile(report["bounds"], counts, 0.5)),
        "sent_p99_ms": _milliseconds(quantile(report["bounds"], counts, 0.99)),
    }


def _iso(at: float) -> str:
    when = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return when.isoformat(timespec="milliseconds")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(0.0, seconds), 3)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None or seconds == float("inf") else round(seconds * 1000, 3)
