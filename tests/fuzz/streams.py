"""The recording streams, in a process of their own: what delays them is the server alone."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.history import Client, witnessed
from tests.judging import Bounds, judge
from tests.recording import Log, Recorder

STREAMS = 100
# Seconds without an event. The feeds' beats are 0.5 to 3 s, and a machine with two cores is busy.
BEATS = {"count": 3.0, "other": 3.0, "slow": 5.0, "failing": 4.0, "big": 8.0}
BOUNDS = Bounds(silence=3.0, late=3.0, beats=BEATS, settle=5.0)
FEEDS = (
    ("count",), ("count",), ("count", "other"), ("other",), ("count", "other", "slow"), ("slow",),
    ("failing",), ("count", "failing"), ("count",), ("count", "other"),
)  # fmt: skip
FORMATS = ("sse", "ndjson", "multipart")


class Plan(NamedTuple):
    """A stream to record."""

    name: str
    feeds: tuple[str, ...]
    request: bytes


def plans(count: int = STREAMS) -> Iterator[Plan]:
    """The streams: of each format, of one feed and of several, plain and compressed."""
    for number in range(count):
        feeds = ("big",) if number % 25 == 24 else FEEDS[number // 3 % len(FEEDS)]
        name = FORMATS[number % 3]
        coding = "Accept-Encoding: gzip\r\n" if number % 4 == 1 else ""
        yield Plan(
            f"stream {number} ({name}{', gzip' if coding else ''})",
            feeds,
            f"GET /server/index/{'+'.join(feeds)}?format={name} HTTP/1.1\r\n"
            f"Host: test\r\nX-Stream: {number}\r\n{coding}\r\n".encode(),
        )


def record(address: tuple[str, int], pipe: Connection, count: int) -> None:
    """A process's target. Tells over `pipe` whenever it is asked, by anything but None, the names
    of streams that are silent for too long, and when all are connected; after None, the verdict."""
    recorder = Recorder()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for plan in plans(count):
            log = recorder.log(plan.name, plan.feeds)
            sock = stack.enter_context(socket.create_connection(address, timeout=30))
            log.connect()
            sock.sendall(plan.request)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, log)
        selector.register(pipe, selectors.EVENT_READ)
        while _read(selector, pipe, recorder):
            pass
    now = time.monotonic()
    for client in recorder.clients:
        client.until = now
    clients = recorder.clients
    pipe.send(judge(witnessed(clients, timed=True), clients, BOUNDS))
    pipe.close()


def _read(selector: selectors.BaseSelector, pipe: Connection, recorder: Recorder) -> bool:
    """What has come on any stream; False when the end was asked for."""
    asked: object = False
    for key, _ in selector.select():
        if key.fileobj is pipe:
            asked = True
            continue
        log: Log = key.data
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        if not log.read(sock):
            selector.unregister(sock)
    if asked:
        try:
            if pipe.recv() is None:
                return False
        except EOFError:  # who started this is gone
            raise SystemExit(1) from None
        pipe.send(_silent(recorder.clients, time.monotonic()))
    return True


def _silent(clients: list[Client], now: float) -> list[str]:
    """Those that have had nothing for too long, or never anything."""
    return [
        client.name
        for client in clients
        if not client.entries or now - client.entries[-1].at > BOUNDS.silence
    ]
