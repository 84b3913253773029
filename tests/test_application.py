"""How the application finds controllers and reports errors; and the one of development.ini."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from mako.lookup import TemplateLookup
from paste.deploy import loadapp
from paste.registry import RegistryManager
from routes import Mapper
from routes.middleware import RoutesMiddleware
from webob import Request

from pushdemo.config import middleware
from pushdemo.config.environment import PACKAGE, Globals, load_environment
from pushdemo.config.routing import make_map
from pushdemo.lib.application import Application
from pushdemo.library import Push
from pushdemo.wsgi.page import dashboard
from tests.asking import Answer, ask

CHECKOUT = PACKAGE.parent


# Controllers


def application(routes: Mapper) -> Any:
    """An application of the controllers in tests/controllers."""
    lookup = TemplateLookup([str(PACKAGE / "templates")], default_filters=["h"])
    app = Application("tests.controllers", SimpleNamespace(mako_lookup=lookup))
    return RegistryManager(
        RoutesMiddleware(app, routes, use_method_override=False, singleton=False)
    )


@pytest.fixture
def controllers() -> Any:
    return application(make_map(Path(__file__).with_name("controllers")))


def test_a_controller_is_found_by_the_name_of_its_module(controllers: Any) -> None:
    assert ask(controllers, "/of_two_words") == (200, "found")
    assert ask(controllers, "/of_two_words/index") == (200, "found")
    assert ask(controllers, "/of_two_words/index/7") == (200, "found")


def test_a_route_may_write_a_controller_s_name_with_dashes() -> None:
    routes = Mapper()
    routes.connect("/elsewhere", controller="of-two-words", action="index")
    assert ask(application(routes), "/elsewhere") == (200, "found")


@pytest.mark.parametrize(
    "path", ["/nothing", "/_private", "/private", "/of_two_words/index/7/8", "/__init__"]
)
def test_where_there_is_no_controller_the_answer_is_404(controllers: Any, path: str) -> None:
    assert ask(controllers, path) == (404, "404 Not Found\n\nThere is nothing at this address.\n")


@pytest.mark.parametrize("path", ["/failing", "/unreadable"])
def test_an_exception_is_a_500_and_one_traceback_in_the_log(
    controllers: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, text = ask(controllers, path)
    assert status == 500
    assert text == "500 Internal Server Error\n\nThe server's log says what went wrong.\n"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"error in the application, serving {path}"
    assert record.exc_info
    assert isinstance(record.exc_info[1], RuntimeError)


def test_a_browser_gets_a_500_as_a_page(controllers: Any, caplog: pytest.LogCaptureFixture) -> None:
    status, text = ask(controllers, "/failing", Accept="text/html")
    assert status == 500
    assert "<h1>500 Internal Server Error</h1>" in text
    assert len(caplog.records) == 1


def test_an_exception_after_the_first_value_is_the_server_s_to_report(controllers: Any) -> None:
    with Answer(controllers, "/failing/late") as answer:
        assert next(answer) == b"so far, so good"
        with pytest.raises(RuntimeError, match="too late"):
            next(answer)


# The real application


@dataclass
class Real:
    """The application of development.ini, and its globals, which nothing else gives away."""

    app: Any
    app_globals: Globals

    @property
    def open_now(self) -> int:
        return self.app_globals.push.engine.open_now


def load(ini: str, monkeypatch: pytest.MonkeyPatch) -> Real:
    loaded: list[Globals] = []

    def load_and_tell(push: Push) -> Globals:
        loaded.append(load_environment(push))
        return loaded[-1]

    monkeypatch.setattr(middleware, "load_environment", load_and_tell)
    app = loadapp(f"config:{ini}", relative_to=str(CHECKOUT))
    return Real(app, loaded[0])


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    real = load("development.ini", monkeypatch)
    yield real
    assert real.open_now == 0
    real.app_globals.push.close()


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """An application of two feeds, one with a name of its own language, and of two streams."""
    ini = tmp_path / "crowded.ini"
    ini.write_text(
        f"[app:main]\nuse = config:{CHECKOUT}/development.ini\n"
        "feed.größe = pushdemo.feeds:clock\n"
        "feed.clock.interval = 0.01\nfeed.clock.duration = 0\n"
        "push.max_streams = 2\n",
        encoding="utf-8",
    )
    crowded = load(str(ini), monkeypatch)
    yield crowded
    assert crowded.open_now == 0
    crowded.app_globals.push.close()


def until_part(answer: Answer) -> bytes:
    """What comes until the first part is there."""
    received = b""
    while b"</message>" not in received:
        received += next(answer)
    return received


def test_the_root_is_the_page(real: Real) -> None:
    status, page = ask(real.app, "/")
    assert status == 200
    assert page == dashboard(list(real.app_globals.push.feeds.values()), "./").html


def test_a_file_of_public_comes_before_any_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "server").write_text("a file")
    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers" / "server.py").touch()
    monkeypatch.setattr(middleware, "PACKAGE", tmp_path)
    real = load("development.ini", monkeypatch)
    assert ask(real.app, "/server") == (200, "a file")
    with Answer(real.app, "/server/index", "HEAD") as answer:
        assert answer.headers["Content-Type"].startswith("multipart/")
    real.app_globals.push.close()


@pytest.mark.parametrize(
    "path", ["/" * 60_000, "/" + "./" * 30_000, "/page.css" + "/." * 30_000, "//page.css", "/a/.."]
)
def test_a_path_that_no_link_has_is_not_there(real: Real, path: str) -> None:
    assert ask(real.app, path)[0] == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Modified-Since", "Thu, 99 Jan 99999 99:99:99 GMT"),
        ("If-Modified-Since", "Thu, 01 Jan 9999 00:00:00 GMT"),
        ("If-Modified-Since", "nonsense"),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 -9999999999"),
        ("If-Modified-Since", "x" * 60_000),
        ("If-None-Match", '"' * 60_000),
        ("Range", "bytes=1-,2-3"),
        ("Range", "bytes=" + "9" * 5000 + "-"),
        ("Range", "bytes=" + ",".join(f"{n}-{n}" for n in range(5000))),
        ("Accept-Encoding", "gzip;q=" + "9" * 5000),
    ],
)
def test_a_file_is_there_whatever_is_said_about_it(real: Real, name: str, value: str) -> None:
    with Answer(real.app, "/page.css", **{name: value}) as answer:
        assert answer.status == 200


def test_a_file_that_is_known_is_not_sent_again(real: Real) -> None:
    with Answer(real.app, "/page.css") as answer:
        headers = answer.headers
    for name, value in (
        ("If-Modified-Since", headers["Last-Modified"]), ("If-None-Match", headers["ETag"])
    ):  # fmt: skip
        assert ask(real.app, "/page.css", **{name: value})[0] == 304


@pytest.mark.parametrize(
    "path", ["/../development.ini", "/%2e%2e/development.ini", "/nothing.html"]
)
def test_what_is_not_in_public_is_not_there(real: Real, path: str) -> None:
    assert ask(real.app, path)[0] == 404


@pytest.mark.parametrize("path", ["/server", "/server/index", "/server/index/clock"])
def test_the_headers_of_a_stream(real: Real, path: str) -> None:
    with Answer(real.app, path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace;boundary=test"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in answer.headers


def test_a_stream_opens_with_a_delimiter_and_a_part_of_xml(real: Real) -> None:
    with Answer(real.app, "/server/index") as answer:
        received = until_part(answer)
    assert received.startswith(b"--test\r\nIdle:\r\nContent-Type: application/xml\r\n")
    assert received.endswith(b"</message>\n\r\n--test\r\nIdle:")


def test_a_stream_goes_on_at_each_beat(crowded: Real) -> None:
    with Answer(crowded.app, "/server/index") as answer:
        assert until_part(answer) != until_part(answer) != until_part(answer)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limited_stream_has_so_many_parts_and_the_closing_delimiter(
    crowded: Real, limit: int
) -> None:
    body = Answer(crowded.app, f"/server/index?limit={limit}").read()
    assert body.count(b"</message>") == limit
    assert body.count(b"--test\r\n") == limit
    assert body.endswith(b"</message>\n\r\n--test--\r\n")


@pytest.mark.parametrize(
    "limit", ["0", "-1", "+1", "1.5", "many", "", "²", "٣", "9" * 19, "9" * 4000]
)
def test_a_limit_that_is_none_is_a_400_that_says_what_is(real: Real, limit: str) -> None:
    status, text = ask(real.app, "/server/index?limit=" + quote(limit))
    assert status == 400
    assert text.startswith("400 Bad Request\n\nlimit=")
    assert text.endswith("give a whole number of at least 1, or leave it out.\n")


def test_a_limit_is_escaped_in_a_page(real: Real) -> None:
    _, text = ask(real.app, "/server/index?limit=<script>", Accept="text/html, */*")
    assert "limit=&lt;script&gt;: give" in text


def test_a_feed_that_is_not_there_is_a_404_that_names_those_that_are(crowded: Real) -> None:
    status, text = ask(crowded.app, "/server/index/nothing")
    assert status == 404
    assert text.endswith(
        "There is no feed 'nothing'. There is: clock, load, plot, report, größe.\n"
    )


def test_without_any_feed_the_404_says_how_to_declare_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = tmp_path / "bare.ini"
    ini.write_text("[app:main]\nuse = egg:pushdemo\n")
    real = load(str(ini), monkeypatch)
    status, text = ask(real.app, "/server/index")
    assert status == 404
    assert "or add feed.NAME = package.module:function to the ini" in text
    real.app_globals.push.close()


def test_a_feed_is_found_by_a_name_of_any_letters(crowded: Real) -> None:
    with Answer(crowded.app, "/server/index/" + quote("größe")) as answer:
        assert answer.status == 200
        assert b"<message>" in until_part(answer)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_method_that_a_stream_does_not_know_is_a_405_with_those_it_does(
    real: Real, method: str
) -> None:
    with Answer(real.app, "/server/index", method) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"


def test_a_head_request_gets_the_headers_of_a_stream_and_leaves_no_stream(real: Real) -> None:
    with Answer(real.app, "/server/index", "HEAD") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace;boundary=test"
        assert answer.read() == b""
    assert real.open_now == 0
    assert not real.app_globals.push.engine.channels["clock"].watched


def test_one_stream_too_many_is_a_503_that_says_when_to_come_again(crowded: Real) -> None:
    with Answer(crowded.app, "/server/index"), Answer(crowded.app, "/server/index") as second:
        with Answer(crowded.app, "/server/index") as third:
            assert third.status == 503
            assert third.headers["Retry-After"] == "5"
            assert third.headers["Content-Type"] == "text/plain; charset=UTF-8"
        second.close()
        with Answer(crowded.app, "/server/index") as fourth:
            assert fourth.status == 200


def test_a_stream_that_has_begun_leaves_its_place_when_it_is_closed(real: Real) -> None:
    with Answer(real.app, "/server/index") as answer:
        until_part(answer)
        assert real.open_now == 1
        assert real.app_globals.push.engine.channels["clock"].watched
    assert real.open_now == 0
    assert not real.app_globals.push.engine.channels["clock"].watched


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_that_a_server_forgets_leaves_its_place(real: Real, begun: bool) -> None:
    # Without the checker, which keeps it.
    environ: Any = {"wsgi.multithread": True}
    request = Request.blank("/server/index", environ=environ)
    _, _, body = request.call_application(real.app)
    if begun:
        next(iter(body))
    assert real.open_now == 1
    del body
    gc.collect()
    assert real.open_now == 0
    assert not real.app_globals.push.engine.channels["clock"].watched


def test_no_thread_runs_before_the_first_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server may fork between.
    before = set(threading.enumerate())  # of other tests, and on their way to their ends
    real = load("development.ini", monkeypatch)
    ask(real.app, "/")
    assert set(threading.enumerate()) <= before
    real.app_globals.push.close()
