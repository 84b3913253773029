"""A Flask application's streams on the servers of others: how many are held, what other requests
get meanwhile, and what remains when the clients have left."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import FEED, FRAMEWORKS, measure
from tests.history import witnessed
from tests.judging import judge
from tests.nginx import Nginx
from tests.servers import CHECKOUT, Reader, free_port, listens, until
from tests.watching import Watching
from tests.wsgi_servers import (
    FLASK_RUN,
    GUNICORN,
    KINDS,
    WAITRESS,
    Kind,
    WsgiServer,
    uwsgi,
    write_application,
)

STREAMS = 100  # more than any of them has threads
CHUNK = 64 * 1024

WSGIREF = """
from wsgiref.simple_server import make_server
from application import app

with make_server("127.0.0.1", 0, app) as server:
    print(f"serving on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
"""


PRELOAD = Kind("gunicorn preload", (*GUNICORN, "--preload", "application:app"))


MANAGE = """
from django.conf import settings
from django.core.management import execute_from_command_line
import application

settings.WSGI_APPLICATION = "application.app"
execute_from_command_line()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_application(tmp_path, FEED + FRAMEWORKS["Flask"])
    (tmp_path / "single.py").write_text(WSGIREF)
    return tmp_path


@pytest.mark.parametrize("kind", [*KINDS, FLASK_RUN, PRELOAD], ids=lambda kind: kind.name)
def test_a_server_that_gives_its_connections_away(kind: Kind) -> None:
    line = measure(kind, "Flask", STREAMS)
    assert not line.faults
    assert (line.streams, line.remain) == (STREAMS, (0, 0, 0))


@pytest.mark.parametrize("framework", ["Django", "Pyramid"])
def test_another_framework(framework: str) -> None:
    (gevent,) = (kind for kind in KINDS if kind.name == "gunicorn gevent")
    line = measure(gevent, framework, STREAMS)
    assert not line.faults
    assert (line.streams, line.remain) == (STREAMS, (0, 0, 0))


def test_the_page_on_servers_starts_them_as_they_are_started_here() -> None:
    page = (CHECKOUT / "docs" / "servers.md").read_text()
    shown = [set(line.split()) for line in page.splitlines()]
    ours = {"-m", "-b", "--no-control-socket"}  # for the tests
    for kind in KINDS:
        options = {word for word in kind.command if word.startswith("-")} - ours
        assert any(options <= words for words in shown), kind.name
    assert "docs/servers.md" in (CHECKOUT / "README.md").read_text()


def holds_streams(address: tuple[str, int]) -> None:
    """A server gives each client its events, and goes on answering."""
    with Watching(address, "1.0") as watching:  # since a proxy sends chunks to 1.1
        for number in range(STREAMS):
            watching.connect(number)
        until(lambda: watching.connected == STREAMS, "all streams")
        until(lambda: watching.all_have(3), "three events each")
        watching.stop()
        verdict = judge(witnessed(watching.clients), watching.clients)
        assert not verdict.faults, str(verdict)
        assert watching.connected == STREAMS


def test_uwsgi_behind_its_own_proxy(directory: Path) -> None:
    port = free_port()
    with WsgiServer(directory, *uwsgi("--http", f"127.0.0.1:{port}")) as server:
        until(lambda: listens(port), "the proxy")
        holds_streams(("127.0.0.1", port))
        assert "streams hold a thread" not in server.log


def test_uwsgi_behind_nginx_in_its_own_protocol(directory: Path) -> None:
    with WsgiServer(directory, *uwsgi("--socket", "127.0.0.1:0")) as server:
        host, port = server.address
        with Nginx(directory, {"/live": f"uwsgi://{host}:{port}"}) as nginx:
            holds_streams(nginx.address)
        assert "streams hold a thread" not in server.log


def test_uwsgi_behind_nginx_in_fastcgi_keeps_its_connections(directory: Path) -> None:
    with WsgiServer(directory, *uwsgi("--fastcgi-socket", "127.0.0.1:0")) as server:
        host, port = server.address
        request = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
        with (
            Nginx(directory, {"/live": f"fastcgi://{host}:{port}"}) as nginx,
            Reader(nginx.address, request) as reader,
        ):
            assert reader.head()[0] == 503  # it has a single thread
        assert server.log.count("streams hold a thread each") == 1


def test_waitress_keeps_a_thread_for_other_requests(directory: Path) -> None:
    with WsgiServer(directory, *WAITRESS.command) as server, contextlib.ExitStack() as stack:
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


def test_djangos_development_server_holds_a_thread_for_each_stream(directory: Path) -> None:
    write_application(directory, FEED + FRAMEWORKS["Django"])
    (directory / "manage.py").write_text(MANAGE)
    command = (sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{free_port()}")
    with WsgiServer(directory, *command) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            reader = stack.enter_context(server.connect("/live?format=ndjson"))
            assert reader.head()[0] == 200
        assert server.ask("/live?format=ndjson")[0] == 503
        assert server.ask("/open")[2] == "3"


def test_a_server_with_one_thread_goes_on_answering(directory: Path) -> None:
    with WsgiServer(directory, sys.executable, "single.py") as server:
        status, headers, text = server.ask("/live?format=ndjson")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "one request at a time" in text
        assert server.log.count("streams hold a thread each") == 1
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
    with WsgiServer(directory, *command) as server, server.connect("/") as plain:
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
    with WsgiServer(directory, *GUNICORN, "-w", "2", "application:app") as server:
        for _ in range(8):
            with server.connect("/live?format=ndjson") as reader:
                reader.head()
                assert json.loads(reader.line())["feed"] == "count"
        # Once in each worker.
        assert 1 <= server.log.count("each computes all feeds by itself") <= 2
        assert "pushdemo run" in server.log
