"""Real servers for tests: `paster serve` in a process of its own, and what to ask it with."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
HANG = 60.0  # seconds: so long only a bug takes


class Paster:
    """`paster serve` with an ini that builds on development.ini.

    app, server: lines to add to the ini's two sections.
    port: by default a free one.
    descriptors: the limit of open files to run it under.
    """

    def __init__(
        self,
        directory: Path,
        app: str = "",
        server: str = "",
        *,
        descriptors: int | None = None,
        port: int = 0,
    ) -> None:
        ini = directory / "test.ini"
        ini.write_text(
            f"[app:main]\nuse = config:{CHECKOUT}/development.ini\n{app}\n"
            f"[server:main]\nuse = config:{CHECKOUT}/development.ini\nport = {port}\n{server}\n"
        )
        self.pid_file = directory / "paster.pid"
        paster = [str(Path(sys.executable).with_name("paster"))]
        command = [*paster, "serve", f"--pid-file={self.pid_file}", str(ini)]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": f"{directory}{os.pathsep}{CHECKOUT}",
                "PYTHONUNBUFFERED": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            found = self.wait_for_line(r"serving on http://127\.0\.0\.1:(\d+)")
        except BaseException:
            self.close()
            raise
        self.address = ("127.0.0.1", int(found[1]))
        self.url = f"http://127.0.0.1:{found[1]}"

    @property
    def output(self) -> str:
        """All that it has printed."""
        with self._news:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed a line that matches."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._lines))

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), HANG)
            match = found()
            assert match, f"no line like {pattern!r} in:\n{''.join(self._lines)}"
            return match

    def connect(self, target: str = "/server/index", method: str = "GET") -> Reader:
        """A connection on which a request has been sent."""
        return Reader(self.address, f"{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())

    def get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer that ends."""
        with self.connect(target, method) as reader:
            status, headers = reader.head()
            return status, headers, reader.rest()

    def memory(self) -> int:
        """Its user memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def cpu(self) -> float:
        """The processor time it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code, and the seconds until it was there."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(HANG)
        took = time.monotonic() - began
        self._reader.join(HANG)
        return code, took

    def close(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(HANG)
        self._reader.join(HANG)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


class Reader:
    """A client that sends one request and reads multipart parts by their length."""

    def __init__(self, address: tuple[str, int], request: bytes = b"") -> None:
        self.sock = socket.create_connection(address, timeout=HANG)
        self._file = self.sock.makefile("rb")
        self.sock.sendall(request)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers, by lower-case name."""
        status = self._file.readline()
        assert status, "the server hung up without an answer"
        return int(status.split()[1]), self.headers()

    def headers(self) -> dict[str, str]:
        """Header lines up to the empty one."""
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def open(self) -> Reader:
        """Read the head of a stream, and its opening."""
        status, headers = self.head()
        assert status == 200, (status, headers)
        assert self._file.readline() == b"--test\r\n"
        return self

    def part(self) -> tuple[dict[str, str], bytes]:
        """The next part's headers and body."""
        headers = self.headers()
        assert headers, "the stream has ended"
        body = self._file.read(int(headers["content-length"]))
        assert self._file.readline() == b"\r\n"
        assert self._file.readline() in (b"--test\r\n", b"--test--\r\n")
        return headers, body

    def text(self) -> str:
        """The text of the next part's message."""
        _, body = self.part()
        found = re.search(rb"<message>(.*)</message>", body, re.S)
        assert found, body
        return found[1].decode()

    def line(self) -> bytes:
        """One line, or b"" at the end."""
        return self._file.readline()

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        return self._file.read(size)

    def rest(self) -> bytes:
        """All that comes until the server hangs up."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def free_port() -> int:
    """A TCP port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens at that port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` is true."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
