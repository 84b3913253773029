"""Where a feed's function runs: in a thread of this process, or in a process of its own.

A function sees most of what it may expect in a thread: the application's modules, its connections,
a debugger. But one that computes in Python, rather than waiting for something, holds the
interpreter's lock, and with it the delivery to every client. In a process it delays nothing else,
and may crash or be killed without taking anything with it.

Both are asked for one value at a time, by a thread that waits for it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pushdemo.push.compute.payload import Blob, Data, Payload, Text, payload_of
from pushdemo.push.failure import Failure, FeedFailed, failure_of

log = logging.getLogger(__name__)

Function = Callable[..., object]

# Of the time it took, what a function may spend on the interpreter before it is worth a hint.
GREEDY = 0.5
NOTICEABLE = 0.05  # seconds
NICENESS = 10  # to everything else that a server does


def step_back() -> None:
    """Give the calling thread less of the processor than delivery, where there is not enough for
    both. Linux alone knows priorities of threads; elsewhere nothing changes."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            niceness = min(os.getpriority(os.PRIO_PROCESS, thread) + NICENESS, 19)
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


class Executor(Protocol):
    def run(self) -> Payload:
        """Compute one value. Raises what the function raises, or FeedFailed."""

    def abandon(self) -> None:
        """The value is not waited for any more. Any thread, while another is in `run`."""

    def close(self) -> None:
        """There will be no more."""


class InThread:
    """Runs in the thread that asks."""

    def __init__(self, name: str, function: Function) -> None:
        self._name = name
        self._function = function
        self._hinted = False

    def run(self) -> Payload:
        began, cpu = time.monotonic(), time.thread_time()
        payload = payload_of(self._function())
        spent = time.thread_time() - cpu
        if spent > max(NOTICEABLE, GREEDY * (time.monotonic() - began)) and not self._hinted:
            self._hinted = True
            log.warning(
                "feed %s computed for %.2g s, and the server had to wait for it again and again;"
                " feed.%s.executor = process gives it an interpreter of its own",
                self._name, spent, self._name,
            )  # fmt: skip
        return payload

    def abandon(self) -> None:
        pass  # a thread cannot be ended: it goes on, and its result is dropped

    def close(self) -> None:
        pass


class InProcess:
    """Runs in a process of its own, which is started for the first value, kept for the next, and
    replaced when it has died.

    path: `package.module:function`, which that process imports.
    arguments: what the function is called with.
    """

    def __init__(self, name: str, path: str, arguments: Mapping[str, str]) -> None:
        self._name = name
        self._path = path
        self._arguments = dict(arguments)
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._closed = False

    def run(self) -> Payload:
        worker = self._start()
        try:
            return worker.ask()
        except FeedFailed:
            raise
        except (EOFError, OSError):
            died = f"its process died ({_cause(self._end(worker))})"
            raise FeedFailed(Failure(died)) from None
        except BaseException:
            # What came through the pipe is no answer, so the next may be none either: the function
            # has written there, or this thread was interrupted.
            self._end(worker)
            raise

    def abandon(self) -> None:
        worker = self._worker
        if worker is not None:
            worker.kill()  # `run` then finds it dead, and replaces it

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.kill()

    def _start(self) -> _Worker:
        with self._lock:
            if self._worker is None:
                self._worker = _Worker(self._name, self._path, self._arguments)
            return self._worker

    def _end(self, worker: _Worker) -> int | None:
        """End a process, and start another in its place. Returns its exit code."""
        code = worker.end()
        with self._lock:
            if self._worker is worker:
                self._worker = None
        # Now and not when the next value is due, which would then be late.
        if not self._closed:
            with contextlib.suppress(OSError):  # none can be started: the next value will say so
                self._start()
        return code


class _Worker:
    """The other process, as seen from here."""

    def __init__(self, name: str, path: str, arguments: dict[str, str]) -> None:
        # Spawned and not forked: a fork of a process with threads has their locks, and not them.
        context = multiprocessing.get_context("spawn")
        self._requests, requests = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(requests, path, arguments),
            name=f"pushdemo-feed-{name}",
            daemon=True,
        )
        self._process.start()
        requests.close()  # so that its death is an end of file here

    def ask(self) -> Payload:
        self._requests.send_bytes(b"?")
        return decode(self._requests.recv_bytes())

    def kill(self) -> None:
        """Kill it, and end an `ask` under way. Any thread."""
        self._process.kill()
        # Its death alone need not be an end of file: a process that the function has started may
        # have inherited the other end.
        with contextlib.suppress(OSError), _duplicate(self._requests) as pipe:
            pipe.shutdown(socket.SHUT_RDWR)

    def end(self) -> int | None:
        self._process.kill()
        self._process.join()
        self._requests.close()
        return self._process.exitcode


def _duplicate(connection: Connection) -> socket.socket:
    """A pipe of multiprocessing's is a pair of Unix sockets."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:  # a real-time signal has no name
            return f"signal {-code}"
    return f"exit code {code}"


# A payload goes through the pipe as it will go to the clients: text as UTF-8, data as JSON, bytes
# as they are. It was looked at and encoded over there, and is not pickled.

_TEXT, _DATA, _BLOB, _ERROR = b"TDBE"


def encode(payload: Payload) -> list[bytes]:
    """A payload as bytes, in two pieces, for the second may be large."""
    match payload:
        case Text(text):
            return [bytes([_TEXT]), text.encode()]
        case Data(json):
            return [bytes([_DATA]), json.encode()]
        case Blob(data, content_type):
            return [bytes([_BLOB]) + content_type.encode() + b"\0", data]


def decode(received: bytes) -> Payload:
    """The payload that `encode` had; raises FeedFailed for an error."""
    kind, content = received[0], memoryview(received)[1:]
    if kind == _TEXT:
        return Text(str(content, "utf-8"))
    if kind == _DATA:
        return Data(str(content, "utf-8"))
    if kind == _BLOB:
        end = received.index(b"\0", 1)
        return Blob(received[end + 1 :], received[1:end].decode())
    raise FeedFailed(Failure(*json.loads(str(content, "utf-8"))))


def _exit_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _serve(requests: Connection, path: str, arguments: dict[str, str]) -> None:
    """The other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # By so much behind the server, and not behind the thread that has started this, which has
    # stepped back itself.
    server, own = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (os.getppid(), 0))
    os.nice(max(0, server + NICENESS - own))
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A function that hangs must not outlive the server.
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    function: Any = None
    while True:
        try:
            requests.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            if function is None:
                module, _, name = path.partition(":")
                function = importlib.import_module(module)
                for attribute in name.split("."):
                    function = getattr(function, attribute)
            pieces = encode(payload_of(function(**arguments)))
        except BaseException as error:
            failure = failure_of(error)
            pieces = [bytes([_ERROR]), json.dumps([failure.summary, failure.details]).encode()]
        requests.send_bytes(b"".join(pieces))
