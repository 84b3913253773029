"""The figures of processes as metrics, in the text formats of Prometheus and OpenMetrics.

https://prometheus.io/docs/instrumenting/exposition_formats/ and, for the names,
https://prometheus.io/docs/practices/naming/. The formats are prometheus_client's; it is an extra,
pushdemo[metrics].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

METRICS = "~metrics"  # the name by which they are asked for, beside the feeds'

Report = dict[str, Any]


class NotInstalled(Exception):
    """There is no prometheus_client."""


def exposition(reports: Sequence[Report], accept: str) -> tuple[str, bytes]:
    """The content type, and the metrics of these processes, all together.

    reports: see pushdemo.push.status.Status.report.
    accept: the request's header.

    Raises NotInstalled.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise NotInstalled from None
    registry = CollectorRegistry()
    registry.register(_Collector(reports))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    """See prometheus_client.registry.Collector."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = reports
        self._living = [report for report in reports if not report.get("gone")]

    def collect(self) -> Iterator[Metric]:
        yield from self._feeds()
        yield from self._streams()
        yield from self._clients()
        yield from self._processes()

    def _feeds(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, key, help_text in (
            ("pushdemo_computations", "computations", "Computations that have ended."),
            ("pushdemo_computation_failures", "failures", "Computations that failed."),
            ("pushdemo_computation_seconds", "seconds", "Time that computations took."),
            ("pushdemo_values", "values", "Different values of a feed that a process has had."),
        ):
            counter = CounterMetricFamily(name, help_text, labels=("feed",))
            for feed, ones in self._by_feed(self._reports).items():
                counter.add_metric((feed,), sum(one[key] for one in ones))
            yield counter
        failing = GaugeMetricFamily(
            "pushdemo_feed_failing", "1 while the feed's computations fail.", labels=("feed",)
        )
        computed = GaugeMetricFamily(
            "pushdemo_value_timestamp_seconds",
            "When the newest value was computed, in seconds since the epoch.",
            labels=("feed",),
        )
        for feed, ones in self._by_feed(self._living).items():
            failing.add_metric((feed,), any(one["failing_since"] is not None for one in ones))
            if known := [one["computed"] for one in ones if one["computed"] is not None]:
                computed.add_metric((feed,), max(known))
        yield failing
        yield computed
        latency = HistogramMetricFamily(
            "pushdemo_publish_to_sent_seconds",
            "Time from an event's publication until its last client was sent it, one observation"
            " for each client; without slow clients.",
            labels=("feed",),
        )
        bounds = [str(bound) for bound in self._reports[0]["bounds"]] + ["+Inf"]
        for feed, ones in self._by_feed(self._reports).items():
            counted = (one["latency"]["counts"] for one in ones)
            counts = [sum(some) for some in zip(*counted, strict=True)]
            reached = [sum(counts[: number + 1]) for number in range(len(counts))]
            latency.add_metric(
                (feed,),
                list(zip(bounds, reached, strict=True)),
                sum(one["latency"]["total"] for one in ones),
            )
        yield latency

    def _streams(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ("feed", "format")
        open_now = GaugeMetricFamily("pushdemo_streams", "Streams that are open.", labels=labels)
        for key, number in self._by_format(
            self._living, lambda one: one["opened"] - one["closed"]
        ).items():
            open_now.add_metric(key, number)
        yield open_now
        for name, member, help_text in (
            ("pushdemo_streams_opened", "opened", "Streams that were opened."),
            ("pushdemo_deliveries", "deliveries", "Events sent, once for each client."),
            ("pushdemo_delivered_bytes", "bytes", "Bytes of these."),
        ):
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for key, number in self._by_format(self._reports, itemgetter(member)).items():
                counter.add_metric(key, number)
            yield counter

    def _clients(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        for name, member, help_text in (
            ("pushdemo_clients_slow", "slow", "Times that a client could not take an event."),
            ("pushdemo_events_skipped", "skipped", "Events that slow clients were not sent."),
            ("pushdemo_clients_dropped", "dropped", "Clients that took nothing for too long."),
        ):
            counter = CounterMetricFamily(name, help_text, labels=("format",))
            totals: dict[str, int] = defaultdict(int)
            for report in self._reports:
                for form, one in report["clients"].items():
                    totals[form] += one[member]
            for form, total in totals.items():
                counter.add_metric((form,), total)
            yield counter

    def _processes(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        limit = GaugeMetricFamily("pushdemo_streams_limit", "Streams that may be open.")
        limit.add_metric((), sum(report["max_streams"] for report in self._living))
        yield limit
        memory = GaugeMetricFamily(
            "pushdemo_resident_memory_bytes", "Memory of a process.", labels=("pid",)
        )
        started = GaugeMetricFamily(
            "pushdemo_start_time_seconds",
            "When a process began to count, in seconds since the epoch.",
            labels=("pid",),
        )
        errors = CounterMetricFamily(
            "pushdemo_thread_errors",
            "Errors that a thread went on after, and should not have had.",
            labels=("pid", "thread"),
        )
        alive = GaugeMetricFamily(
            "pushdemo_thread_alive", "1 while a thread runs.", labels=("pid", "thread")
        )
        broker = GaugeMetricFamily(
            "pushdemo_broker_up", "1 while the broker answers.", labels=("pid",)
        )
        for report in self._living:
            pid = str(report["pid"])
            if report["memory"] is not None:
                memory.add_metric((pid,), report["memory"])
            started.add_metric((pid,), report["since"])
            for thread, health in report["threads"].items():
                errors.add_metric((pid, thread), health["errors"])
                alive.add_metric((pid, thread), health["alive"])
            if report["broker"] is not None:
                broker.add_metric((pid,), not report["broker"]["away"])
        yield from (memory, started, errors, alive)
        if broker.samples:
            yield broker

    def _by_feed(self, reports: Iterable[Report]) -> dict[str, list[Report]]:
        found: dict[str, list[Report]] = defaultdict(list)
        for report in reports:
            for feed, one in report["feeds"].items():
                found[feed].append(one)
        return found

    @staticmethod
    def _by_format(
        reports: Iterable[Report], of: Callable[[dict[str, int]], int]
    ) -> dict[tuple[str, str], int]:
        totals: dict[tuple[str, str], int] = defaultdict(int)
        for report in reports:
            for feed, one in report["feeds"].items():
                for form, streams in one["streams"].items():
                    totals[feed, form] += of(streams)
        return totals
