"""A Flask application's streams on the servers of others: how many are held, what other requests
get meanwhile, and what remains when the clients have left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.history import witnessed
from tests.judging import judge
from tests.recording import Log, Recorder
from tests.servers import HANG, Reader, until
from tests.wsgi_servers import GUNICORN, PYTHON, WsgiServer

STREAMS = 100  # more than any of them has threads
CHUNK = 64 * 1024

APPLICATION = """
import itertools
from flask import Flask, request
from pushdemo import Push

push = Push()
numbers = itertools.count(1)

@push.feed(interval=0.2, history=100)
def count():
    return f"number {next(numbers)}"

app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)

@app.get("/live")
def live():
    return push.flask(request, "count")

@app.get("/open")
def open_now():
    return str(push.engine.open_now)
"""

PASTER = """
[app:main]
paste.app_factory = application:factory
[server:main]
use = egg:pushdemo#http
port = 0
"""

WSGIREF = """
from wsgiref.simple_server import make_server
from application import app

with make_server("127.0.0.1", 0, app) as server:
    print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
"""


class Kind(NamedTuple):
    name: str
    command: Sequence[str]


UWSGI = str(Path(sys.executable).with_name("uwsgi"))
PASTE = str(Path(sys.executable).with_name("paster"))
GIVING = [
    Kind("gunicorn sync", (*GUNICORN, "application:app")),
    Kind("gunicorn gthread", (*GUNICORN, "-k", "gthread", "--threads", "3", "application:app")),
    Kind("gunicorn gevent", (*GUNICORN, "-k", "gevent", "application:app")),
    Kind("gunicorn preload", (*GUNICORN, "--preload", "application:app")),
    Kind("flask run", (*PYTHON, "flask", "--app", "application", "run", "--port", "0")),
    Kind("paster serve", (PASTE, "serve", "paster.ini")),
    Kind("uWSGI", (UWSGI, "--http-socket", "127.0.0.1:0", "--die-on-term", "--enable-threads",
                   "--need-app", "--module", "application:app")),
]  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "application.py").write_text(
        APPLICATION + "\ndef factory(global_conf, **section):\n    return app\n"
    )
    (tmp_path / "paster.ini").write_text(PASTER)
    (tmp_path / "single.py").write_text(WSGIREF)
    return tmp_path


def start(directory: Path, command: Sequence[str]) -> WsgiServer:
    listens = (
        r"(?:[Ll]istening at: https?://|Serving on http://|Running on http://|serving on http://"
        r"|bound to TCP address )127\.0\.0\.1:(\d+)"
    )
    return WsgiServer(directory, *command, listens=listens)


def processes(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                yield from processes(int(child))


def used(server: WsgiServer) -> tuple[int, int]:
    """The descriptors and the threads of all its processes."""
    descriptors = threads = 0
    for pid in processes(server.process.pid):
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        threads += len(os.listdir(f"/proc/{pid}/task"))
    return descriptors, threads


def receive(reader: Reader, log: Log) -> None:
    log.receive(reader.sock.recv(CHUNK), time.monotonic())


@pytest.mark.parametrize("kind", GIVING, ids=lambda kind: kind.name)
def test_a_server_that_gives_its_connections_away(directory: Path, kind: Kind) -> None:
    with start(directory, kind.command) as server, contextlib.ExitStack() as stack:
        # As it is after a first stream: threads that stay are there.
        with server.connect("/live?format=ndjson") as first:
            first.head()
            first.line()
        until(lambda: server.ask("/open")[2] == "0", "the first one's end")
        before = used(server)
        recorder = Recorder()
        logs = []
        for number in range(STREAMS):
            reader = stack.enter_context(server.connect("/live?format=ndjson"))
            log = recorder.log(f"client {number}", ("count",))
            log.connect()
            logs.append((reader, log))
        assert server.ask("/open")[2] == str(STREAMS)  # and so others are answered
        for _ in range(3):
            for reader, log in logs:
                receive(reader, log)
        until_seen = time.monotonic() + HANG
        while min(len(log.client.seen) for _, log in logs) < 3:
            assert time.monotonic() < until_seen
            for reader, log in logs:
                if len(log.client.seen) < 3:
                    receive(reader, log)
        verdict = judge(witnessed(recorder.clients), recorder.clients)
        assert not verdict.faults, str(verdict)
        assert all(log.connected for _, log in logs)
        stack.close()  # the clients leave
        until(lambda: server.ask("/open")[2] == "0", "all places are free again")
        until(lambda: used(server) <= before, f"descriptors and threads are as before, {before}")
        assert "Traceback" not in server.log
        assert "streams hold a thread" not in server.log


def test_waitress_keeps_a_thread_for_other_requests(directory: Path) -> None:
    command = (*PYTHON, "waitress", "--listen=127.0.0.1:0", "application:app")
    with start(directory, command) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            reader = stack.enter_context(server.connect("/live?format=ndjson"))
            assert reader.head()[0] == 200
        status, headers, text = server.ask("/live?format=ndjson")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "at most 3 streams" in text
        assert server.ask("/open")[2] == "3"
        assert server.log.count("streams hold a thread each") == 1
        stack.close()
        until(lambda: server.ask("/open")[2] == "0", "the threads are free again")
        with server.connect("/live?format=ndjson") as again:
            assert again.head()[0] == 200


def test_a_server_with_one_thread_goes_on_answering(directory: Path) -> None:
    with start(directory, (sys.executable, "single.py")) as server:
        status, headers, text = server.ask("/live?format=ndjson")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "one request at a time" in text
        assert server.ask("/open")[2] == "0"


def test_tls_inside_of_gunicorn_holds_threads(directory: Path) -> None:
    openssl = shutil.which("openssl")
    assert openssl
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    command = (*GUNICORN, "-k", "gthread", "--threads", "5", "--certfile", "cert.pem",
               "--keyfile", "key.pem", "application:app")  # fmt: skip
    context = ssl.create_default_context(cafile=str(directory / "cert.pem"))
    context.check_hostname = False
    with start(directory, command) as server, server.connect("/") as plain:
        plain.close()
        with Reader(server.address) as reader:
            sock = context.wrap_socket(reader.sock)
            sock.sendall(b"GET /live?format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while received.count(b'"value"') < 3:
                piece = sock.recv(CHUNK)
                assert piece
                received += piece
            sock.close()
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert server.log.count("streams hold a thread each") == 1


def test_several_workers_are_told_of_the_broadcaster(directory: Path) -> None:
    with start(directory, (*GUNICORN, "-w", "2", "application:app")) as server:
        for _ in range(8):
            with server.connect("/live?format=ndjson") as reader:
                reader.head()
                assert json.loads(reader.line())["feed"] == "count"
        # Once in each worker.
        assert 1 <= server.log.count("each computes all feeds by itself") <= 2
        assert "pushdemo run" in server.log
