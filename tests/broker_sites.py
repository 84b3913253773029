"""Where the contract of tests/test_brokers.py is tried: each broker, and the means to do to its
engine what may happen to one.

A broker that is new here needs one class, in a file of its own or here, and a line in SITES. What
its engine cannot have done to it, its site skips.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from pushdemo.push.broker.memory import MemoryBroker
from pushdemo.push.broker.protocol import Broker, BrokerUnavailable, Lease
from pushdemo.push.broker.redis import RedisBroker
from tests.cutting import CuttingProxy
from tests.engines import RealEngine
from tests.servers import until
from tests.shifted_clock import ShiftedClock

PATIENCE = 15.0


class Cutting(Protocol):
    """An engine behind something that cuts connections."""

    def broker(self) -> Broker: ...

    def cut_next_reply(self, after: int) -> None:
        """Cut the next connection on which something comes, after so many bytes of it."""


class FailingOver(Protocol):
    """A master and its replica, behind one address."""

    def broker(self) -> Broker: ...

    def part(self) -> None:
        """What the master is given from now on, the replica is not."""

    def switch(self) -> None:
        """The replica is the master now."""


class Site(Protocol):
    """One engine.

    hears_elsewhere: who publishes does not wait for who hears.
    """

    hears_elsewhere: bool

    def broker(self) -> Broker:
        """One more broker of the engine, as another process has one."""

    def wait(self, seconds: float) -> None:
        """Let the time of leases go by."""

    def again(self, ask: Callable[[], object]) -> None:
        """Do it, until the engine is there."""

    def lose(self) -> None:
        """It loses everything."""

    def keep(self) -> Any:
        """What it has now."""

    def roll_back(self, copy: Any) -> None:
        """It comes back with that."""

    def set_back(self, seconds: int) -> None:
        """Its wall clock is set back."""

    def restart(self) -> None:
        """It is restarted, and loses nothing."""

    def cut(self) -> None:
        """All its connections are cut."""

    def standing(self) -> contextlib.AbstractContextManager[None]: ...

    def away(self) -> contextlib.AbstractContextManager[None]: ...

    def full(self) -> contextlib.AbstractContextManager[None]: ...

    def read_only(self) -> contextlib.AbstractContextManager[None]: ...

    def cutting(self) -> contextlib.AbstractContextManager[Cutting]: ...

    def failing_over(self) -> contextlib.AbstractContextManager[FailingOver]: ...

    def close(self) -> None: ...


class MemorySite:
    """One broker, which all have: it is in one process."""

    hears_elsewhere = False

    def __init__(self, kind: Callable[..., MemoryBroker] = MemoryBroker) -> None:
        self._now = 1_000_000_000_000
        self._broker = kind(lambda: self._now)

    def broker(self) -> Broker:
        return self._broker

    def wait(self, seconds: float) -> None:
        self._now += round(seconds * 1_000_000_000)

    def again(self, ask: Callable[[], object]) -> None:
        ask()

    def close(self) -> None:
        self._broker.close()

    def _cannot(self, *_: object) -> Any:
        pytest.skip("nothing of the kind can happen to memory")

    lose = keep = roll_back = restart = cut = set_back = _cannot
    standing = away = full = read_only = cutting = failing_over = _cannot


class RedisSite:
    """A real server."""

    hears_elsewhere = True

    def __init__(self, kind: str = "redis") -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._clock = ShiftedClock(Path(self._directory.name))
        self._kind = kind
        self.engine = RealEngine(kind, persistent=True, environ=self._clock.environ)
        self._brokers: list[RedisBroker] = []

    def broker(self, url: str | None = None) -> RedisBroker:
        made = RedisBroker(url or self.engine.url)
        self._brokers.append(made)
        return made

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def again(self, ask: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                ask()
                return
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def lose(self) -> None:
        self.engine.empty()

    def keep(self) -> Any:
        return self.engine.keep_copy()

    def roll_back(self, copy: Any) -> None:
        self.engine.roll_back(copy)

    def set_back(self, seconds: int) -> None:
        self._clock.shift(-seconds)

    def restart(self) -> None:
        with self.engine.away():
            pass

    def cut(self) -> None:
        self.engine.cut()

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        self.engine.stop()
        try:
            yield
        finally:
            self.engine.go_on()

    def away(self) -> contextlib.AbstractContextManager[None]:
        return self.engine.away()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.engine.command("CONFIG", "SET", "maxmemory", "1mb")
        try:
            yield
        finally:
            self.engine.command("CONFIG", "SET", "maxmemory", "0")

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """As a master that has become a replica."""
        self.engine.command("CONFIG", "SET", "replica-serve-stale-data", "yes")
        self.engine.command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            self.engine.command("REPLICAOF", "NO", "ONE")

    @contextlib.contextmanager
    def cutting(self) -> Iterator[Cutting]:
        with CuttingProxy(self.engine.port) as proxy:
            yield _Through(self, proxy)

    @contextlib.contextmanager
    def failing_over(self) -> Iterator[FailingOver]:
        # By default it would wait for more replicas to come, for five seconds.
        self.engine.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        options = ("--replicaof", "127.0.0.1", str(self.engine.port))
        with (
            CuttingProxy(self.engine.port) as proxy,
            contextlib.closing(RealEngine(self._kind, options=options)) as replica,
        ):
            yield _Replicated(self, proxy, replica)

    def close(self) -> None:
        closing = [threading.Thread(target=broker.close) for broker in self._brokers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.engine.close()
        self._directory.cleanup()


class _Through:
    def __init__(self, site: RedisSite, proxy: CuttingProxy) -> None:
        self._site = site
        self._proxy = proxy

    def broker(self) -> Broker:
        return self._site.broker(f"redis://127.0.0.1:{self._proxy.port}")

    def cut_next_reply(self, after: int) -> None:
        self._proxy.cut_next_reply(after)


class _Replicated:
    def __init__(self, site: RedisSite, proxy: CuttingProxy, replica: RealEngine) -> None:
        self._site = site
        self._proxy = proxy
        self._replica = replica

    def broker(self) -> Broker:
        return self._site.broker(f"redis://127.0.0.1:{self._proxy.port}")

    def part(self) -> None:
        self._site.engine.command("SET", "mark", "1")  # it is given all in order
        until(lambda: self._replica.command("EXISTS", "mark"), "the replica to have it all")
        self._replica.command("REPLICAOF", "NO", "ONE")

    def switch(self) -> None:
        self._proxy.switch(self._replica.port)


class _Unfenced(MemoryBroker):
    """A broker that looks at no lease when it publishes."""

    def _check(self, its: Any, lease: Lease | None) -> None:
        pass


class WithoutFence(MemorySite):
    def __init__(self) -> None:
        super().__init__(_Unfenced)


SITES: dict[str, Callable[[], Site]] = {
    "memory": MemorySite,
    "redis": RedisSite,
    "valkey": lambda: RedisSite("valkey"),
}
