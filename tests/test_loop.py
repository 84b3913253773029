"""A loop outlives whatever its turns do."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from pushdemo.push.loop import LONGEST_PAUSE, Loop
from tests.servers import HANG, until


class Work:
    """What a loop's turns do: `act` is looked at in each."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None
        self.turns = threading.Semaphore(0)
        self.farewells = 0
        self.pauses: list[float] = []
        self.loop = Loop("worker", self.turn, farewell=self.farewell, pause=self.pauses.append)
        self._go = threading.Semaphore(0)

    def turn(self) -> None:
        self._go.acquire(timeout=HANG)
        try:
            self.act()
        finally:
            self.turns.release()

    def farewell(self) -> None:
        self.farewells += 1

    def take(self, act: Callable[[], object] = lambda: None) -> None:
        """Have it take one turn, in which it does this."""
        self.act = act
        self._go.release()
        assert self.turns.acquire(timeout=HANG)

    def stop(self) -> None:
        thread = self.loop.stop()
        self._go.release()
        if thread is not None:
            thread.join(HANG)
            assert not thread.is_alive()


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.stop()


def fail(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


def test_it_starts_when_it_is_needed_and_stops_when_it_is_told(work: Work) -> None:
    assert work.loop.health == (True, 0, 0, "")
    work.loop.ensure()
    work.loop.ensure()
    work.take()
    work.stop()
    assert work.farewells == 1
    assert not work.loop.health.alive
    work.loop.ensure()  # nothing happens
    assert not work.loop.health.alive


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize(
    "error", [ValueError("no"), Unprintable(), SystemExit(1), KeyboardInterrupt(), MemoryError()]
)
def test_an_error_ends_a_turn_and_not_the_loop(
    work: Work, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    work.loop.ensure()
    work.take(fail(error))
    work.take()
    assert work.loop.health.errors == 1
    assert work.loop.health.alive
    assert type(error).__name__ in work.loop.health.last_error
    (record,) = caplog.records
    assert record.getMessage().startswith("worker goes on after an error")
    assert "in act" in record.getMessage()


def test_one_bad_turn_after_another_fills_neither_the_log_nor_a_processor(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.loop.ensure()
    for _ in range(100):
        work.take(fail(ValueError("no")))
    work.take()
    assert len(caplog.records) == 7  # the 1st, 2nd, 4th, … 64th
    assert work.pauses == sorted(work.pauses)
    assert work.pauses[0] < 0.01
    assert work.pauses[-1] == LONGEST_PAUSE
    work.take(fail(ValueError("no")))
    work.take()
    assert work.pauses[-1] == work.pauses[0]  # it had worked again


def test_an_exception_raised_in_it_by_another_thread_does_not_end_it(work: Work) -> None:
    work.loop.ensure()
    inside, go_on = threading.Event(), threading.Event()

    def spin() -> None:
        inside.set()
        while not go_on.wait(0.001):
            pass

    work.act = spin
    work._go.release()
    assert inside.wait(HANG)
    (thread,) = [one for one in threading.enumerate() if one.name == "worker"]
    assert thread.ident is not None
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert raised == 1
    assert work.turns.acquire(timeout=HANG)
    work.take()
    assert work.loop.health[:2] == (True, 1)


def test_a_thread_that_ends_all_the_same_is_replaced_and_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    work.loop._pause = lambda _: fail(OSError("not even a pause"))()
    work.loop.ensure()
    work.take(fail(ValueError("no")))
    until(lambda: work.loop.health.restarts == 1, "another thread")
    work.take()
    assert work.loop.health.alive
    assert "worker had ended, and was started again" in caplog.text
    work.stop()
    assert work.farewells == 1


def test_a_thread_that_could_not_be_replaced_at_once_is_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    work = Work()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    start = threading.Thread.start
    work.loop.ensure()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    work.loop._pause = lambda _: fail(OSError("not even a pause"))()
    work.take(fail(ValueError("no")))
    until(lambda: not work.loop.health.alive, "its end")
    with pytest.raises(OSError, match="worker: can't start new thread"):
        work.loop.ensure()
    monkeypatch.setattr(threading.Thread, "start", start)
    work.loop.ensure()
    work.take()
    assert work.loop.health.alive
    assert work.loop.health.restarts == 1
    work.stop()
