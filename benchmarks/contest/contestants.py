"""Who takes part: how each is started, and what its clients ask for."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.program import PATH
from benchmarks.server import Server, pushdemo, running
from benchmarks.versions import version

EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/x-mixed-replace"

# A feed that computes, in pure Python, all the time; in a thread of the server.
BUSY_FEED = """\
feed.busy = benchmarks.feed:busy
feed.busy.interval = 0.1
feed.busy.executor = thread
"""


@dataclass(frozen=True)
class Setting:
    """What a contestant is started for.

    interval: seconds from one event to the next.
    size: bytes of a value.
    busy: beside a feed that computes all the time.
    core: the one it has.
    programs: where those are that were compiled.
    """

    interval: float
    size: int
    busy: bool
    core: int
    programs: Path


Start = Callable[[Setting], contextlib.AbstractContextManager[Server]]


@dataclass(frozen=True)
class Contestant:
    """start: runs it.
    needs: the distributions, or programs, that it cannot do without.
    most: clients that are asked of it; beyond them it is known not to come to an end in time.
    """

    name: str
    start: Start
    needs: tuple[str, ...] = ()
    path: str = PATH
    accept: str = EVENT_STREAM
    most: int | None = None
    hosts_python: bool = True

    def missing(self) -> list[str]:
        """What it needs and is not installed here."""
        return [need for need in self.needs if not (shutil.which(need) or version(need))]

    def request(self) -> str:
        """What a client sends: the headers of a browser, and a cookie of its own (see crowd.c)."""
        lines = (
            f"GET {self.path} HTTP/1.1",
            "Host: localhost",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            f"Accept: {self.accept}",
            "Accept-Language: en-US,en;q=0.5",
            "Referer: http://localhost/",
            "Connection: keep-alive",
            "Cookie: session=######",
        )
        return "\r\n".join((*lines, "", ""))


def _module(name: str) -> Start:
    def start(setting: Setting) -> contextlib.AbstractContextManager[Server]:
        command = [
            *(sys.executable, "-m", f"benchmarks.contest.{name}"),
            *("--interval", str(setting.interval), "--size", str(setting.size)),
        ]
        return running(command + ["--busy"] * setting.busy, core=setting.core)

    return start


@contextlib.contextmanager
def _bare(setting: Setting) -> Iterator[Server]:
    command = [str(setting.programs / "bare"), "0", str(setting.interval), str(setting.size)]
    with running(command, core=setting.core) as server:
        yield server


def _pushdemo(pure: bool = False) -> Start:
    @contextlib.contextmanager
    def start(setting: Setting) -> Iterator[Server]:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                pushdemo(
                    interval=setting.interval,
                    payload=setting.size,
                    core=setting.core,
                    more=BUSY_FEED if setting.busy else "",
                    pure=pure,
                )
            )
            if setting.busy:  # a feed runs while somebody watches it
                watcher = stack.enter_context(socket.create_connection(server.address))
                watcher.sendall(b"GET /server/index/busy HTTP/1.0\r\n\r\n")
            yield server

    return start


STREAM = "/server/index/bench"
FLOOR = Contestant("bare C loop", _bare, path="/", hosts_python=False)
OURS = Contestant("pushdemo", _pushdemo(), path=STREAM)
PURE = Contestant("pushdemo, pure Python", _pushdemo(pure=True), path=STREAM)
NCHAN = Contestant("nchan", _module("nchan"), ("nginx", "setpriv"))
STARLETTE = Contestant(
    "sse-starlette",
    _module("sse_starlette"),
    ("sse-starlette", "starlette", "uvicorn", "uvloop", "httptools"),
)
CONTESTANTS = (
    FLOOR,
    OURS,
    PURE,
    Contestant("pushdemo, multipart", _pushdemo(), path=STREAM, accept=MULTIPART),
    NCHAN,
    Contestant("gevent", _module("gevent_sse"), ("gevent",)),
    Contestant("Tornado", _module("tornado_sse"), ("tornado",)),
    Contestant("aiohttp-sse", _module("aiohttp_sse"), ("aiohttp-sse", "aiohttp", "uvloop")),
    STARLETTE,
    Contestant("a thread per stream", _module("threads"), ("Paste",), most=1000),
)
