"""The server that is attacked: `paster serve` with an ini of its own, and what it uses of the
system."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.steps import Facts

TOKEN = "a-token"
START = 30.0  # seconds

# What a feed gives begins with its number.
FEEDS = """
import itertools, time

numbers = {name: itertools.count(1) for name in ("count", "other", "slow", "failing", "big")}

def count():
    return next(numbers["count"])

def other():
    return f"{next(numbers['other'])} " + "some text that is worth compressing " * 20

def slow():
    time.sleep(1.2)
    return next(numbers["slow"])

def failing():
    number = next(numbers["failing"])
    if number % 3 == 0:
        raise ValueError("on purpose")
    return number

def never():
    raise ValueError("on purpose, always")

BODY = ("b" * 1023 + "\\n") * 1024

def big():
    return f"{next(numbers['big'])}\\n" + BODY
"""

INI = f"""\
[app:main]
use = egg:pushdemo
push.token = {TOKEN}
push.heartbeat = 1
push.send_timeout = 3
push.max_streams = 1000
push.max_body = 262144
feed.count = attackedfeeds:count
feed.count.interval = 0.5
feed.count.history = 10
feed.other = attackedfeeds:other
feed.other.interval = 0.7
feed.slow = attackedfeeds:slow
feed.slow.interval = 1
feed.failing = attackedfeeds:failing
feed.failing.interval = 0.5
feed.never = attackedfeeds:never
feed.never.interval = 5
feed.big = attackedfeeds:big
feed.big.interval = 3
feed.pushed = push

[server:main]
use = egg:pushdemo#http
port = 0
request_timeout = 3
"""

# What the feeds that fail on purpose have in the log.
_ON_PURPOSE = re.compile(r"ValueError: on purpose")


@dataclass(frozen=True)
class Usage:
    """What a process uses. memory: its own, resident (RssAnon), in bytes."""

    descriptors: int
    threads: int
    memory: int

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.threads} threads,"
            f" {self.memory / 1024 / 1024:.1f} MiB"
        )


class Target:
    """A server, from its making on.

    python: the interpreter of an environment in which pushdemo is installed.
    """

    def __init__(self, directory: Path, python: Path) -> None:
        (directory / "attackedfeeds.py").write_text(FEEDS)
        ini = directory / "attacked.ini"
        ini.write_text(INI)
        self._log = directory / "log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [python.with_name("paster"), "serve", ini],
                cwd=directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(directory),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self.address = ("127.0.0.1", self._wait_for_port())
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def usage(self) -> Usage:
        """What it uses now. Raises OSError when it has ended."""
        process = Path(f"/proc/{self._process.pid}")
        status = (process / "status").read_text()
        memory, threads = (
            re.search(r"RssAnon:\s+(\d+)", status),
            re.search(r"Threads:\s+(\d+)", status),
        )
        if memory is None or threads is None:
            raise ProcessLookupError("it has ended")
        return Usage(len(os.listdir(process / "fd")), int(threads[1]), int(memory[1]) * 1024)

    def facts(self) -> Facts:
        """What attackers may know of it."""
        ids = {feed: self._id_of(feed) for feed in ("count", "other", "big")}
        return Facts(TOKEN, ids)

    def tracebacks(self) -> list[str]:
        """Those in its log, without those of feeds that fail on purpose."""
        log = self.log
        found = re.split(r"^(?=Traceback )", log, flags=re.M)[1:]
        lost = re.findall(r"^Unexpected exception in .*", log, flags=re.M)  # Paste's own
        return [
            *(line[:300] for line in lost),
            *(_last_lines(one) for one in found if not _ON_PURPOSE.search(one)),
        ]

    def close(self) -> None:
        """End it, however it is."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.exit_code is None:
            if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", self.log):
                return int(found[1])
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def _id_of(self, feed: str) -> str:
        request = f"GET /server/index/{feed}?format=ndjson HTTP/1.1\r\nHost: test\r\n\r\n"
        with socket.create_connection(self.address, timeout=START) as sock:
            sock.sendall(request.encode())
            with sock.makefile("rb") as file:
                while file.readline().strip():
                    pass
                event: Mapping[str, object] = json.loads(file.readline())
        return str(event["id"])


def _last_lines(traceback: str) -> str:
    """A traceback's own lines, which end with the first that is not indented."""
    lines = traceback.splitlines()
    for number, line in enumerate(lines[1:], 1):
        if line and not line.startswith(" "):
            return "\n".join(lines[max(0, number - 4) : number + 1])
    return "\n".join(lines[-5:])
