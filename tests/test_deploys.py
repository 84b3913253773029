"""Streams outlive the workers that began them. A short run of tests/deploys.py."""

from __future__ import annotations

from tests.deploys import run

STREAMS = 240


def test_no_stream_ends_while_workers_are_killed_recycled_and_reloaded() -> None:
    report = run(STREAMS, seed=1)
    assert not report.verdict.faults, str(report)
    assert report.streams == STREAMS
    assert report.started > 4 + 3 + 4  # and so some were recycled
    # Once for all workers and clients, and once a period: by the broadcaster, and by the one that
    # has taken over when the server was reloaded. A computation under way was begun anew.
    assert report.callers == 2
    assert report.calls <= report.periods + 2
