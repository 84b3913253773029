"""Who takes part: how each is started, and what its clients ask for."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.program import BACKLOG, HOST, PATH, Options
from benchmarks.engine import engine
from benchmarks.server import Server, pushdemo, running
from benchmarks.versions import version

EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/x-mixed-replace"
# Streams that are asked of those that have a thread for each: see threads.py.
THREADS = 1000

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
    core: the one it has; None for all of them.
    programs: where those are that were compiled.
    """

    interval: float
    size: int
    busy: bool
    core: int | None
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


def _module(name: str, **environment: str) -> Start:
    def start(setting: Setting) -> contextlib.AbstractContextManager[Server]:
        command = [
            *(sys.executable, "-m", f"benchmarks.contest.{name}"),
            *("--interval", str(setting.interval), "--size", str(setting.size)),
        ]
        command += ["--busy"] * setting.busy
        return running(command, core=setting.core, environment=environment)

    return start


@contextlib.contextmanager
def _bare(setting: Setting) -> Iterator[Server]:
    command = [str(setting.programs / "bare"), "0", str(setting.interval), str(setting.size)]
    with running(command, core=setting.core) as server:
        yield server


def _pushdemo(pure: bool = False, more: str = "") -> Start:
    @contextlib.contextmanager
    def start(setting: Setting) -> Iterator[Server]:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                pushdemo(
                    interval=setting.interval,
                    payload=setting.size,
                    core=setting.core,
                    more=more + (BUSY_FEED if setting.busy else ""),
                    pure=pure,
                )
            )
            if setting.busy:
                stack.enter_context(_watching(server, "/server/index/busy"))
            yield server

    return start


@contextlib.contextmanager
def _through_redis(setting: Setting) -> Iterator[Server]:
    """The same, but each event goes through an engine, on the clients' core."""
    with engine() as (_, port), at_engine(port)(setting) as server:
        yield server


def at_engine(port: int) -> Start:
    """This application, with an engine that runs already."""
    return _pushdemo(more=f"push.broker = redis://{HOST}:{port}\n")


def _watching(server: Server, path: str) -> contextlib.AbstractContextManager[object]:
    """A client of a feed of ours that computes all the time: it runs while somebody watches it."""
    watcher = socket.create_connection(server.address)
    watcher.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return watcher


def _gunicorn(
    module: str, *options: str, before: Sequence[str] = (), busy_path: str | None = None
) -> Start:
    """gunicorn with the application of a module.

    before: what starts it, and more.
    busy_path: a stream of a feed that computes all the time; without it the application computes
        by itself if it is asked to.
    """

    @contextlib.contextmanager
    def start(setting: Setting) -> Iterator[Server]:
        command = [
            *before,
            *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--bind", f"{HOST}:0"),
            *("--backlog", str(BACKLOG), *options, f"benchmarks.contest.{module}:app"),
        ]
        asked = Options(setting.interval, setting.size, setting.busy)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                running(command, core=setting.core, environment=asked.environment())
            )
            if setting.busy and busy_path:
                stack.enter_context(_watching(server, busy_path))
            yield server

    return start


STREAM = "/server/index/bench"
FLOOR = Contestant("bare C loop", _bare, path="/", hosts_python=False)
OURS = Contestant("pushdemo", _pushdemo(), path=STREAM)
REDIS = Contestant(
    "pushdemo, through Redis", _through_redis, ("redis-server", "redis"), path=STREAM
)
PURE = Contestant("pushdemo, pure Python", _pushdemo(pure=True), path=STREAM)
FLASK = Contestant(
    "pushdemo, Flask on gunicorn",
    _gunicorn("flask_pushdemo", busy_path="/busy"),
    ("Flask", "gunicorn"),
)
# One process that holds all streams, and the workers that hand them to it.
FLASK_WORKERS = Contestant(
    "pushdemo, Flask on gunicorn -w 4",
    _gunicorn(
        "flask_pushdemo",
        *("--workers", "4"),
        before=(
            sys.executable,
            "-m",
            "pushdemo",
            "run",
            "benchmarks.contest.flask_pushdemo:push",
            "--",
        ),
        busy_path="/busy",
    ),
    ("Flask", "gunicorn"),
)
NCHAN = Contestant("nchan", _module("nchan"), ("nginx", "setpriv"))
# By how many threads, or processes, an event is sent: see benchmarks.cores.
SENDERS = {
    number: Contestant(
        f"pushdemo, {number} sender{'s' * (number > 1)}",
        _pushdemo(more=f"push.senders = {number}\n"),
        path=STREAM,
    )
    for number in (1, 2)
}
WORKERS = {
    number: Contestant(
        f"nchan, {number} worker{'s' * (number > 1)}",
        _module("nchan", NCHAN_WORKERS=str(number)),
        ("nginx", "setpriv"),
    )
    for number in (1, 2)
}
STARLETTE = Contestant(
    "sse-starlette",
    _module("sse_starlette"),
    ("sse-starlette", "starlette", "uvicorn", "uvloop", "httptools"),
)
CONTESTANTS = (
    FLOOR,
    OURS,
    REDIS,
    PURE,
    Contestant("pushdemo, multipart", _pushdemo(), path=STREAM, accept=MULTIPART),
    FLASK,
    FLASK_WORKERS,
    NCHAN,
    Contestant("gevent", _module("gevent_sse"), ("gevent",)),
    Contestant("Tornado", _module("tornado_sse"), ("tornado",)),
    Contestant("aiohttp-sse", _module("aiohttp_sse"), ("aiohttp-sse", "aiohttp", "uvloop")),
    STARLETTE,
    Contestant("a thread per stream", _module("threads"), ("Paste",), most=THREADS),
    Contestant(
        "Flask on gunicorn gthread",
        _gunicorn(
            "flask_threads",
            *("--worker-class", "gthread", "--threads", str(THREADS + 100)),
            *("--worker-connections", str(THREADS + 1000)),
        ),
        ("Flask", "gunicorn"),
        most=THREADS,
    ),
)
