"""The examples on stock gunicorn, and the pages of the documentation that show them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers import CHECKOUT, Reader, until
from tests.wsgi_servers import GUNICORN, PYTHON, WsgiServer

EXAMPLES = CHECKOUT / "examples"
STREAMS = 12  # more than a worker has threads
SECRET = {"Authorization": "Bearer secret"}


class Example(NamedTuple):
    """app: what a server runs. guarded: an address that not everybody may read."""

    name: str
    app: str
    guarded: str

    @property
    def module(self) -> str:
        return f"{self.name}_app"


FLASK = Example("flask", "flask_app:app", "/live/alerts")
DJANGO = Example("django", "django_app:application", "/live/report")
PYRAMID = Example("pyramid", "pyramid_app:app", "/live/report")
WSGI = Example("wsgi", "wsgi_app:app", "/live/report")
ALL = [FLASK, DJANGO, PYRAMID, WSGI]
WORKERS = [("-k", "sync"), ("-k", "gthread", "--threads", "3")]


def start(directory: Path, *arguments: str) -> WsgiServer:
    environment = {"PYTHONPATH": f"{EXAMPLES}:{CHECKOUT}"}
    return WsgiServer(directory, *GUNICORN, *arguments, environment=environment)


@pytest.fixture(scope="module", params=ALL, ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=WORKERS, ids=lambda arguments: arguments[1])
def server(
    request: pytest.FixtureRequest, example: Example, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WsgiServer]:
    with start(tmp_path_factory.mktemp(example.name), *request.param, example.app) as server:
        yield server
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log


def first_event(reader: Reader) -> dict[str, object]:
    """The value of an event stream's next event."""
    while not (line := reader.line()).startswith(b"data: "):
        assert line, "the stream has ended"
    value: dict[str, object] = json.loads(line.removeprefix(b"data: "))
    return value


def opened(server: WsgiServer, target: str, **headers: str) -> Reader:
    reader = server.connect(target, Accept="text/event-stream", **headers)
    status, answered = reader.head()
    assert (status, answered["content-type"]) == (200, "text/event-stream"), answered
    assert not any("ticket" in name for name in answered)
    return reader


def test_one_worker_holds_many_streams_and_answers_others(server: WsgiServer) -> None:
    readers = [opened(server, "/live/orders") for _ in range(STREAMS)]
    values = [first_event(reader) for reader in readers]
    assert values == [values[0]] * STREAMS  # computed once
    assert values[0]["orders"] == 42
    status, headers, page = server.ask("/")
    assert (status, headers.get_content_type()) == (200, "text/html")
    assert 'new EventSource("live/orders")' in page
    assert server.ask("/live/orders?format=json")[0] == 200
    assert server.ask("/live/orders?format=nothing")[0] == 406
    for reader in readers:
        first_event(reader)  # and the next
        reader.close()


def test_a_view_decides_who_may_watch(server: WsgiServer, example: Example) -> None:
    assert server.ask(example.guarded)[0] in (401, 403)
    if example is FLASK:
        status, headers, _ = server.ask(
            "/login", "POST", "user=me", Content_Type="application/x-www-form-urlencoded"
        )
        assert status == 302
        allowed = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
        # A value before the stream, which would wait for the first.
        server.ask("/alerts", "POST", '{"n": 1}', Content_Type="application/json", **allowed)
    elif example is DJANGO:
        allowed = {"Cookie": server.ask("/login/me")[1]["Set-Cookie"].partition(";")[0]}
    else:
        allowed = SECRET
    with opened(server, example.guarded, **allowed) as reader:
        assert first_event(reader)


def test_headers_of_the_framework_stay(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with start(tmp_path_factory.mktemp("headers"), DJANGO.app) as server:
        reader = server.connect("/live/orders", Accept="text/event-stream", Accept_Encoding="gzip")
        with reader:
            status, headers = reader.head()
        assert status == 200
        assert headers["set-cookie"].startswith("sessionid=")
        assert headers["x-content-type-options"] == "nosniff"
        assert "Cookie" in headers["vary"]
        assert headers["cache-control"] == "no-store"
        assert "content-length" not in headers


def test_a_published_value_reaches_those_who_watch(tmp_path: Path) -> None:
    with start(tmp_path, FLASK.app) as server:
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        _, headers, _ = server.ask("/login", "POST", "user=me", **form)
        cookie = headers["Set-Cookie"].partition(";")[0]

        def alert(number: int) -> str:
            body = json.dumps({"number": number})
            _, _, answer = server.ask(
                "/alerts", "POST", body, Content_Type="application/json", Cookie=cookie
            )
            return str(json.loads(answer)["id"])

        alert(1)
        with opened(server, "/live/alerts", Cookie=cookie) as reader:
            assert first_event(reader) == {"number": 1}
            assert alert(2)
            assert first_event(reader) == {"number": 2}


def test_the_page_of_all_feeds_is_mounted_at_a_prefix(tmp_path: Path) -> None:
    with start(tmp_path, WSGI.app) as server:
        assert server.ask("/feeds/")[0] == 200
        (feed,) = json.loads(server.ask("/feeds/server/feeds")[2])
        assert feed["name"] == "orders"
        with opened(server, f"/feeds/server/{feed['url']}") as reader:
            assert first_event(reader)["orders"] == 42


# The documentation


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_the_documentation_shows_the_example_as_it_is(example: Example) -> None:
    page = (CHECKOUT / "docs" / f"{example.name}.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert code == (EXAMPLES / f"{example.module}.py").read_text()
    assert f"gunicorn {example.app}\n" in page
    assert f"pushdemo run {example.module}:push -- gunicorn -w 4 {example.app}\n" in page
    assert f"docs/{example.name}.md" in (CHECKOUT / "README.md").read_text()


def test_several_workers_with_a_broadcaster_as_the_documentation_says(
    tmp_path: Path, example: Example
) -> None:
    command = (*PYTHON, "pushdemo", "run", f"{example.module}:push", "--", *GUNICORN)
    environment = {"PYTHONPATH": f"{EXAMPLES}:{CHECKOUT}"}
    with WsgiServer(tmp_path, *command, "-w", "4", example.app, environment=environment) as server:
        readers = [opened(server, "/live/orders") for _ in range(STREAMS)]
        values = [first_event(reader) for reader in readers]
        assert values == [values[0]] * STREAMS  # computed once, for four workers
        assert "each computes all feeds" not in server.log
        for reader in readers:
            reader.close()
        until(lambda: server.process.poll() is None, "it goes on")
    assert server.process.returncode == 0, server.log


def test_the_readme_s_example(tmp_path: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    section = readme.split("## In your application\n", 1)[1].split("\n## ", 1)[0]
    code = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)[0]
    (tmp_path / "app.py").write_text(code)
    assert "\ngunicorn app:app\n" in section
    with WsgiServer(tmp_path, *GUNICORN, "app:app") as server, \
            server.connect("/live/orders?format=sse") as reader:  # fmt: skip
        assert reader.head()[0] == 200
        assert first_event(reader)["orders"] == 42
    # The same application on two other servers.
    flask = (*PYTHON, "flask", "--app", "app", "run", "--port", "0")
    waitress = (*PYTHON, "waitress", "--listen=127.0.0.1:0", "app:app.wsgi_app")
    for command in (flask, waitress):
        with WsgiServer(tmp_path, *command) as server, \
                server.connect("/live/orders?format=sse") as reader:  # fmt: skip
            assert reader.head()[0] == 200
            assert first_event(reader)["orders"] == 42
    assert "streams hold a thread each" in server.log
