"""The contest of many servers: that it measures what it says, with few clients of two of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest import __main__ as contest
from benchmarks.contest import measuring, report
from benchmarks.contest.contestants import CONTESTANTS, FLOOR, OURS, Contestant
from benchmarks.contest.measuring import Case, NotFinished, measure
from benchmarks.server import running

CASES = [
    Case(20, 250, 0.1, 3),
    Case(20, 100_000, 0.1, 3),
    Case(20, 250, 0.1, 3, busy=True),
]


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """crowd and bare, compiled."""
    if not shutil.which("cc"):
        if os.environ.get("CI"):
            pytest.fail("there is no compiler")
        pytest.skip("there is no compiler")
    raise_descriptor_limit()
    directory = tmp_path_factory.mktemp("build")
    contest.compile_programs(directory, "-Wall", "-Wextra", "-Werror")
    return directory


def figures(programs: Path, contestant: Contestant, case: Case) -> measuring.Figures:
    core = min(os.sched_getaffinity(0))
    return measure(contestant, case, programs, (core, core))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ours(programs: Path, case: Case) -> None:
    found = figures(programs, OURS, case)
    assert found[measuring.LOST] == 0
    assert case.size < found[measuring.WIRE] < case.size + 400
    assert 0 < found[measuring.P50] <= found[measuring.P99]
    assert found[measuring.FIRST] > 0
    assert found[measuring.CPU] > 0


def test_the_floor(programs: Path) -> None:
    for case in CASES[:2]:
        found = figures(programs, FLOOR, case)
        assert found[measuring.LOST] == 0
        assert found[measuring.WIRE] == case.size + len("data: \n\n")


def test_a_server_that_does_not_start_is_told_of(programs: Path) -> None:
    nobody = Contestant("nobody", lambda setting: running(["false"], core=setting.core))
    with pytest.raises(NotFinished, match="does not start"):
        figures(programs, nobody, CASES[0])


def test_one_whose_streams_end_is_told_of(programs: Path) -> None:
    ends = Contestant("ends", OURS.start, path="/server/index/bench?limit=1")
    with pytest.raises(NotFinished, match="a stream ended"):
        figures(programs, ends, CASES[0])


def test_the_report_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Contestant, "missing", lambda self: [])  # noqa: ARG005
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(report, "PLOT", tmp_path / "results.svg")
    monkeypatch.setattr(report, "CHECKOUT", tmp_path)
    monkeypatch.setattr(report, "MICRO", tmp_path / "none")
    names = [*report.COLUMNS, measuring.EVENT, measuring.LOST, "listen overflows"]
    runs = []
    for number in range(3):
        for one, case in contest.runs([], []):
            found = dict.fromkeys(names, (2.0 if one is OURS else 4.0) * (number + 1))
            found[measuring.EVENT] *= case.clients
            runs.append(report.Run(number, one.name, case.name, found, ""))
    runs.append(report.Run(2, OURS.name, contest.CASES[0].name, {}, "it fell over"))
    report.write(runs, contest.CASES, contest.GROWTH, CONTESTANTS)
    text = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| CPU a delivery, to the bare C loop | at most 1.1 | 0.50 (0.50 - 0.50) | kept |" in text
    )
    assert "| CPU a delivery, to sse-starlette | at most 0.2 |" in text
    assert "| memory, KiB a client | under 1 | 4.00 (2.00 - 6.00) | **missed by 300 %** |" in text
    assert "- pushdemo: 1 of 4 runs did not end: it fell over." in text
    assert "| pushdemo | 4 (2 - 6) |" in text
    assert "A straight line explains 100.0 % of it for pushdemo." in text
    for case in contest.CASES:
        assert f"## {case.name}\n" in text
    assert (tmp_path / "results.svg").read_text().startswith("<?xml")
