"""The arithmetic of docs/scaling.md, and its simulation."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import scaling
from benchmarks.scaling import FIGURES, Figures, Plan, deploy, loads, too_much

MEASURED = Figures(10.0, 50.0, 12.0, 60.0, 30.0, 10.0, 0.1)
PLAN = Plan(clients=1_000_000, machines=100, feeds=20, interval=5.0, size=250, asked=1, network=1e9)


def test_the_figures_that_were_measured_are_there() -> None:
    figures = Figures(**json.loads(FIGURES.read_text()))
    assert all(figure > 0 for figure in vars(figures).values())


def test_the_load_is_what_the_arithmetic_says() -> None:
    found = loads(PLAN, MEASURED)
    assert found["process: share of a core"] == pytest.approx(10_000 / 5 * 10e-6)
    assert found["process: an event is with its last client after, s"] == pytest.approx(0.1)
    # 4 events a second, read by 100 processes.
    assert found["engine: share of a core for events"] == pytest.approx(4 * (100 * 12 + 30) * 1e-6)
    # 2,000 leases, asked for three times in 7.5 s.
    assert found["engine: share of a core for leases"] == pytest.approx(2000 * 3 / 7.5 * 10e-6)
    assert found["engine: share of its network"] == pytest.approx(4 * 100 * 250 * 8 / 1e9)
    assert found["engine: memory, MB"] == pytest.approx(20 * 256 * 250 / 1e6)
    assert too_much(found) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"machines": 1, "asked": 20}, "a process delivers too much"),
        ({"machines": 20_000, "interval": 1.0}, "the engine has too many readers"),
        ({"size": 1 << 20, "machines": 350}, "the engine sends too many bytes"),
    ],
)
def test_what_is_too_much_is_said(change: dict[str, float], complaint: str) -> None:
    said = too_much(loads(replace(PLAN, **change), MEASURED))  # type: ignore[arg-type]
    assert any(line.startswith(complaint) for line in said)


def test_a_deploy_is_over_when_all_have_come_back() -> None:
    small = replace(PLAN, clients=40_000, machines=4)
    found = deploy(small, MEASURED, drain=10.0, retry=2.0, seed=1)
    assert found["clients that move"] == 10_000
    assert 1.0 <= found["half of them have an event again after, s"] <= 3.0
    assert found["all of them, s"] < 4.0
    assert found == deploy(small, MEASURED, drain=10.0, retry=2.0, seed=1)
    at_once = deploy(small, MEASURED, drain=0.0, retry=0.0, seed=1)
    assert at_once["all of them, s"] == pytest.approx(10_000 / 3 * 50e-6, rel=0.1)
    assert at_once["the most that wait at one machine"] > 3000


def test_the_script_says_what_a_plan_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--clients", "10000", "--machines", "1"]) == 0
    said = capsys.readouterr().out
    assert "process: share of a core: " in said
    assert "=> one engine and these machines carry it" in said
    with pytest.raises(SystemExit):
        scaling.main(["--machines", "0"])
    assert "must be more than 0" in capsys.readouterr().err
