"""WSGI servers of others, each started as its users start it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers import CHECKOUT, HANG, Reader, until

PYTHON = (sys.executable, "-m")
GUNICORN = (*PYTHON, "gunicorn", "--no-control-socket", "-b", "127.0.0.1:0")
LISTENS = r"(?:[Ll]istening at: |Serving on |Running on |serving on )http://127\.0\.0\.1:(\d+)"


class WsgiServer:
    """A command in a directory, with what it says in a file there.

    listens: finds its port in that.
    """

    def __init__(
        self,
        directory: Path,
        *command: str,
        listens: str = LISTENS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = directory / f"log-{len(list(directory.glob('log-*')))}"
        self._listens = listens
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
        return re.search(self._listens, self.log)

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

    def close(self) -> int:
        """Ask it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HANG)
        finally:
            self.process.kill()
            self.process.wait(HANG)
