"""The cluster of tests/clusters.py, with one fault of each kind. `make clusters` has 150."""

from __future__ import annotations

import os
import random

import pytest

from tests.clusters import KINDS, run


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_whatever_happens_every_client_sees_every_event_once_or_is_told(kind: str) -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**6)))  # printed, to be tried again
    faults = len(KINDS) if kind == "redis" else 4
    report = run(60, faults, seed, kind=kind, quiet=5.0)
    print(report.figures)
    assert report.found == []
    assert report.hung == []
    assert report.right, report.skipped
    assert report.figures["broken"] == []
    assert set(report.figures["quiet"].values()) == {1}  # computed once a period, in the cluster
    assert report.figures["events seen"] > 100
