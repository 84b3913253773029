"""Where a feed's function runs: threads, and real processes that really die."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.executor import (
    NICENESS,
    InProcess,
    InThread,
    decode,
    encode,
    step_back,
)
from pushdemo.push.compute.payload import Blob, Data, Payload, Text, payload_of
from pushdemo.push.failure import LONGEST_SUMMARY, FeedFailed
from tests.servers import HANG, until

Make = Callable[..., InProcess]

texts = st.text(st.characters(exclude_categories=["Cs"]))
payloads: st.SearchStrategy[Payload] = st.one_of(
    texts.map(Text),
    st.dictionaries(texts, st.integers() | texts).map(lambda value: Data(str(value))),
    st.builds(Blob, st.binary(), st.sampled_from(["image/png", "text/plain; charset=utf-8"])),
)

FUNCTIONS = """
import itertools, os, signal, sys, time

counter = itertools.count(1)

def count():
    return {"number": next(counter), "pid": os.getpid()}

def argue(region, size="1"):
    return f"{region} {size}"

def fail():
    raise ZeroDivisionError("no")

def leave():
    os._exit(7)

def give_up():
    sys.exit("enough")

def hang():
    time.sleep(3600)

def nice():
    return os.getpriority(os.PRIO_PROCESS, 0)

def large():
    return b"x" * 50_000_000, "image/png"

def bad():
    return {"orders": [object()]}

def unprintable():
    data = []
    for _ in range(100_000):
        data = [data]
    raise ValueError(data)

def real_time_signal():
    os.kill(os.getpid(), 40)
    time.sleep(3600)

def pipe():
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2:
            try:
                link = os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue
            if link.startswith("socket:"):
                return fd

def write_nonsense():
    os.write(pipe(), b"\\xff" * 100)
    time.sleep(3600)

def write_a_value_of_no_kind():
    os.write(pipe(), b"\\0\\0\\0\\3?!?")
    time.sleep(3600)

def write_half():
    os.write(pipe(), b"\\0\\0\\0\\3T\\xff\\xff")
    time.sleep(3600)

def leave_a_child():
    if os.fork():
        os._exit(7)
    time.sleep(60)
    os._exit(0)
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes executors whose functions are the ones above."""
    (tmp_path / "feedfunctions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[InProcess] = []

    def make(name: str, **arguments: str) -> InProcess:
        made.append(InProcess(name, f"feedfunctions:{name}", arguments))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


@given(payloads)
def test_a_payload_comes_through_the_pipe_as_it_was(payload: Payload) -> None:
    assert decode(b"".join(encode(payload))) == payload


def test_a_thread_s_value_and_its_error_are_the_function_s() -> None:
    assert InThread("x", lambda: [1]).run() == payload_of([1])
    with pytest.raises(IndexError):
        InThread("x", lambda: [][0]).run()


def test_a_function_that_computes_in_python_earns_a_hint_and_only_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def busy() -> str:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return "done"

    executor = InThread("orders", busy)
    for _ in range(10):  # on a busy machine, some of them wait more than they compute
        assert executor.run() == Text("done")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "feed.orders.executor = process" in caplog.text


def test_a_function_that_waits_earns_none(caplog: pytest.LogCaptureFixture) -> None:
    InThread("x", lambda: time.sleep(0.1)).run()
    assert not caplog.records


def test_a_process_is_another_one_and_is_kept(process: Make) -> None:
    executor = process("count")
    first, second = executor.run(), executor.run()
    assert isinstance(first, Data)
    assert isinstance(second, Data)
    assert (first.value["number"], second.value["number"]) == (1, 2)
    assert first.value["pid"] == second.value["pid"] != os.getpid()


def test_arguments_are_handed_on(process: Make) -> None:
    assert process("argue", region="eu").run() == Text("eu 1")


@pytest.mark.parametrize(
    ("name", "says", "details"),
    [
        ("fail", "ZeroDivisionError: no", r"(?s)Traceback .*in fail\n.*ZeroDivisionError: no"),
        ("bad", r"orders\[0\]: an object of type object cannot be sent", "Traceback"),
        ("give_up", "SystemExit: enough", "in give_up"),
        ("unprintable", "ValueError, which cannot be printed", "in unprintable"),
        ("leave", r"its process died \(exit code 7\)", "^$"),
        ("real_time_signal", r"its process died \(signal 40\)", "^$"),
    ],
)
def test_what_goes_wrong_over_there_is_told_here_and_it_runs_again(
    process: Make, name: str, says: str, details: str
) -> None:
    executor = process(name)
    for _ in range(2):
        with pytest.raises(FeedFailed, match=says) as caught:
            executor.run()
        assert re.search(details, caught.value.failure.details)
        assert len(caught.value.failure.summary) <= LONGEST_SUMMARY


@pytest.mark.parametrize("name", ["write_nonsense", "write_a_value_of_no_kind", "write_half"])
def test_a_process_that_writes_what_is_no_answer_is_replaced(process: Make, name: str) -> None:
    executor = process(name)
    pids = set()
    for _ in range(2):
        with pytest.raises(Exception, match=r"."):
            executor.run()
        assert executor._worker is not None
        pids.add(executor._worker._process.pid)
    assert len(pids) == 2


def test_a_process_whose_child_keeps_the_pipe_can_be_abandoned(process: Make) -> None:
    """Its death is no end of file then."""
    executor = process("leave_a_child")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            executor.run()
        except FeedFailed as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: executor._worker and not executor._worker._process.is_alive(), "its death")
    executor.abandon()
    thread.join(HANG)
    assert [str(error) for error in failures] == ["its process died (exit code 7)"]


def test_a_killed_process_is_replaced(process: Make) -> None:
    executor = process("count")
    before = executor.run()
    assert isinstance(before, Data)
    os.kill(before.value["pid"], signal.SIGKILL)
    with pytest.raises(FeedFailed, match=r"its process died \(SIGKILL\)"):
        executor.run()
    after = executor.run()
    assert isinstance(after, Data)
    assert after.value["number"] == 1
    assert after.value["pid"] != before.value["pid"]


def test_a_process_that_hangs_can_be_abandoned(process: Make) -> None:
    executor = process("hang")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            executor.run()
        except FeedFailed as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: executor._worker is not None, "the process")
    executor.abandon()
    thread.join(HANG)
    assert [str(error) for error in failures] == ["its process died (SIGKILL)"]


def test_a_large_value_comes_whole(process: Make) -> None:
    payload = process("large").run()
    assert isinstance(payload, Blob)
    assert len(payload.data) == 50_000_000
    assert payload.content_type == "image/png"


def test_a_closed_one_leaves_no_process(process: Make) -> None:
    executor = process("count")
    payload = executor.run()
    assert isinstance(payload, Data)
    executor.close()
    pid = payload.value["pid"]

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    until(gone, "the process to end")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_thread_steps_back_and_the_others_stay_where_they_are() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    niceness = []

    def step() -> None:
        step_back()
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=step)
    thread.start()
    thread.join(HANG)
    assert niceness == [min(before + NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_process_steps_back_behind_the_server_by_as_much(process: Make) -> None:
    nice = process("nice")
    values: list[object] = []

    def run() -> None:  # as the publisher does it
        step_back()
        values.append(nice.run())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(HANG)
    assert values == [Data(str(min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)))]
