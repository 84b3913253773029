"""The workers, whatever their tasks do, and the bound on what waits for them."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable

import pytest

from pushdemo.servers.backlog import Backlog
from pushdemo.servers.workers import Workers
from tests.servers import HANG, until


def run(workers: Workers, tasks: int = 1) -> None:
    """Have that many tasks run at the same time: so many workers there must be."""
    barrier = threading.Barrier(tasks + 1)

    def task() -> None:
        barrier.wait(HANG)

    for _ in range(tasks):
        workers.add(task)
    barrier.wait(HANG)


def fail(error: BaseException) -> Callable[[], None]:
    def task() -> None:
        raise error

    return task


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_a_task_ends_no_worker(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(2)
    for _ in range(10):
        workers.add(fail(error))
    run(workers, 2)
    assert caplog.text.count("Traceback") == 10


def test_a_worker_that_is_ended_from_outside_is_replaced_and_no_task_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers = Workers(3)
    for _ in range(20):
        for thread in list(workers._threads):
            assert thread.ident
            # It is raised when the thread runs next: in a task, or on the way to one.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
        done = [threading.Event() for _ in range(5)]
        for event in done:
            workers.add(event.set)
        assert all(event.wait(HANG) for event in done)
        run(workers, 3)
        if "is replaced" in caplog.text:
            break
    else:
        pytest.fail("none has ended")


def test_threads_that_cannot_be_had_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers = Workers(2)
    done = threading.Event()
    workers.add(done.set)
    assert not done.is_set()
    assert caplog.text.count("0 of 2 workers") == 1  # once, not once a request
    monkeypatch.setattr(threading.Thread, "start", start)
    run(workers, 2)
    assert done.wait(HANG)


def test_a_backlog_is_bounded_by_number_and_by_weight() -> None:
    backlog = Backlog(3, 100)
    assert [backlog.admit(10) for _ in range(4)] == [True, True, True, False]
    backlog.settle(10)
    assert (backlog.admit(81), backlog.admit(80), len(backlog)) == (False, True, 3)
    for weight in (10, 10, 80):
        backlog.settle(weight)
    assert (len(backlog), backlog.admit(101), backlog.admit(100)) == (0, False, True)


def test_many_add_at_the_same_time() -> None:
    workers = Workers(4)
    done: list[int] = []

    def add() -> None:
        for _ in range(500):
            workers.add(lambda: done.append(1))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        adding = [threading.Thread(target=add) for _ in range(4)]
        for thread in adding:
            thread.start()
        until(lambda: len(done) == 2000, "all tasks")
    finally:
        sys.setswitchinterval(interval)
        for thread in adding:
            thread.join()
