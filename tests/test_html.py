"""A feed's template, and its HTML in the pages of htmx, Turbo and Datastar, which are given it as
they are, in real browsers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import pytest

from pushdemo import Push
from pushdemo.push.broker.body import Sent, Unreadable, decode_sent, encode_sent
from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.compute.payload import Data, Text
from pushdemo.push.encode.html_stream import HtmlStream
from pushdemo.push.event import CannotCarry, Event, Value
from pushdemo.push.options import ConfigError
from tests.asking import Answer, ask
from tests.browsers import Browser
from tests.node_packages import package
from tests.servers import HANG, until

HTML = "<b>1 &lt; 2</b>\n<i>a</i>"


def event(html: str | None = HTML, feed: str = "orders") -> Event:
    return Event(1, "e-1", feed, Value(Text("x"), computed=1.0, fresh_until=0, took=0.5, html=html))


# Bytes


def fields(frame: bytes) -> list[list[str]]:
    """An event stream's events, without comments."""
    text = frame.decode()
    assert text.endswith("\n\n")
    return [
        [line for line in one.split("\n") if not line.startswith(":")]
        for one in text[:-2].split("\n\n")
    ]


def test_htmx_is_given_the_html_as_data() -> None:
    assert fields(HtmlStream(kind="htmx").encode(event())) == [
        ["id: e-1", "data: <b>1 &lt; 2</b>", "data: <i>a</i>"]
    ]
    assert fields(HtmlStream(kind="htmx", named=True).encode(event()))[0][1] == "event: orders"


def test_turbo_is_given_a_turbo_stream() -> None:
    (one,) = fields(HtmlStream(kind="turbo").encode(event(feed='a"b')))
    assert one == [
        "id: e-1",
        'data: <turbo-stream action="update" target="a&quot;b"><template><b>1 &lt; 2</b>',
        "data: <i>a</i></template></turbo-stream>",
    ]


def test_datastar_is_given_what_each_of_its_releases_knows() -> None:
    first, second = fields(HtmlStream(kind="datastar").encode(event(feed='a"b')))
    assert first == [
        "id: e-1",
        "event: datastar-merge-fragments",
        'data: fragments <div id="a&quot;b"><b>1 &lt; 2</b>',
        "data: fragments <i>a</i></div>",
    ]
    assert second == [
        "id: e-1",
        "event: datastar-patch-elements",
        'data: elements <div id="a&quot;b"><b>1 &lt; 2</b>',
        "data: elements <i>a</i></div>",
    ]


@pytest.mark.parametrize("kind", HtmlStream.KINDS)
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_no_line_end_begins_a_field(kind: str, end: str) -> None:
    frame = HtmlStream(kind=kind).encode(event(f"a{end}event: forged{end}{end}data: b"))
    for one in fields(frame):
        assert "event: forged" not in one
    with pytest.raises(CannotCarry):
        HtmlStream(kind=kind).encode(event(None))


# Templates


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.mako").write_text(
        "<ul>\n% for name in value['names']:\n<li>${name}</li>\n% endfor\n</ul>"
        "<p>${feed}, ${computed.year}</p>"
    )
    return tmp_path


def declared(**options: Any) -> Push:
    push = Push()
    push.feed(lambda: {"names": ["<script>", "a&b"]}, name="orders", interval=60, **options)
    return push


@pytest.mark.usefixtures("directory")
def test_what_a_template_inserts_is_escaped() -> None:
    push = declared(template="orders.mako")
    with Answer(push.application, "/server/index/orders?format=fragment") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        etag = answer.headers["ETag"]
        text = answer.read().decode()
    assert "<li>&lt;script&gt;</li>\n<li>a&amp;b</li>" in text
    assert "<p>orders, 20" in text
    again = Answer(
        push.application, "/server/index/orders?format=fragment", **{"If-None-Match": etag}
    )
    assert again.status == 304
    again.close()
    push.close()


def test_a_function_makes_html_by_itself() -> None:
    push = declared(template=lambda value: f"<b>{len(value['names'])}</b>")
    assert ask(push.application, "/server/index/orders?format=fragment") == (200, "<b>2</b>")
    push.close()


def test_an_ini_names_a_template(directory: Path) -> None:
    (directory / "fed.py").write_text("def orders():\n    return {'names': ['a']}\n")
    (directory / "mine.ini").write_text(
        "[app:main]\nuse = egg:pushdemo\nfeed.orders = fed:orders\n"
        "feed.orders.template = orders.mako\n"
    )
    push = Push.from_ini(str(directory / "mine.ini"))
    status, text = ask(push.application, "/server/index/orders?format=fragment")
    assert (status, "<li>a</li>" in text) == (200, True)
    push.close()
    del sys.modules["fed"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, r"feed\.orders\.template = t\.mako: there is no such file"),
        ("${value", r"feed\.orders\.template = t\.mako: "),
        ("% if value:\n", r"feed\.orders\.template = t\.mako: "),
        ("<%include", r"feed\.orders\.template = t\.mako: "),
    ],
)
def test_a_template_that_will_not_do_ends_the_start(
    directory: Path, source: str | None, said: str
) -> None:
    if source is not None:
        (directory / "t.mako").write_text(source)
    with pytest.raises(ConfigError, match=said):
        declared(template="t.mako")


@pytest.mark.parametrize("template", [lambda value: value["nothing"], lambda _: 42, lambda _: None])
def test_a_template_that_fails_is_a_failure_of_the_feed(
    template: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    push = declared(template=template)
    status, _ = ask(push.application, "/server/index/orders?format=json")
    assert status == 503  # of any format: its value has no HTML
    until(lambda: "feed orders failed" in caplog.text, "the log")
    push.close()


def test_what_is_published_is_rendered_too() -> None:
    push = Push()
    push.pushed_feed("alerts", template=lambda value: f"<b>{value.upper()}</b>")
    push.publish("alerts", "fire")
    assert ask(push.application, "/server/index/alerts?format=fragment") == (200, "<b>FIRE</b>")
    with pytest.raises(ValueError, match="the template of feed alerts fails: AttributeError"):
        push.publish("alerts", 42)
    assert ask(push.application, "/server/index/alerts?format=fragment") == (200, "<b>FIRE</b>")
    push.close()


@pytest.mark.parametrize("form", ["htmx", "turbo", "datastar", "fragment"])
def test_without_a_template_there_is_no_html(form: str) -> None:
    push = declared()
    status, text = ask(push.application, f"/server/index/orders?format={form}")
    assert status == 406
    assert "feed.NAME.template" in text
    push.close()


def test_a_stream_of_html() -> None:
    push = declared(template=lambda value: f"<b>{len(value['names'])}</b>")
    with Answer(push.application, "/server/index/orders?format=htmx&limit=1") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        received = b""
        while b"\n\n" not in received:
            received += next(answer)
    assert b"data: <b>2</b>\n" in received
    push.close()


def test_html_goes_through_a_broker_with_its_value() -> None:
    clock = EngineClock()
    value = Value(Data('{"a":1}'), 1.0, 2**62, html="<b>\u00e9</b>")
    assert decode_sent(encode_sent(Sent(value), clock), clock).value.html == "<b>\u00e9</b>"
    assert decode_sent(encode_sent(Sent(value), clock), clock).value.payload == value.payload
    body = encode_sent(Sent(value), clock)
    with pytest.raises(Unreadable, match="HTML"):
        decode_sent(body[:-6] + b"\xff", clock)
    with pytest.raises(Unreadable, match="size"):
        decode_sent(body.replace(b'"size":7', b'"size":-1'), clock)


# Browsers


class Site:
    """Pages that load what they need from here, beside a feed that the test publishes to."""

    def __init__(self) -> None:
        self.push = Push(max_threads=20)
        self.push.pushed_feed("orders", template=lambda value: f"<b>{value}</b>")
        self.files: dict[str, tuple[str, str]] = {}
        live = self.push.middleware(self._live)
        self._server = make_server("127.0.0.1", 0, live, server_class=_Threads)
        self._server.set_app(live)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _live(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/orders":
            status, headers, body = self.push.respond(environ, "orders")
            start_response(status, headers)
            return body
        content_type, text = self.files.get(path, ("text/plain", ""))
        start_response("200 OK" if text else "404 Not Found", [("Content-Type", content_type)])
        return [text.encode()]

    def script(self, path: str, name: str) -> None:
        self.files[f"/{name}"] = ("text/javascript", package(path))

    def page(self, html: str) -> None:
        self.files["/"] = ("text/html", f"<!DOCTYPE html><meta charset=utf-8>{html}")

    @property
    def watchers(self) -> int:
        return self.push.engine.counts.feed("orders").watchers

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(HANG)
        self._server.server_close()
        self.push.close()


class _Threads(WSGIServer):
    """wsgiref's, with a thread for each request: a stream holds its own."""

    request_queue_size = 50

    def process_request(self, request: Any, client_address: Any) -> None:
        def serve() -> None:
            try:
                self.finish_request(request, client_address)
            except OSError:  # the browser has left
                pass
            finally:
                self.shutdown_request(request)

        threading.Thread(target=serve, daemon=True).start()

    def get_app(self) -> Any:
        app = super().get_app()

        def threaded(environ: dict[str, Any], start_response: Any) -> Any:
            return app(environ | {"wsgi.multithread": True}, start_response)  # type: ignore[misc]

        return threaded


@pytest.fixture
def site(browser: Browser) -> Iterator[Site]:
    site = Site()
    yield site
    browser.open("about:blank")
    site.close()


def follows(browser: Browser, site: Site, selector: str = "#orders") -> None:
    """Whether the page shows each value, as the template has it."""
    site.push.publish("orders", "zero")  # this server waits for a first value
    browser.open(site.url)
    until(lambda: site.watchers, "the page's stream")
    for value in ("1 &lt; 2", "two", "three"):
        site.push.publish("orders", value)
        shown = f"document.querySelector({json.dumps(selector)}).innerHTML"
        browser.wait_for(f"{shown}.trim() === {json.dumps(f'<b>{value}</b>')}")


@pytest.mark.parametrize(
    ("library", "extension", "attributes"),
    [
        (
            "htmx-2/dist/htmx.js",
            "htmx-ext-sse/sse.js",
            'hx-ext="sse" sse-connect="/orders?format=htmx" sse-swap="message"',
        ),
        (
            "htmx-4/dist/htmx.js",
            "htmx-4/dist/ext/hx-sse.js",
            'hx-sse:connect="/orders?format=htmx"',
        ),
    ],
    ids=["2", "4"],
)
def test_htmx_and_its_sse_extension(
    browser: Browser, site: Site, library: str, extension: str, attributes: str
) -> None:
    site.script(library, "htmx.js")
    site.script(extension, "sse.js")
    site.page(
        '<script src="htmx.js"></script><script src="sse.js"></script>'
        f'<div id="orders" {attributes}></div>'
    )
    follows(browser, site)


def test_htmx_polls_the_fragment(browser: Browser, site: Site) -> None:
    site.script("htmx-2/dist/htmx.js", "htmx.js")
    site.push.publish("orders", "one")
    site.page(
        '<script src="htmx.js"></script>'
        '<div id="orders" hx-get="/orders?format=fragment" hx-trigger="load, every 100ms"></div>'
    )
    browser.open(site.url)
    for value in ("one", "two"):
        site.push.publish("orders", value)
        browser.wait_for(f"document.getElementById('orders').innerHTML === '<b>{value}</b>'")


def test_turbo_streams(browser: Browser, site: Site) -> None:
    site.script("@hotwired/turbo/dist/turbo.es2017-umd.js", "turbo.js")
    site.page(
        '<script src="turbo.js"></script>'
        '<turbo-stream-source src="/orders?format=turbo"></turbo-stream-source>'
        '<div id="orders"></div>'
    )
    follows(browser, site)


@pytest.mark.parametrize(
    ("release", "attribute"),
    [
        ("datastar-0", "data-on-load=\"sse('/orders?format=datastar')\""),
        ("datastar-1", "data-on-load=\"@get('/orders?format=datastar')\""),
    ],
)
def test_datastar(browser: Browser, site: Site, release: str, attribute: str) -> None:
    site.script(f"{release}/dist/datastar.js", "datastar.js")
    site.page(
        f'<script type="module" src="datastar.js"></script><div id="orders"></div>'
        f"<div {attribute}></div>"
    )
    follows(browser, site)
