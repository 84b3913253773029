"""One stream for all tabs: stream-worker.js, and what happens where there are no shared workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.browsers import Browser, Tab
from tests.preloading import NO_WORKERS, preloaded
from tests.scripted_server import MULTIPART, Exchange, ScriptedServer, ours

LINES = "Array.from(document.querySelectorAll('#container li'), (line) => line.textContent)"
STATUS = "document.querySelector('[role=status]').textContent"
HIDE = "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
SHOW = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
HEARTBEAT = b"\r\n\r\n--test\r\n"

# More than the connections that a browser opens to one server.
TABS = 8


@contextmanager
def opened(browser: Browser, url: str, count: int) -> Iterator[list[Tab]]:
    """New tabs with this page, as long as the test does not close them."""
    with ExitStack() as stack:
        tabs = []
        for _ in range(count):
            tabs.append(tab := browser.new_tab())
            stack.callback(tab.open, "about:blank")
            tab.open(url)
        yield tabs
        stack.pop_all()
        for tab in tabs:
            tab.close()


def accept(scripted: ScriptedServer, first: bytes = b"") -> Exchange:
    stream = scripted.accept()
    stream.start(MULTIPART)
    stream.send(b"--test\r\n" + first)
    return stream


def number(count: int) -> bytes:
    """A part that tells its number."""
    return ours(str(count), {"Event-ID": f"e-{count}"})


def test_many_tabs_share_one_connection(browser: Browser, scripted: ScriptedServer) -> None:
    with opened(browser, f"{scripted.url}/seed.html", TABS) as tabs:
        stream = accept(scripted, number(1))
        for tab in tabs:
            tab.wait_for(f"{LINES}.length === 1")
            assert tab.evaluate(STATUS) == "Live"
        stream.send(number(2))
        for tab in tabs:
            tab.wait_for(f"{LINES}[0] === '2'")
        assert len(scripted.exchanges) == 1


def test_who_comes_late_has_the_newest_part_and_the_state_at_once(
    browser: Browser, scripted: ScriptedServer
) -> None:
    with opened(browser, f"{scripted.url}/seed.html", 1) as (first,):
        stream = accept(scripted, number(1) + number(2))
        first.wait_for(f"{LINES}.length === 2")
        with opened(browser, f"{scripted.url}/seed.html", 1) as (second,):
            second.wait_for(f"{STATUS} === 'Live'")
            assert second.evaluate(LINES) == ["2"]
        stream.send(ours("3", {"Retry": "3600000"}))
        first.wait_for(f"{LINES}.length === 3")
        stream.close()
        with opened(browser, f"{scripted.url}/seed.html", 1) as (third,):
            third.wait_for(f"{STATUS} === 'The server went away. Reconnecting'")
            assert third.evaluate(LINES) == ["3"]
            third.evaluate("dispatchEvent(new Event('online'))")
            accept(scripted, number(4))
            for tab in (first, third):
                tab.wait_for(f"{LINES}[0] === '4'")
        assert len(scripted.exchanges) == 2


def test_the_stream_ends_with_the_last_tab(browser: Browser, scripted: ScriptedServer) -> None:
    first, second = browser.new_tab(), browser.new_tab()
    first.open(f"{scripted.url}/seed.html")
    stream = accept(scripted, number(1))
    second.open(f"{scripted.url}/seed.html")
    second.wait_for(f"{LINES}.length === 1")
    first.close()
    stream.send(number(2))
    second.wait_for(f"{LINES}.length === 2")
    second.close()
    stream.wait_for_hangup()
    assert len(scripted.exchanges) == 1


def test_the_stream_ends_with_the_last_page_that_is_shown_and_begins_again(
    browser: Browser, scripted: ScriptedServer
) -> None:
    """Pages in the back-forward cache: they live, and so does the worker."""
    with opened(browser, f"{scripted.url}/seed.html", 2) as (first, second):
        stream = accept(scripted, number(1))
        for tab in (first, second):
            tab.wait_for(f"{LINES}.length === 1")
        first.evaluate(HIDE)
        stream.send(number(2))
        second.wait_for(f"{LINES}.length === 2")
        second.evaluate(HIDE)
        stream.wait_for_hangup()
        assert second.evaluate(STATUS) == "Stopped"

        second.evaluate(SHOW)
        again = accept(scripted, number(3))
        assert again.headers["Last-Event-ID"] == "e-2"
        second.wait_for(f"{LINES}.length === 3")
        assert second.evaluate(LINES) == ["3", "2", "1"]
        first.evaluate(SHOW)
        first.wait_for(f"{LINES}.length === 3")
        assert first.evaluate(LINES) == ["3", "Something may be missing here.", "1"]

        first.evaluate(HIDE)
        first.evaluate(SHOW)
        first.wait_for(f"{STATUS} === 'Live'")
        assert first.evaluate(f"{LINES}.length") == 3  # it has the newest already


def test_a_tab_that_dies_without_a_word_does_not_keep_the_stream(
    browser: Browser, scripted: ScriptedServer
) -> None:
    """It answers no pings. quick-worker.js pings a hundred times as often."""
    with opened(browser, f"{scripted.url}/blank.html", 1) as (tab,):
        tab.evaluate(
            """(() => {
              window.port = new SharedWorker('/quick-worker.js', { name: '/server/index' }).port;
              window.told = [];
              window.answers = true;
              port.onmessage = ({ data }) => {
                told.push(data.type);
                if (answers) port.postMessage({ type: 'here', lastId: 'e-1' });
              };
              port.postMessage({ type: 'here' });
            })()"""
        )
        stream = accept(scripted, number(1))
        tab.wait_for("told.filter((type) => type === 'ping').length > 5")
        stream.send(number(2))
        tab.wait_for("told.filter((type) => type === 'part').length === 2")
        tab.evaluate("(() => { answers = false; })()")
        stream.wait_for_hangup()
        # It only slept: it wakes, and answers.
        tab.evaluate(
            "(() => { answers = true; port.postMessage({ type: 'here', lastId: 'e-2' }); })()"
        )
        assert accept(scripted).headers["Last-Event-ID"] == "e-2"


def test_a_tab_that_is_loaded_again_tries_again_for_all(
    browser: Browser, scripted: ScriptedServer
) -> None:
    with opened(browser, f"{scripted.url}/seed.html", 2) as (first, second):
        scripted.accept().answer("200 OK", {"Content-Type": "text/html"}, b"<p>Log in</p>")
        for tab in (first, second):
            tab.wait_for(f"{STATUS}.includes('cannot be understood')")
        assert len(scripted.exchanges) == 1
        second.open(f"{scripted.url}/seed.html")
        accept(scripted, number(1))
        for tab in (first, second):
            tab.wait_for(f"{LINES}.length === 1")
            assert tab.evaluate(STATUS) == "Live"
        assert len(scripted.exchanges) == 2


# A worker of this address in the place of ours, and less than five seconds to wait for it.
FAILING = """() => {
  const [Native, native] = [SharedWorker, setTimeout];
  globalThis.SharedWorker = class extends Native {
    constructor() { super('%s'); }
  };
  globalThis.setTimeout = (action, delay) => native(action, delay === 5_000 ? 100 : delay);
}"""


@pytest.mark.parametrize(
    "broken",
    [
        NO_WORKERS,
        "() => { globalThis.SharedWorker = class { constructor() { throw new Error(); } }; }",
        FAILING % "/favicon.ico",
        FAILING % "/broken-worker.js",
    ],
    ids=["missing", "forbidden", "not found", "broken"],
)
def test_without_a_worker_each_tab_has_its_own_stream(
    browser: Browser, scripted: ScriptedServer, broken: str
) -> None:
    with (
        preloaded(browser, broken),
        opened(browser, f"{scripted.url}/seed.html", 2) as (first, second),
    ):
        streams = [accept(scripted, number(1)), accept(scripted, number(1))]
        for tab in (first, second):
            tab.wait_for(f"{LINES}.length === 1")
        for stream in streams:
            stream.send(HEARTBEAT + number(2))
        for tab in (first, second):
            tab.wait_for(f"{LINES}.length === 2")
        first.evaluate(HIDE)
        second.evaluate(HIDE)
        for stream in streams:
            stream.wait_for_hangup()
        assert len(scripted.exchanges) == 2


def test_what_is_on_its_way_to_a_page_that_left_is_not_shown(
    browser: Browser, scripted: ScriptedServer
) -> None:
    fake = """() => {
      globalThis.port = { postMessage() {} };
      globalThis.SharedWorker = function () { return { port }; };
    }"""
    with preloaded(browser, fake), opened(browser, f"{scripted.url}/seed.html", 1) as (tab,):
        tab.evaluate("port.onmessage({ data: { type: 'state', state: 'live' } })")
        assert tab.evaluate(STATUS) == "Live"
        tab.evaluate(HIDE)
        tab.evaluate("port.onmessage?.({ data: { type: 'state', state: 'live' } })")
        assert tab.evaluate(STATUS) == "Stopped"
