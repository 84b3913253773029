"""`egg:pushdemo#http`, by `paster serve`: what a client, and what an attacker, sees of it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import HANG, Paster, Reader, until

Start = Callable[..., Paster]

FEEDS = """
import itertools, time
counter = itertools.count(1)

def count():
    return str(next(counter))

def big():
    return "x" * 1_000_000

def hang():
    time.sleep(3600)
"""


pytestmark = pytest.mark.usefixtures("in_c")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Paster] = []

    def start(app: str = "", server: str = "", **options: int) -> Paster:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        (directory / "userfeeds.py").write_text(FEEDS)
        started.append(Paster(directory, app, server, **options))
        return started[-1]

    yield start
    for paster in started:
        paster.close()


@pytest.fixture
def streams() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


COUNT = """\
feed.count = userfeeds:count
feed.count.interval = 0.2
feed.count.duration = 0.2
"""


def test_thirty_clients_with_ten_workers_see_the_same_values(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start(COUNT)
    clients = [
        streams.enter_context(paster.connect("/server/index/count")).open() for _ in range(30)
    ]
    seen = [[int(client.text()) for _ in range(5)] for client in clients]
    for values in seen:
        assert values == list(range(values[0], values[0] + 5))
    status, _, body = paster.get("/")
    assert (status, b"<ul" in body) == (200, True)


def test_the_first_value_is_in_the_packet_of_the_headers_when_it_is_cached(start: Start) -> None:
    paster = start()
    with paster.connect() as first:
        text = first.open().text()
        with paster.connect() as second:
            packet = second.sock.recv(65536)
    assert packet.startswith(b"HTTP/1.0 200 OK\r\n")
    assert text.encode() in packet


def test_limit_ends_the_stream_with_the_closing_delimiter(start: Start) -> None:
    paster = start(COUNT)
    status, headers, body = paster.get("/server/index/count?limit=3")
    assert status == 200
    assert headers["content-type"] == "multipart/x-mixed-replace;boundary=test"
    assert body.endswith(b"\r\n--test--\r\n")
    assert [int(n) for n in re.findall(rb"<message>(\d+)</message>", body)] == [1, 2, 3]


def test_a_feed_computes_only_while_it_is_watched(start: Start) -> None:
    paster = start(COUNT)
    with paster.connect("/server/index/count") as client:
        assert client.open().text() == "1"
    time.sleep(1)  # five beats without a watcher; one may still have been taken as it left
    with paster.connect("/server/index/count") as client:
        assert client.open().text() in ("2", "3")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_refused(start: Start, method: str) -> None:
    status, headers, body = start().get("/server/index", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert b"GET" in body


def test_head_is_answered_with_headers_alone(start: Start) -> None:
    paster = start("push.max_streams = 1")
    for _ in range(3):  # it takes no place
        status, headers, body = paster.get("/server/index", "HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-type"] == "multipart/x-mixed-replace;boundary=test"


def test_one_stream_too_many_is_told_to_come_again(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start("push.max_streams = 3")
    clients = [streams.enter_context(paster.connect()).open() for _ in range(3)]
    status, headers, body = paster.get("/server/index")
    assert (status, headers["retry-after"]) == (503, "5")
    assert b"Try again" in body
    clients[0].close()
    until(lambda: paster.get("/server/index?limit=1")[0] == 200, "a place to be free")
    assert clients[1].text()


def test_silent_connections_keep_nobody_waiting(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start(server="request_timeout = 5")
    silent = [streams.enter_context(socket.create_connection(paster.address)) for _ in range(1000)]
    began = time.monotonic()
    assert paster.get("/")[0] == 200
    assert paster.get("/server/index?limit=1")[0] == 200
    assert time.monotonic() - began < 4  # before any of them was given up
    for sock in silent:
        sock.settimeout(HANG)
        assert sock.recv(1) == b""


def test_a_request_that_trickles_in_is_cut_off_and_told_so(start: Start) -> None:
    paster = start(server="request_timeout = 1")
    with Reader(paster.address) as slow:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"y" * 1000:
                slow.sock.sendall(bytes([byte]))
                slow.sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    answer = slow.sock.recv(4096)
                    break
        assert answer.startswith(b"HTTP/1.0 408 ")
        assert 0.9 < time.monotonic() - began < 10


def test_a_body_that_trickles_in_holds_no_worker(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start(server="threadpool_workers = 2")
    for _ in range(10):
        reader = streams.enter_context(Reader(paster.address))
        head = b"POST /server/index HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
        reader.sock.sendall(head + b"half of")
    assert paster.get("/")[0] == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paster]:
    paster = Paster(tmp_path_factory.mktemp("server"))
    yield paster
    paster.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"nonsense\r\n\r\n", 400),
        (b"\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /nowhere HTTP/1.0\r\n\r\n", 404),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET http://a/nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /%e2%82%ac%ff HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /server/index/%00 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET [ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET //[?[ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET //]:x@[/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    ],
)
def test_bad_requests_have_their_answers(server: Paster, request_bytes: bytes, status: int) -> None:
    with Reader(server.address, request_bytes) as reader:
        assert reader.head()[0] == status
        reader.rest()  # one answer: what came after the request was not taken for another
    assert "Traceback" not in server.output


def test_a_whole_server_has_no_path(server: Paster) -> None:
    with Reader(server.address, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") as reader:
        assert reader.head()[0] < 500
    assert "Traceback" not in server.output


def test_a_body_is_asked_for_when_the_client_waits_for_that(server: Paster) -> None:
    head = (
        b"POST /server/index HTTP/1.1\r\nHost: a\r\n"
        b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    with Reader(server.address, head) as reader:
        assert reader.line() == b"HTTP/1.1 100 Continue\r\n"
        reader.line()
        reader.sock.sendall(b"body")
        assert reader.head()[0] == 405


def test_a_client_that_hangs_up_is_gone_within_a_second(start: Start) -> None:
    paster = start("push.max_streams = 1")
    client = paster.connect().open()
    began = time.monotonic()
    client.close()
    until(lambda: paster.get("/server/index", "HEAD")[0] == 200, "the client to be gone")
    assert time.monotonic() - began < 1


def test_out_of_descriptors_streams_live_on_and_nothing_spins(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start(COUNT + "push.max_streams = 10000", descriptors=200)
    clients = []
    while True:
        client = streams.enter_context(paster.connect("/server/index/count"))
        status, headers = client.head()
        if status != 200:
            break
        clients.append(client)
    assert (status, headers["retry-after"]) == (503, "5")
    assert len(clients) > 100
    paster.wait_for_line("out of descriptors")
    crowd = [streams.enter_context(paster.connect()) for _ in range(50)]
    before, began = paster.cpu(), time.monotonic()
    for client in clients:
        assert client.line() == b"--test\r\n"
        first = int(client.text())
        while int(client.text()) < first + 5:
            pass
    busy = (paster.cpu() - before) / (time.monotonic() - began)
    assert busy < 0.7, f"it used {busy:.0%} of a processor"
    assert paster.output.count("out of descriptors") == 1
    for client in clients + crowd:
        client.close()
    until(lambda: paster.get("/server/index/count?limit=1")[0] == 200, "descriptors to be free")


def test_silent_connections_give_way_when_descriptors_run_out(
    start: Start, streams: contextlib.ExitStack
) -> None:
    paster = start(descriptors=200)
    for _ in range(400):
        streams.enter_context(socket.create_connection(paster.address))
    assert paster.get("/")[0] == 200
    assert paster.get("/server/index?limit=1")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_with_a_thousand_streams_open(
    start: Start, streams: contextlib.ExitStack, number: int
) -> None:
    paster = start()
    clients = [streams.enter_context(paster.connect()) for _ in range(1000)]
    for client in clients:
        client.open().text()
    assert paster.pid_file.exists()
    code, took = paster.stop(number)
    assert code == 0
    assert took < 1.5  # a second, and something for a busy machine
    assert not paster.pid_file.exists()
    assert "Traceback" not in paster.output
    assert clients[0].rest() is not None


def test_it_stops_while_a_feed_hangs(start: Start, streams: contextlib.ExitStack) -> None:
    paster = start("feed.hang = userfeeds:hang")
    streams.enter_context(paster.connect("/server/index/hang")).open()
    code, took = paster.stop()
    assert (code, took < 1.5) == (0, True)


def test_a_large_event_arrives_whole(start: Start) -> None:
    paster = start("feed.big = userfeeds:big")
    with paster.connect("/server/index/big?limit=2") as client:
        client.open()
        assert len(client.text()) == 1_000_000


def test_a_signal_that_comes_just_before_it_waits_is_not_lost(tmp_path: Path) -> None:
    """The handler cannot run then: as if it came to another thread, while this one waits."""
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, sys, threading\n"
        "from pushdemo.servers.paste_http import server_factory\n"
        "serve = server_factory({}, port='0')\n"
        "threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "serve(None)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"serving on")
            process.terminate()
            assert process.wait(HANG) == 0
        finally:
            process.kill()
