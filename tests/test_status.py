"""/status, /metrics, /healthz and /readyz: on real servers, with clients that count."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from pushdemo import Push
from pushdemo.commands.status import page
from pushdemo.push.board import Board
from pushdemo.push.broker.nodes import Nodes
from pushdemo.push.broker.protocol import Entry
from pushdemo.push.exposition import exposition
from pushdemo.push.status import TABLES, VERSION, merged, readable
from tests.asking import ask
from tests.servers import CHECKOUT, HANG, Reader, until
from tests.serving import Serving
from tests.wsgi_servers import GUNICORN, WsgiServer, processes, write_application

INI = """\
[app:main]
use = egg:pushdemo
feed.clock = pushdemo.feeds:clock
feed.clock.interval = 0.2
feed.broken = told:broken
feed.outside = push
push.token = secret
{more}
[server:main]
use = egg:pushdemo#http
port = 0
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("status")
    (directory / "mine.ini").write_text(INI.format(more=""))
    (directory / "told.py").write_text("def broken():\n    raise ValueError('no')\n")
    with Serving(directory, "mine.ini") as serving:
        yield serving


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, Message, str]:
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=HANG) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def local(serving: Serving, target: str) -> Reader:
    """A client on this machine, which names it so."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return Reader(("127.0.0.1", serving.port), request.encode())


def samples(text: str) -> dict[str, float]:
    """Prometheus' text format, by name and labels."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def promtool(text: str) -> str:
    """What it has to complain of."""
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("there is no promtool")
        pytest.skip("there is no promtool")
    ended = subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True,
        timeout=HANG, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_status_is_json_for_who_takes_anything(serving: Serving) -> None:
    with serving.connect("/server/index/clock?format=sse") as reader:
        reader.head()
        for _ in range(12):
            reader.line()
        status, headers, text = get(f"{serving.url}/status")
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        said = json.loads(text)
        assert set(said) == {"at", *TABLES}
        (process,) = said["processes"]
        assert process["memory_bytes"] > 1_000_000
        assert process["streams"] >= 1
        feeds = {one["feed"]: one for one in said["feeds"]}
        assert list(feeds) == ["clock", "broken", "outside"]
        assert [one["kind"] for one in feeds.values()] == ["computed", "computed", "pushed"]
        assert feeds["clock"]["watchers"] == 1
        assert feeds["clock"]["computations"] >= 2
        (streams,) = (one for one in said["streams"] if one["feed"] == "clock")
        assert (streams["format"], streams["open"]) == ("sse", 1)
        assert {one["thread"] for one in said["threads"]} == {"publisher", "broadcaster"}


def test_status_is_live(serving: Serving) -> None:
    with local(serving, "/status?format=ndjson&limit=2") as reader:
        assert reader.head()[0] == 200
        first, second = json.loads(reader.line()), json.loads(reader.line())
    assert first["feed"] == second["feed"] == "~status"
    assert first["value"]["at"] < second["value"]["at"]


def test_the_feed_of_figures_is_everybodys(serving: Serving) -> None:
    headers = {"X-Forwarded-For": "1.2.3.4", "Accept": "application/json"}
    status, _, text = get(f"{serving.url}/server/index/~feeds", headers)
    assert status == 200
    assert [one["name"] for one in json.loads(text)] == ["clock", "broken", "outside"]


@pytest.mark.parametrize(
    "path", ["/status", "/metrics", "/server/index/~status", "/server/index/clock+~status",
             "/server/index/~metrics"]
)  # fmt: skip
def test_they_are_not_for_clients_of_a_proxy(serving: Serving, path: str) -> None:
    status, _, text = get(f"{serving.url}{path}", {"X-Forwarded-For": "1.2.3.4"})
    assert status == 403
    assert "push.status" in text


def test_equal_requests_of_others_do_not_share_them(serving: Serving) -> None:
    """The server answers equal requests for a stream by one call of the application."""
    with local(serving, "/status?format=sse") as reader:
        assert reader.head()[0] == 200
        status, _, _ = get(f"{serving.url}/status?format=sse", {"X-Forwarded-For": "1.2.3.4"})
        assert status == 403


def test_metrics_pass_promtool(serving: Serving) -> None:
    with serving.connect("/server/index/clock+broken?limit=3") as reader:
        assert reader.rest().count(b"<message>") == 3
    status, headers, text = get(f"{serving.url}/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert promtool(text) == ""
    found = samples(text)
    assert found['pushdemo_deliveries_total{feed="clock",format="multipart"}'] >= 3
    assert found['pushdemo_feed_failing{feed="broken"}'] == 1
    assert found['pushdemo_feed_failing{feed="clock"}'] == 0
    assert found['pushdemo_computation_failures_total{feed="broken"}'] >= 1
    assert (
        found['pushdemo_publish_to_sent_seconds_bucket{feed="clock",le="+Inf"}']
        == (found['pushdemo_publish_to_sent_seconds_count{feed="clock"}'])
    )
    status, headers, _ = get(
        f"{serving.url}/metrics", {"Accept": "application/openmetrics-text;version=1.0.0"}
    )
    assert headers["Content-Type"].startswith("application/openmetrics-text")


def test_health_and_readiness(serving: Serving) -> None:
    for path in ("/healthz", "/readyz"):
        assert get(f"{serving.url}{path}", {"X-Forwarded-For": "1.2.3.4"})[::2] == (200, "ok\n")


def test_a_process_that_is_full_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "mine.ini").write_text(INI.format(more="push.max_streams = 1"))
    (tmp_path / "told.py").write_text("def broken():\n    raise ValueError('no')\n")
    with Serving(tmp_path, "mine.ini") as serving:
        with serving.connect("/server/index/clock") as reader:
            assert reader.head()[0] == 200
            assert get(f"{serving.url}/readyz")[::2] == (503, "all streams are taken\n")
            assert get(f"{serving.url}/healthz")[0] == 200
        until(lambda: get(f"{serving.url}/readyz")[0] == 200, "the place")


def test_a_dead_thread_is_not_healthy() -> None:
    push = Push()
    push.feed(lambda: 1, name="one")
    _ = push.engine
    push.engine._broadcaster._loop._stopped = True
    status, text = ask(push.application, "/healthz")
    assert (status, text) == (503, "the thread broadcaster has ended\n")
    assert push.readiness() == ["the thread broadcaster has ended"]


def test_without_prometheus_client_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    push = Push(status="*")
    push.feed(lambda: 1, name="one")
    status, text = ask(push.application, "/metrics")
    assert status == 501
    assert "pip install 'pushdemo[metrics]'" in text
    push.close()


# Several workers: what is counted is what the clients have counted

APPLICATION = """
import itertools, time
from pushdemo import Push

push = Push()
numbers = itertools.count()


@push.feed(interval=0.2)
def count():
    return next(numbers)


app = push.application
"""
CLIENTS = 24
LIMIT = 5


def drive(server: WsgiServer) -> int:
    """Have clients take some events each, in three formats; how many that were."""
    seen = 0
    with ExitStack() as stack:
        readers = [
            stack.enter_context(server.connect(f"/server/index/count?limit={LIMIT}&format={form}"))
            for form in ("sse", "ndjson", "multipart")
            for _ in range(CLIENTS // 3)
        ]
        for number, reader in enumerate(readers):
            assert reader.head()[0] == 200
            received = reader.rest()
            mark = (b"\ndata: ", b'"value":', b"<message>")[number * 3 // CLIENTS]
            seen += received.count(mark)
    return seen


@contextmanager
def workers(directory: Path, *, broadcaster: bool) -> Iterator[WsgiServer]:
    write_application(directory, APPLICATION)
    command = [*GUNICORN, "-w", "4", "application:app"]
    if broadcaster:
        run = [sys.executable, "-m", "pushdemo", "run", "application:push", "--"]
        command = [*run, *command]
    with WsgiServer(directory, *command) as server:
        yield server


@pytest.mark.parametrize("broadcaster", [False, True], ids=["alone", "with a broadcaster"])
def test_the_counters_of_four_workers_are_what_the_clients_counted(
    tmp_path: Path, broadcaster: bool
) -> None:
    with workers(tmp_path, broadcaster=broadcaster) as server:
        seen = drive(server)
        assert seen == CLIENTS * LIMIT

        def counted() -> dict[str, float]:
            return samples(server.ask("/metrics")[2])

        def of(name: str) -> float:
            return sum(value for key, value in counted().items() if key.startswith(name))

        numbers: list[float] = []

        def all_counted() -> bool:
            numbers.append(of("pushdemo_deliveries_total{"))
            return numbers[-1] == seen

        until(all_counted, "all deliveries")
        assert numbers == sorted(numbers)  # no counter goes back, whoever answers
        until(lambda: of("pushdemo_streams{") == 0, "the end of all streams")
        until(lambda: of("pushdemo_streams_opened_total{") == CLIENTS, "all streams")
        # Whichever worker answers.
        assert {of("pushdemo_deliveries_total{") for _ in range(10)} == {seen}
        assert promtool(server.ask("/metrics")[2]) == ""
        said = json.loads(server.ask("/status")[2])
        rows = [one["deliveries"] for one in said["streams"] if one["feed"] == "count"]
        assert sum(rows) == seen


def test_a_sum_does_not_go_back_when_a_worker_ends(tmp_path: Path) -> None:
    with workers(tmp_path, broadcaster=False) as server:
        seen = drive(server)
        name = "pushdemo_deliveries_total{"

        def total() -> float:
            found = samples(server.ask("/metrics")[2])
            return sum(value for key, value in found.items() if key.startswith(name))

        until(lambda: total() == seen, "all deliveries")
        worker = list(processes(server.process.pid))[1]
        os.kill(worker, 15)
        until(lambda: not Path(f"/proc/{worker}").exists(), "its end")
        assert {total() for _ in range(10)} == {seen}


# The parts


def report(**more: Any) -> dict[str, Any]:
    push = Push()
    push.feed(lambda: 1, name="one")
    made = push.engine.status.report()
    push.close()
    return {**made, **more}


def test_a_board_has_the_others_reports_and_those_that_have_ended(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    server = os.getppid()
    mine = Board(report, server, tmp_path)
    mine.begin()
    mine.close()
    assert list(mine.others()) == []
    (directory,) = (tmp_path / "boards").iterdir()
    started = directory / f"{os.getpid()}-1"  # of a process that had this one's number
    started.write_text(json.dumps(report(pid=1)))
    (directory / "1-0").write_text("{")
    (directory / "2-0").write_text(json.dumps({"version": VERSION + 1}))
    (directory / "3-0").write_text("[]")
    (other,) = mine.others()
    assert (other["pid"], other["gone"]) == (1, True)


def test_a_board_of_a_server_that_has_ended_is_removed(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o700)
    old = tmp_path / "boards" / "999999999-1"
    old.mkdir(parents=True)
    board = Board(report, os.getppid(), tmp_path)
    board.begin()
    board.close()
    assert not old.exists()


def test_a_directory_of_others_is_not_trusted(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    with pytest.raises(PermissionError, match="no directory of this user alone"):
        Board(report, os.getppid(), tmp_path).begin()


def test_who_has_ended_has_no_gauges() -> None:
    living = report()
    gone = report(gone=True, pid=1)
    gone["feeds"]["one"]["streams"] = {
        "sse": {"opened": 5, "closed": 2, "deliveries": 10, "bytes": 100}
    }
    found = samples(exposition([living, gone], "")[1].decode())
    assert found['pushdemo_deliveries_total{feed="one",format="sse"}'] == 10
    assert 'pushdemo_streams{feed="one",format="sse"}' not in found
    assert not any('pid="1"' in name for name in found)


def test_a_feed_may_have_any_name() -> None:
    made = report()
    name = 'a"\\\nb{}'
    made["feeds"] = {name: made["feeds"]["one"]}
    text = exposition([made], "")[1].decode()
    assert promtool(text) == ""
    assert r'feed="a\"\\\nb{}"' in text


class Sent:
    """A broker that keeps what is published."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def follow(self, feed: str, follower: object, after: str = "") -> None: ...

    def publish(self, feed: str, body: bytes, **_: object) -> str:  # noqa: ARG002
        self.bodies.append(body)
        return "x"


def test_nodes_know_each_other_while_they_say_something() -> None:
    now = [0.0]
    sent = Sent()
    empty: dict[str, Any] = {"version": VERSION, **{name: [] for name in TABLES}}
    one = Nodes(sent, lambda: {**empty, "n": 1}, lambda: now[0])  # type: ignore[arg-type]
    two = Nodes(sent, lambda: {**empty, "n": 2}, lambda: now[0])  # type: ignore[arg-type]
    one.post()
    two.post()
    bad = [b"", b"{}", b"[]", b'{"from": 1, "report": {}, "at": 1}', b"\xff",
           b'{"from": "a", "report": {"version": 99}, "at": 1}',
           json.dumps({"from": "a", "at": 1, "report": {**empty, "feeds": [1]}}).encode(),
           json.dumps({"from": "a", "at": 1, "report": {"version": VERSION}}).encode()]  # fmt: skip
    for body in (*sent.bodies, *bad):
        for node in (one, two):
            node.hear(Entry("~status", "x", "", 0, body))
    assert [found["n"] for found in one.others()] == [2]
    assert [found["n"] for found in two.others()] == [1]
    now[0] = 60.0
    assert list(one.others()) == []


def test_what_is_merged_is_rows() -> None:
    made = readable(report(), 10.0)
    both = merged(0.0, [made, made, {"feeds": "nonsense"}, {}])
    assert [len(both[name]) for name in ("processes", "feeds")] == [2, 2]
    assert both["at"] == "1970-01-01T00:00:00.000+00:00"


# In a terminal


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pushdemo", "status", *arguments],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip


def test_the_command_prints_tables(serving: Serving) -> None:
    ended = command(serving.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.search(r"^FEEDS\nfeed +kind +watchers ", ended.stdout, re.M)
    assert re.search(r"^clock +computed +\d+ ", ended.stdout, re.M)
    assert re.search(r"^outside +pushed +0 +- ", ended.stdout, re.M)
    as_json = command(serving.url, "--json")
    assert set(json.loads(as_json.stdout)) == {"at", *TABLES}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "pushdemo: "),
        ("ftp://127.0.0.1", "usage: "),
    ],
)
def test_the_command_says_what_is_wrong(url: str, said: str) -> None:
    ended = command(url)
    assert ended.returncode != 0
    assert ended.stderr.startswith(said)
    assert "Traceback" not in ended.stderr


def test_hostile_text_does_not_act_on_a_terminal() -> None:
    shown = page({"at": "x", "feeds": [{"process": "p", "feed": "\x1b[2J", "n": 1}]})
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


def test_each_of_severalprocesses_is_named() -> None:
    rows = [{"process": "a 1", "feed": "x", "n": 1}, {"process": "b 2", "feed": "x", "n": None}]
    processes = [{"process": "a 1"}, {"process": "b 2"}]
    assert page({"at": "now", "processes": processes, "feeds": rows}) == (
        "now\n\nPROCESSES\nprocess\na 1\nb 2\n\nFEEDS\n"
        "process  feed  n\na 1      x     1\nb 2      x     -"
    )
