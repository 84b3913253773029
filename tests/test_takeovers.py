"""Streams outlive the process that began them. A short run of tests/takeovers.py."""

from __future__ import annotations

import pytest

from tests.takeovers import PASTER, RUN, STEPS, run

STREAMS = 300


@pytest.mark.parametrize(("kind", "steps"), [(PASTER, tuple(STEPS)), (RUN, ("all of it", "yours"))])
def test_no_stream_ends_while_processes_take_over(kind: str, steps: tuple[str, ...]) -> None:
    report = run(kind, STREAMS, slow=30, reloads=2, steps=steps)
    assert not report.verdict.faults, str(report)
    assert report.streams == STREAMS + 2
    # One process at a time: the first, and the two that have taken over.
    assert report.callers == 3
    # A computation that was under way is begun anew.
    assert report.calls <= report.periods + 1 + 2
