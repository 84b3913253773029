"""An application on a real engine: what an operator gets wrong, and processes that share feeds."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pushdemo import Push
from pushdemo.client import watch
from pushdemo.push.broker import nodes
from pushdemo.push.broker import redis as broker_on_redis
from pushdemo.push.broker.protocol import BrokerUnavailable
from pushdemo.push.options import ConfigError
from tests.engines import RealEngine, free_port
from tests.servers import CHECKOUT, HANG, Paster, until

FEEDS = """
import itertools, os

numbers = itertools.count(1)


def number():
    return {"pid": os.getpid(), "number": next(numbers)}


def broken():
    if os.path.exists("broken"):
        raise RuntimeError("it is broken")
    return 1
"""
APP = """
push.broker = {url}
push.token = secret
feed.number = shared:number
feed.number.interval = 0.5
feed.number.history = 50
feed.broken = shared:broken
feed.broken.interval = 0.5
feed.pushed = push
feed.pushed.history = 50
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[RealEngine]:
    with closing(RealEngine()) as engine:
        yield engine


@pytest.fixture
def fresh(engine: RealEngine) -> RealEngine:
    engine.command("FLUSHALL")
    return engine


# What is wrong at the start


@contextlib.contextmanager
def engine_that_says(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """A server that answers each command with what `reply` makes of it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock, contextlib.suppress(OSError):
                    while data := sock.recv(4096):
                        commands = data.count(b"*")  # each command is an array
                        sock.sendall(b"".join(reply(data) for _ in range(min(commands, 1))))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(HANG)


def complaint(url: str) -> str:
    with pytest.raises(ConfigError) as refused:
        Push(broker=url).check()
    said = str(refused.value)
    assert "\n" not in said
    assert "hunter2" not in said
    return said


def test_a_password_that_is_wrong_or_missing_is_one_line() -> None:
    with closing(RealEngine(options=("--requirepass", "right"))) as engine:
        for url in (engine.url, f"redis://:hunter2@127.0.0.1:{engine.port}",
                    f"redis://me:hunter2@127.0.0.1:{engine.port}"):  # fmt: skip
            said = complaint(url)
            assert said.startswith(f"push.broker: redis://127.0.0.1:{engine.port}: ")
            assert "password" in said
        Push(broker=f"redis://:right@127.0.0.1:{engine.port}").check()


def test_a_user_that_may_not_is_one_line(fresh: RealEngine) -> None:
    fresh.command("ACL", "SETUSER", "poor", "on", ">hunter2", "~*", "+client", "+info")
    said = complaint(f"redis://poor:hunter2@127.0.0.1:{fresh.port}")
    assert "its user may not do what is needed" in said


def test_a_user_with_what_the_docs_name_can_do_all(fresh: RealEngine) -> None:
    scaling = (CHECKOUT / "docs" / "scaling.md").read_text()
    (rules,) = (line.split() for line in scaling.splitlines() if line.startswith("    ~{"))
    fresh.command("ACL", "SETUSER", "modest", "on", ">pass", *rules)
    url = f"redis://modest:pass@127.0.0.1:{fresh.port}/1"
    push = Push(broker=url)
    push.check()
    push.feed(lambda: 1, name="one", interval=0.5)
    push.pushed_feed("alerts")
    channels = push.engine.channels
    channels["one"].subscribe(lambda: None)
    try:
        push.publish("alerts", 1, key="k")
        until(lambda: channels["one"].reached and channels["alerts"].reached, "both")
        assert not push.health()["broker"].last_error
    finally:
        push.close()


def test_a_host_that_is_none_is_one_line() -> None:
    said = complaint("redis://no-such-host.invalid")
    assert said == "push.broker: redis://no-such-host.invalid:6379: there is no such host"


def test_a_database_that_is_none_is_one_line(fresh: RealEngine) -> None:
    said = complaint(f"{fresh.url}/999")
    assert said == f"push.broker: redis://127.0.0.1:{fresh.port}/999: DB index is out of range"


def test_a_version_that_is_too_old_is_one_line() -> None:
    info = b"# Server\r\nredis_version:5.0.14\r\n"

    def reply(command: bytes) -> bytes:
        if b"INFO" in command and b"SETINFO" not in command:
            return b"$%d\r\n%s\r\n" % (len(info), info)
        return b"+PONG\r\n" if b"PING" in command else b"+OK\r\n"

    with engine_that_says(reply) as port:
        said = complaint(f"redis://127.0.0.1:{port}")
    assert said.endswith("it is Redis 5.0.14, and 6.2 is the oldest that will do")


def test_an_engine_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Push(broker=f"redis://127.0.0.1:{free_port()}").check()
    assert "the broker is away, and is asked again and again" in caplog.text


def test_an_engine_that_drops_what_it_is_given_is_said(
    fresh: RealEngine, caplog: pytest.LogCaptureFixture
) -> None:
    fresh.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with caplog.at_level(logging.WARNING):
            Push(broker=fresh.url).check()
    finally:
        fresh.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "its maxmemory-policy is allkeys-lru; set noeviction" in caplog.text


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pushdemo.push.broker.redis", None)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "pushdemo.push.broker.redis")
    with pytest.raises(ConfigError) as refused:
        Push(broker="redis://host")
    assert "pip install 'pushdemo[redis]'" in str(refused.value)


@pytest.mark.parametrize("command", ["paster", "broadcaster"])
def test_a_bad_broker_ends_the_start_with_one_line(command: str, tmp_path: Path) -> None:
    ini = tmp_path / "bad.ini"
    ini.write_text(
        "[app:main]\nuse = egg:pushdemo\nfeed.clock = pushdemo.feeds:clock\n"
        "push.broker = redis://:hunter2@no-such-host.invalid\n"
        "[server:main]\nuse = egg:pushdemo#http\nport = 0\n"
    )
    bin_directory = Path(sys.executable).parent
    words = {
        "paster": [str(bin_directory / "paster"), "serve", str(ini)],
        "broadcaster": [sys.executable, "-m", "pushdemo", "broadcaster", str(ini),
                        "--socket", f"unix:{tmp_path / 'socket'}"],
    }[command]  # fmt: skip
    ended = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=HANG,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1] == (
        "push.broker: redis://no-such-host.invalid:6379: there is no such host"
    )
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


# Several processes


class Two:
    """Two servers that share an engine."""

    def __init__(self, directory: Path, engine: RealEngine) -> None:
        self.servers = []
        self.directories = []
        for name in ("one", "two"):
            its = directory / name
            its.mkdir()
            (its / "shared.py").write_text(FEEDS)
            self.directories.append(its)
            self.servers.append(Paster(its, APP.format(url=engine.url)))

    def address(self, number: int, feed: str) -> str:
        host, port = self.servers[number].address
        return f"http://{host}:{port}/server/index/{feed}"

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, engine: RealEngine) -> Iterator[Two]:
    engine.command("FLUSHALL")
    with closing(Two(tmp_path_factory.mktemp("two"), engine)) as both:
        yield both


def first(url: str, count: int, **options: Any) -> list[Any]:
    with watch(url, accept="ndjson", **options) as events:
        return [event for _, event in zip(range(count), events, strict=False)]


def test_both_send_the_same_events_of_one_computation(two: Two) -> None:
    seen: dict[int, list[Any]] = {}

    def read(number: int) -> None:
        seen[number] = first(two.address(number, "number"), 6)

    threads = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = {event.id: event.value for both in seen.values() for event in both}
    assert len({value["pid"] for value in events.values()}) == 1
    shared = {event.id for event in seen[0]} & {event.id for event in seen[1]}
    assert len(shared) >= 3
    numbers = [value["number"] for value in events.values()]
    assert len(numbers) == len(set(numbers))


def test_a_client_may_go_on_at_the_other(two: Two) -> None:
    before = first(two.address(0, "number+pushed"), 3)
    after = first(two.address(1, "number+pushed"), 3, last_event_id=before[-1].id)
    assert all(event.type == "message" for event in after)
    assert len({event.id for event in (*before, *after)}) == 6
    assert [event.id for event in after] == sorted(event.id for event in (*before, *after))[3:]


def publish(two: Two, number: int, value: object, key: str | None = None) -> tuple[int, str]:
    import http.client

    connection = http.client.HTTPConnection(*two.servers[number].address, timeout=HANG)
    headers = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    connection.request("POST", "/server/publish/pushed", json.dumps(value), headers)
    answer = connection.getresponse()
    said = answer.read().decode().strip()
    connection.close()
    return answer.status, said


def test_what_is_published_at_one_is_seen_at_both_and_once_under_retry(two: Two) -> None:
    status, event_id = publish(two, 0, {"x": 1}, "key 1")
    assert status == 200
    publish(two, 1, {"x": 2})
    assert publish(two, 1, {"x": 1}, "key 1") == (200, event_id)
    _, last = publish(two, 0, {"x": 3})
    for number in (0, 1):
        events = first(two.address(number, "pushed"), 2, last_event_id=event_id)
        assert [event.value for event in events] == [{"x": 2}, {"x": 3}]
        assert events[-1].id == last


def test_a_failure_is_told_at_both(two: Two) -> None:
    seen: list[list[str]] = [[], []]
    watches = [watch(two.address(number, "broken"), accept="ndjson") for number in (0, 1)]

    def read(number: int) -> None:
        seen[number].extend(event.type for event in watches[number])

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 1)]
    for thread in threads:
        thread.start()
    until(lambda: all(seen), "a value at both")
    marks = [directory / "broken" for directory in two.directories]
    for mark in marks:
        mark.touch()
    until(lambda: all("error" in types for types in seen), "the failure at both")
    for mark in marks:
        mark.unlink()
    until(lambda: all("recovered" in types for types in seen), "the recovery at both")
    for one in watches:
        one.close()


def test_while_the_engine_is_away_nothing_can_be_published_and_pages_keep_their_value(
    tmp_path: Path,
) -> None:
    with closing(RealEngine(persistent=True)) as engine, closing(Two(tmp_path, engine)) as both:
        before = first(both.address(0, "number"), 2)
        with engine.away():
            status, _ = publish(both, 0, {"x": 1})
            assert status == 503
            here = first(both.address(0, "number"), 1)
            assert here[0].id >= before[-1].id
        status, _ = publish(both, 0, {"x": 1})
        assert status == 200
        after = first(both.address(1, "number"), 2, last_event_id=here[-1].id)
        assert [event.type for event in after] == ["message"] * 2


# The library


def test_a_push_publishes_from_any_process_without_a_stream(fresh: RealEngine) -> None:
    one, two = Push(broker=fresh.url), Push(broker=fresh.url)
    for push in (one, two):
        push.pushed_feed("alerts", history=10)
    _ = two.engine
    try:
        first_id = one.publish("alerts", "fire", key="k")
        assert one.publish("alerts", "fire", key="k") == first_id
        until(lambda: two.engine.channels["alerts"].newest, "the other to hear of it")
        assert [event.id for event in two.engine.channels["alerts"].since(0)] == [first_id]
        assert two.health()["broker"].alive
    finally:
        one.close()
        two.close()


def test_a_key_is_looked_at(fresh: RealEngine) -> None:
    push = Push(broker=fresh.url)
    push.pushed_feed("alerts")
    for key in ("", "x" * 256, "zürich", "a\nb"):
        with pytest.raises(ValueError, match="a key has 1 to 255 printable characters"):
            push.publish("alerts", 1, key=key)


def test_who_publishes_while_the_engine_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushdemo.push.broker.cluster.PATIENCE", 0.2)
    push = Push(broker=f"redis://127.0.0.1:{free_port()}")
    push.pushed_feed("alerts")
    with pytest.raises(BrokerUnavailable):
        push.publish("alerts", 1)


def test_applications_with_other_prefixes_share_nothing(fresh: RealEngine) -> None:
    pushes = [Push(broker=f"{fresh.url}?prefix={name}") for name in ("a", "b")]
    for push in pushes:
        push.pushed_feed("alerts", history=10)
        _ = push.engine
    try:
        pushes[0].publish("alerts", 1)
        until(lambda: pushes[0].engine.channels["alerts"].newest, "its own")
        time.sleep(0.1)
        assert pushes[1].engine.channels["alerts"].newest is None
    finally:
        for push in pushes:
            push.close()


def test_a_process_that_was_forked_has_connections_of_its_own(fresh: RealEngine) -> None:
    push = Push(broker=fresh.url)
    push.pushed_feed("alerts", history=10)
    push.publish("alerts", "parent")
    _ = push.engine
    child = os.fork()
    if child == 0:
        try:
            push.publish("alerts", "child")
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    push.publish("alerts", "parent again")
    until(lambda: push.engine.channels["alerts"].reached == 3, "all three")
    push.close()


def test_a_successor_goes_on_with_the_lease_and_the_chain(
    fresh: RealEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_on_redis, "BLOCK", 0.1)
    computed: list[str] = []

    def make(name: str) -> Push:
        push = Push(broker=fresh.url)

        @push.feed(interval=0.5, history=50)
        def count() -> int:
            computed.append(name)
            return len(computed)

        return push

    old, new = make("old"), make("new")
    channel = old.engine.channels["count"]
    channel.subscribe(lambda: None)
    until(lambda: channel.reached >= 2, "the first events")
    old.hold()
    state, socks = old.snapshot()
    new.restore(state, socks)
    taken = new.engine.channels["count"]
    taken.subscribe(lambda: None)
    old.leave()
    new.go_on()
    try:
        reached = taken.reached
        until(lambda: taken.reached >= reached + 3, "the successor's events")
        assert not taken.breaks_after(0)
        assert computed[-1] == "new"
        assert computed == sorted(computed, reverse=True)  # the old one, and then the new one
    finally:
        new.close()
        old.close()


def test_a_process_that_ends_by_itself_gives_its_lease_back(fresh: RealEngine) -> None:
    """A worker of a server that knows nothing of feeds, for one."""
    script = (
        "import time\nfrom pushdemo import Push\n"
        f"push = Push(broker={fresh.url!r})\n"
        "push.feed(lambda: 1, name='one', interval=5)\n"
        "channel = push.engine.channels['one']\nchannel.subscribe(lambda: None)\n"
        "while not channel.reached: time.sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=HANG, cwd=CHECKOUT)
    assert fresh.command("XLEN", "{pushdemo}:log:one") == 1
    assert fresh.command("EXISTS", "{pushdemo}:lease:one") == 0


def test_a_server_that_ends_gives_its_lease_back(fresh: RealEngine, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(FEEDS)
    server = Paster(tmp_path, APP.format(url=fresh.url))
    try:
        host, port = server.address
        # While somebody watches: without, it would be given back anyhow.
        with watch(f"http://{host}:{port}/server/index/number", accept="ndjson") as events:
            next(events)
            assert fresh.command("EXISTS", "{pushdemo}:lease:number") == 1
            server.process.send_signal(signal.SIGTERM)
        server.process.wait(HANG)
        assert fresh.command("EXISTS", "{pushdemo}:lease:number") == 0
    finally:
        server.close()


def test_the_nodes_know_how_each_other_is(
    fresh: RealEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "INTERVAL", 0.2)
    pushes = [Push(broker=fresh.url) for _ in range(2)]
    try:
        for push in pushes:
            push.feed(lambda: 1, name="one", interval=0.2)
        for status in [push.engine.status for push in pushes]:
            until(lambda s=status: len(s.processes()["processes"]) == 2, "the other's report")  # type: ignore[misc]
            both = status.processes()
            assert [one["broker"] for one in both["processes"]] == ["connected"] * 2
            assert [one["feed"] for one in both["feeds"]] == ["one", "one"]
    finally:
        for push in pushes:
            push.close()
