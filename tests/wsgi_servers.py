"""WSGI servers of others, each started as its users start it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.servers import CHECKOUT, HANG, Reader, until

PYTHON = (sys.executable, "-m")
GUNICORN = (*PYTHON, "gunicorn", "--no-control-socket", "-b", "127.0.0.1:0")
THREADS = 3  # of gunicorn's pool, which it starts as it needs them, and keeps
# What each of them says of its address.
_LISTENS = re.compile(
    r"(?:[Ll]istening at: |Serving on |Running on |serving on |development server at "
    r"|bound to TCP address )"
    r"(?:https?://)?127\.0\.0\.1:(\d+)"
)


class Kind(NamedTuple):
    """A server, and how it is started for an `application:app`. pool: threads that it starts as it
    needs them, and keeps."""

    name: str
    command: Sequence[str]
    pool: int = 0


def uwsgi(*options: str) -> tuple[str, ...]:
    """uWSGI, as one starts it with these options."""
    program = str(Path(sys.executable).with_name("uwsgi"))
    return (program, *options, "--die-on-term", "--enable-threads", "--need-app", "--module",
            "application:app")  # fmt: skip


# Whose connections can be taken, and which any application runs on.
KINDS = (
    Kind("gunicorn sync", (*GUNICORN, "application:app")),
    Kind(
        "gunicorn gthread",
        (*GUNICORN, "-k", "gthread", "--threads", str(THREADS), "application:app"),
        pool=THREADS,
    ),
    Kind("gunicorn gevent", (*GUNICORN, "-k", "gevent", "application:app")),
    Kind("uWSGI", uwsgi("--http-socket", "127.0.0.1:0")),
    Kind("paster serve", (str(Path(sys.executable).with_name("paster")), "serve", "paster.ini")),
)
FLASK_RUN = Kind("flask run", (*PYTHON, "flask", "--app", "application", "run", "--port", "0"))
WAITRESS = Kind("waitress", (*PYTHON, "waitress", "--listen=127.0.0.1:0", "application:app"))

_FACTORY = """
def factory(global_conf, **section):
    return app
"""
_INI = """
[app:main]
paste.app_factory = application:factory
[server:main]
use = egg:pushdemo#http
port = 0
"""


def write_application(directory: Path, source: str) -> None:
    """The module `application`, for servers of every kind that are started in the directory."""
    (directory / "application.py").write_text(source + _FACTORY)
    (directory / "paster.ini").write_text(_INI)


class Used(NamedTuple):
    """What the processes of a server have."""

    descriptors: int
    threads: int

    def beyond(self, before: Used, kind: Kind) -> Used:
        """What they have now and had not before, but for a pool that has grown."""
        return Used(
            max(0, self.descriptors - before.descriptors),
            max(0, self.threads - before.threads - kind.pool),
        )


class WsgiServer:
    """A command in a directory, with what it says in a file there."""

    def __init__(
        self,
        directory: Path,
        *command: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = directory / f"log-{len(list(directory.glob('log-*')))}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{directory}{os.pathsep}{CHECKOUT}",
                    "PYTHONUNBUFFERED": "1",
                    **(environment or {}),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: self._found is not None, "a server that listens")
        except BaseException:
            self.close()
            raise
        assert self._found
        self.address = "127.0.0.1", int(self._found[1])

    def __enter__(self) -> WsgiServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def _found(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log
        return _LISTENS.search(self.log)

    def connect(self, target: str, **headers: str) -> Reader:
        """A stream, to be read."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n"
        return Reader(self.address, request.encode())

    def ask(
        self, target: str = "/", method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """The whole response to a request of its own connection."""
        connection = http.client.HTTPConnection(*self.address, timeout=HANG)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body, names)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def used(self) -> Used:
        """What all its processes have."""
        descriptors = threads = 0
        for pid in processes(self.process.pid):
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
            threads += len(os.listdir(f"/proc/{pid}/task"))
        return Used(descriptors, threads)

    def close(self) -> int:
        """Ask it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HANG)
        finally:
            self.process.kill()
            self.process.wait(HANG)


def processes(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                yield from processes(int(child))
