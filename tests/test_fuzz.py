"""A short run of the fuzzer, and the parts of it that could be wrong without anybody's noticing."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.fuzz.answers import answered
from tests.fuzz.attacks import NAMES, kind_of, script_of
from tests.fuzz.engine import Client, Engine, Outcome
from tests.fuzz.run import Settings, run
from tests.fuzz.steps import (
    ATTACKS,
    Answer,
    Close,
    Facts,
    Flood,
    HalfClose,
    Read,
    Reset,
    Script,
    Send,
    Step,
    Wait,
)
from tests.fuzz.streams import plans
from tests.servers import HANG, until

REQUESTS = 1500
# After so few, how much the allocator will need has not shown: only a leak is more.
MORE_MEMORY = 64 * 1024 * 1024
# Another one every day, so that the suite does not only see what it has seen; or one to see again.
TODAY = int(os.environ.get("PUSHDEMO_FUZZ_SEED", datetime.date.today().strftime("%Y%m%d")))


@pytest.mark.parametrize("seed", [1, TODAY], ids=["fixed", "today"])
def test_no_hostile_client_is_noticed_by_the_streams(seed: int) -> None:
    settings = Settings(seed, range(REQUESTS), warm_up=300, more_memory=MORE_MEMORY)
    report = run(settings, print)
    assert not report.faults, f"python -m tests.fuzz --requests {REQUESTS} --seed {seed}\n{report}"
    assert report.outcome.count == REQUESTS + 300


# The kinds


@pytest.mark.parametrize("name", NAMES)
def test_a_client_does_the_same_whenever_it_is_its_turn(name: str) -> None:
    kind = ATTACKS[name]
    facts = Facts("a-token", {"count": "1234abcd-17"})

    def steps(index: int) -> list[Step]:
        found: list[Step] = []
        script = script_of(kind, 7, index, facts)
        with contextlib.suppress(StopIteration):
            found.append(next(script))
            while len(found) < 100:
                found.append(script.send(b""))
        return found

    runs = [steps(index) for index in range(20)]
    assert runs == [steps(index) for index in range(20)]
    assert len({str(run) for run in runs}) > 3
    assert kind.make.__doc__


def test_all_kinds_have_their_turn() -> None:
    assert {kind_of(1, index).name for index in range(20_000)} == set(NAMES)
    assert {kind_of(1, index, ("resets", "floods")).name for index in range(200)} == {
        "resets", "floods"
    }  # fmt: skip
    assert len(NAMES) > 30


def test_streams_are_of_all_formats_and_some_of_several_feeds() -> None:
    requests = [plan.request for plan in plans()]
    for what in (b"format=sse", b"format=ndjson", b"format=multipart", b"gzip", b"count+other"):
        assert sum(what in request for request in requests) > 20
    assert len(set(requests)) == 100


# The engine


Serve = Callable[[socket.socket], object]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[tuple[str, int]]:
    """A server that does this to every connection, one after another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError):
                    sock.settimeout(HANG)
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(HANG)


def outcome_of(
    serve: Serve, *steps: Step, count: int = 1, seen: list[str] | None = None
) -> Outcome:
    """What came of `count` clients that do this. seen: by the server, a line for each of them."""

    def script() -> Script:
        for step in steps:  # noqa: UP028  # a tuple's iterator takes nothing
            yield step

    with serving(serve) as address:
        clients = (Client(index, "kind", script(), False) for index in range(count))
        engine = Engine(address, clients)
        assert not engine.run(time.monotonic() + HANG)
        engine.close()
        until(lambda: seen is None or len(seen) >= count, "the server to see them all")
    return engine.outcome


def answering(answer: bytes) -> Serve:
    def serve(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(answer)

    return serve


OK = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = Send(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (OK, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, ""),
        (b"HTTP/1.0 503 Full\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", ""),
        (b"HTTP/1.0 304 Not Modified\r\n\r\n", ""),
        (b"", "no answer: the server hung up"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "no more"),
        (b"HTTP/1.0 200 OK\r\n", "no more"),
        (OK[:-1], "a part of an answer 200"),
        (b"HTTP/1.0 500 No\r\nContent-Length: 0\r\n\r\n", "answered 500"),
        (b"HTTP/1.0 503 Full\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"HTTP/1.0 502 No\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n", "answered 502"),
        (b"HTTP/1.0 200 OK\r\nX\r\n\r\n", "malformed"),
        (b"HTTP/1.0 200 OK\r\nA: b\rC: d\r\n\r\n", "malformed"),
        (b"HTTP/1.0 200 OK\r\nA: b\nC: d\r\n\r\n", "malformed"),
        (b"<html>\r\n\r\n", "malformed"),
    ],
)
def test_a_wrong_answer_is_a_fault(answer: bytes, fault: str) -> None:
    found = outcome_of(answering(answer), REQUEST, Answer()).faults
    assert [fault in one for one in found] == ([True] if fault else [])
    if found:
        assert found[0].startswith("kind --index 0: ")


def test_a_client_that_is_never_answered_is_a_fault() -> None:
    outcome = outcome_of(lambda sock: sock.recv(1), REQUEST, Answer(0.05))
    assert len(outcome.faults) == 1

    def wait(sock: socket.socket) -> None:
        while sock.recv(1000):
            pass

    (fault,) = outcome_of(wait, REQUEST, Answer(0.05)).faults
    assert "no answer in 0.05 s" in fault
    assert not outcome_of(wait, REQUEST, Answer(0.05, due=False)).faults


def test_a_head_without_a_body_is_an_answer_to_head() -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n"
    assert not outcome_of(answering(head), REQUEST, Answer(body=False)).faults
    assert answered(head, body=False).whole
    assert not answered(head).whole


@pytest.mark.parametrize(
    ("end", "expected"),
    [(Reset(), "reset"), (Close(), "end"), (HalfClose(), "end"), (Wait(0.05), "reset")],
)
def test_the_server_sees_what_a_step_says(end: Step, expected: str) -> None:
    seen: list[str] = []

    def serve(sock: socket.socket) -> None:
        try:
            while sock.recv(1000):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    # After its last step a client resets the connection, but one in five.
    outcome_of(serve, Send(b"x"), end, Wait(0.05), count=2, seen=seen)
    assert seen[-1:] == [expected]


def test_single_bytes_come_one_by_one() -> None:
    times: list[float] = []

    def serve(sock: socket.socket) -> None:
        while sock.recv(1):
            times.append(time.monotonic())

    outcome_of(serve, Send(b"abc", pause=0.1), HalfClose())
    assert len(times) == 3
    assert times[2] - times[0] > 0.15


def test_a_flood_is_many_connections() -> None:
    outcome = outcome_of(lambda sock: sock.recv(1), Flood(50, b"x", 0.1))
    assert outcome.connections == 51
    assert outcome.count == 1


def test_reading_ends_with_the_bytes_it_wanted() -> None:
    got: list[bytes] = []

    def script() -> Script:
        yield REQUEST
        got.append((yield Read(HANG, 10)))

    with serving(answering(b"x" * 100)) as address:
        Engine(address, iter([Client(0, "kind", script(), False)])).run(time.monotonic() + HANG)
    assert got == [b"x" * 10]


def test_a_server_that_is_gone_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()

    def script() -> Script:
        yield REQUEST
        yield Answer()

    engine = Engine(address, iter([Client(0, "kind", script(), False)]))
    assert not engine.run(time.monotonic() + HANG)
    assert engine.outcome.faults
