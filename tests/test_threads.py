"""Threads that are kept for the next computation."""

from __future__ import annotations

import queue
import threading
from functools import partial

import pytest

from pushdemo.push.compute.threads import Threads
from tests.servers import HANG, until


@pytest.fixture
def before() -> set[threading.Thread]:
    return set(threading.enumerate())


def started(before: set[threading.Thread]) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one not in before]


def _wait(event: threading.Event) -> None:
    event.wait(HANG)


def idle(threads: Threads, count: int) -> None:
    until(lambda: len(threads._idle) == count, f"{count} threads without work")


def test_one_thread_does_one_task_after_another(before: set[threading.Thread]) -> None:
    threads = Threads()
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    by = set()
    for _ in range(20):
        threads.run(lambda: ran.put(threading.current_thread()))
        by.add(ran.get(timeout=HANG))
        idle(threads, 1)
    assert len(by) == 1
    threads.close()
    until(lambda: not started(before), "its end")


def test_a_task_that_hangs_keeps_nobody_waiting(before: set[threading.Thread]) -> None:
    threads = Threads()
    hang, ran = threading.Event(), threading.Event()
    threads.run(partial(_wait, hang))
    threads.run(ran.set)
    assert ran.wait(HANG)
    threads.close()
    hang.set()
    until(lambda: not started(before), "their end")


def test_a_thread_without_work_ends(before: set[threading.Thread]) -> None:
    threads = Threads(keep=0.01)
    ran = threading.Event()
    threads.run(ran.set)
    assert ran.wait(HANG)
    until(lambda: not started(before), "its end")
    assert threads._idle == []


def test_a_task_that_raises_does_not_end_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    threads = Threads()
    ran = threading.Event()

    def fail() -> None:
        raise SystemExit

    threads.run(fail)
    idle(threads, 1)
    threads.run(ran.set)
    assert ran.wait(HANG)
    assert "SystemExit" in caplog.text
    threads.close()


def test_no_task_is_lost_between_waiting_and_ending() -> None:
    threads = Threads(keep=0.0005)
    done = threading.Semaphore(0)
    for _ in range(500):
        threads.run(lambda: done.release())
        assert done.acquire(timeout=HANG)
    threads.close()
