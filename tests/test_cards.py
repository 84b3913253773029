"""The pages of feeds, in every state, in both browsers: what they say is true, it fits, and
axe-core has nothing to complain of. With PUSHDEMO_SCREENSHOTS=DIRECTORY each is a picture there.

The server is scripted: it says what a test has it say. The page's clock is the test's.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.compute.payload import Blob, Data, Payload, Text
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Event, FeedStatus, Value
from pushdemo.wsgi.page import dashboard, feed_page, policy
from tests.browsers import Browser
from tests.node_packages import package
from tests.preloading import preloaded
from tests.scripted_server import MULTIPART, Exchange, ScriptedServer, never

FRAMING = Multipart("test", named=True)

# The page has its own stream, and a clock that is `shift` milliseconds ahead.
PRELOADED = """() => {
  delete globalThis.SharedWorker;
  const now = Date.now;
  globalThis.shift = 0;
  Date.now = () => now() + globalThis.shift;
  globalThis.complaints = [];
  addEventListener('error', ({ message }) => complaints.push(message));
  addEventListener('unhandledrejection', ({ reason }) => complaints.push(String(reason)));
  document.addEventListener('securitypolicyviolation', (event) => complaints.push(
    `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
}"""


def feed(name: str, interval: float = 2.0, **more: Any) -> Declaration:
    return Declaration(name, never, interval=interval, **{"duration": interval, **more})


FEEDS = [
    feed("clock", 5.0, duration=15.0),
    feed("load"),
    feed("plot", 5.0),
    feed("report", 10.0, duration=60.0),
    Declaration("alerts", None),
]
NAMES = [one.name for one in FEEDS]
STREAM = f"/server/index/{'+'.join(NAMES)}+~feeds"

WIDE = [
    {"symbol": f"S{row}", **{f"turnover_{column}_eur": row * 1234567.891 for column in range(12)}}
    for row in range(30)
]
LOAD = {"cpu_percent": 12.5, "memory_used_bytes": 1610612736, "name": "<b>host</b>", "year": 2009}


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def figures(**more: Any) -> list[dict[str, Any]]:
    kinds = {"alerts": "pushed"}
    return [
        {"name": name, "kind": kinds.get(name, "computed"), "took": 0.25, "watchers": 3,
         "values": 4, "deliveries": 12345, **more.get(name, {})}
        for name in NAMES
    ]  # fmt: skip


class Server:
    """What the test has the server send."""

    def __init__(self, scripted: ScriptedServer, exchange: Exchange, date: float) -> None:
        self.scripted = scripted
        self.exchange = exchange
        self.date = date
        self._number = 0

    def send(self, name: str, payload: Payload, age: float = 0.0) -> None:
        self._number += 1
        value = Value(payload, computed=self.date - age, fresh_until=0)
        event = Event(self._number, f"e-{self._number}", name, value)
        self.exchange.send(FRAMING.encode(event))

    def values(self) -> None:
        """One of each."""
        self.send("clock", Text("2026-11-30 12:00:00"))
        self.send("load", Data(json.dumps(LOAD)))
        self.send("plot", Blob(png(1400, 500), "image/png"))
        self.send("report", Data(json.dumps({"region": "all", "symbols": WIDE})))
        self.send("alerts", Data("1234567.5"))
        self.send("~feeds", Data(json.dumps(figures())))

    def status(self, name: str, *, fails: bool) -> None:
        since = self.date if fails else None
        self.exchange.send(FRAMING.encode_status(FeedStatus(1, name, since)))


class Stage:
    """A page, and the server that it was sent from."""

    def __init__(self, browser: Browser, scripted: ScriptedServer, path: str, stream: str) -> None:
        self.browser = browser
        self.scripted = scripted
        self._stream = stream
        browser.open(f"{scripted.url}{path}")
        self.server = self.accept()

    def accept(self) -> Server:
        exchange = self.scripted.accept(self._stream)
        now = self.browser.evaluate("Date.now()") / 1000
        exchange.start(MULTIPART | {"Date": formatdate(now, usegmt=True)})
        exchange.send(FRAMING.opening)
        return Server(self.scripted, exchange, int(now))

    def pass_time(self, seconds: float) -> None:
        self.browser.evaluate(f"void (globalThis.shift += {seconds * 1000})")

    def says(self, name: str, words: str) -> None:
        """Wait until a card says so."""
        self.browser.wait_for(
            f"document.querySelector('[data-feed=\"{name}\"] .words').textContent"
            f" === {json.dumps(words)}"
        )

    def text(self, selector: str) -> str:
        found: str = self.browser.evaluate(
            f"document.querySelector({json.dumps(selector)}).innerText"
        )
        return found


@pytest.fixture
def open_page(browser: Browser, scripted: ScriptedServer) -> Iterator[Callable[[str], Stage]]:
    scripted.declared = FEEDS
    scripted.pages["/server/index/load"] = feed_page(
        [FEEDS[1]], "../../", "../../server/index/load+~feeds", f"{scripted.url}/server/index/load"
    )
    scripted.pages["/live"] = feed_page(
        [FEEDS[1]], None, "?token=x&format=multipart", f"{scripted.url}/live", "token=x&"
    )
    streams = {
        "/": STREAM,
        "/server/index/load": "/server/index/load+~feeds",
        "/live": "/live?token=x&format=multipart",
        "/seed.html": "/server/index",
    }
    with preloaded(browser, PRELOADED):
        yield lambda path: Stage(browser, scripted, path, streams[path])
        complaints = browser.evaluate("globalThis.complaints ?? []")
    browser.open("about:blank")
    browser.resize(1280, 900)
    assert complaints == []


def checked(stage: Stage, name: str) -> None:
    """Nothing is wider than the page, and axe-core has no finding, in light and dark, on a screen
    and on a telephone."""
    browser = stage.browser
    kind = type(browser).__name__.lower()
    for width in (320, 1920):
        browser.resize(width, 900)
        browser.wait_for(f"document.documentElement.clientWidth <= {width}")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    for width in (1280, 390):
        browser.resize(width, 900)
        browser.wait_for(f"document.documentElement.clientWidth <= {width}")
        for scheme in ("light", "dark"):
            browser.evaluate(
                f"void (document.documentElement.style.colorScheme = {json.dumps(scheme)})"
            )
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            findings = browser.evaluate(
                "(async () => { if (!globalThis.axe) {"
                f" (0, eval)({json.dumps(package('axe-core/axe.min.js'))}); }}"
                " const { violations } = await axe.run();"
                " return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);"
                "})()"
            )
            assert findings == [], (name, width, scheme)
            if directory := os.environ.get("PUSHDEMO_SCREENSHOTS"):
                Path(directory).mkdir(parents=True, exist_ok=True)
                browser.screenshot(Path(directory) / f"{name}-{kind}-{width}-{scheme}.png")


# What it says in each state


def test_all_cards_are_there_at_once_and_wait(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.browser.wait_for("document.getElementById('status').textContent === 'Live'")
    for name in NAMES:
        stage.says(name, "Waiting for the first value")
    # One that is slow hides none of the others.
    stage.server.send("load", Data("{}"))
    stage.says("load", "Live")
    stage.says("report", "Waiting for the first value")
    checked(stage, "dashboard-cold")


def test_each_value_is_shown_in_its_natural_way(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.values()
    for name in NAMES:
        stage.says(name, "Live")
    assert stage.browser.evaluate(
        "Array.from(document.querySelectorAll('#container li'), (one) => one.textContent)"
    ) == ["2026-11-30 12:00:00"]
    load = stage.text("[data-feed=load] .value")
    assert "12.5 %" in load
    assert "1.5 GiB" in load
    assert "<b>host</b>" in load  # text stays text
    assert "2009" in load
    assert stage.text("[data-feed=alerts] .value") == "1,234,567.5"
    stage.browser.wait_for("document.querySelector('[data-feed=plot] img').naturalWidth === 1400")
    plot = "document.querySelector('[data-feed=plot] img').getBoundingClientRect()"
    card = "document.querySelector('[data-feed=plot]').getBoundingClientRect()"
    assert stage.browser.evaluate(f"{plot}.width <= {card}.width")
    for name in NAMES:
        made = "published" if name == "alerts" else "computed"
        assert stage.text(f"[data-feed={name}] .shared") == (
            f"watched by 3; {made} 4 times, delivered 12,345 times"
        )
        assert stage.text(f"[data-feed={name}] .age").endswith(" ago in 250 ms")
    # Numbers of a column have one unit and the same digits, and stand to the right.
    cells = (
        "Array.from(document.querySelectorAll('[data-feed=report] tbody td:nth-child(3)'),"
        " (cell) => [cell.textContent.trim(), getComputedStyle(cell).textAlign])"
    )
    assert stage.browser.evaluate(cells)[:3] == [
        ["0.000", "right"], ["1,234,567.891", "right"], ["2,469,135.782", "right"],
    ]  # fmt: skip
    # What is too wide says so, and can be scrolled by keyboard.
    value = "document.querySelector('[data-feed=report] .value')"
    assert stage.browser.evaluate(f"{value}.tabIndex") == 0
    assert stage.browser.evaluate(f"{value}.getAttribute('aria-label')") == "report, value"
    assert (
        stage.browser.evaluate("document.querySelector('[data-feed=load] .value').tabIndex") == -1
    )
    checked(stage, "dashboard-live")


def test_a_value_that_is_sent_again_is_not_taken_for_a_new_one(
    open_page: Callable[[str], Stage],
) -> None:
    stage = open_page("/")
    for _ in range(2):
        stage.server.send("clock", Text("noon"))
    lines = (
        "Array.from(document.querySelectorAll('#container li'), (one) =>"
        " [one.textContent, one.className])"
    )
    stage.browser.wait_for(f"{lines}.length === 2")
    assert stage.browser.evaluate(lines) == [["noon", "again"], ["noon", ""]]


def test_numbers_that_change_have_a_chart(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    for number in (1, 2, 5):
        stage.server.send("load", Data(json.dumps({"n": number, "same": 7})))
    stage.browser.wait_for("document.querySelectorAll('[data-feed=load] .chart').length === 1")
    label = "document.querySelector('.chart').getAttribute('aria-label')"
    stage.browser.wait_for(f"{label} === 'In the last 0 s: from 1 to 5'")


def test_a_feed_that_fails_says_so_and_the_others_are_live(
    open_page: Callable[[str], Stage],
) -> None:
    stage = open_page("/")
    stage.server.values()
    stage.server.status("report", fails=True)
    stage.server.status("load", fails=True)
    stage.says("report", "Failing: this is the last value")
    stage.says("load", "Failing: this is the last value")
    stage.says("clock", "Live")
    stage.browser.wait_for("document.getElementById('announcer').textContent === 'load fails'")
    checked(stage, "dashboard-failing")
    stage.server.status("load", fails=False)
    stage.says("load", "Live")
    stage.browser.wait_for(
        "document.getElementById('announcer').textContent === 'load works again'"
    )


def test_a_feed_that_fails_without_a_value(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.status("load", fails=True)
    stage.says("load", "Failing: there is no value yet")


def test_live_turns_to_silent_when_beats_do_not_come(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.values()
    stage.says("load", "Live")
    stage.pass_time(9)
    state = "document.querySelector('[data-feed=load] .words').textContent"
    stage.browser.wait_for(f"/^Silent for (9|1[0-9]) s$/.test({state})")
    stage.says("clock", "Live")  # two beats of five seconds are not over
    stage.says("alerts", "Live")  # it keeps no beat
    # Nothing comes at all, so the page says it too.
    stage.browser.wait_for("document.getElementById('status').textContent === 'Silent'")
    stage.browser.wait_for("/^for \\d+ s$/.test(document.getElementById('countdown').textContent)")
    checked(stage, "dashboard-silent")
    stage.server.send("load", Data("{}"), age=-9)
    stage.says("load", "Live")


def test_an_old_value_is_stale_even_if_it_is_sent_again(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.send("clock", Text("early"), age=60)
    stage.says("clock", "Stale: a new value is overdue")
    assert stage.text("[data-feed=clock] .age").startswith("computed 1 min ago")
    checked(stage, "dashboard-stale")
    stage.server.send("clock", Text("in time"), age=16)
    stage.says("clock", "Live")


def test_when_the_server_has_gone_no_card_looks_healthy(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.values()
    stage.server.send("clock", Text("last"))
    stage.says("alerts", "Live")
    stage.browser.evaluate("void (Math.random = () => 1)")  # the longest wait
    stage.server.exchange.close()
    for name in NAMES:
        stage.says(name, "Not connected: this is the last value")
    assert stage.text("#state").startswith("The server went away. Reconnecting in ")
    checked(stage, "dashboard-gone")
    stage.browser.evaluate("dispatchEvent(new Event('online'))")
    server = stage.accept()
    server.exchange.send(FRAMING.reset)
    server.values()
    stage.says("load", "Live")
    assert "Something may be missing here." in stage.text("#container")


def test_the_newest_value_of_each_feed_is_for_a_tab_that_comes_later(
    open_page: Callable[[str], Stage],
) -> None:
    """By way of what all tabs share: it is the same code without a worker."""
    stage = open_page("/")
    told = stage.browser.evaluate(
        """(async () => {
          const shared = new SharedStream(new URL('other', location.href).href);
          const told = [];
          shared.hear({ postMessage() {} }, { type: 'here' });
          globalThis.later = () => {
            told.length = 0;
            shared.hear({ postMessage: (message) => told.push(message) }, { type: 'here' });
            shared.hear({ postMessage() {} }, { type: 'leave' });
            return told.map(({ type, feed, text, state }) => [type, feed ?? state, text ?? null]);
          };
        })()"""
    )
    assert told is None
    exchange = stage.scripted.accept("/other")
    exchange.start(MULTIPART)
    exchange.send(FRAMING.opening)
    server = Server(stage.scripted, exchange, 0)
    for text in ("1", "2"):
        server.send("a", Text(text))
    server.send("b", Text("3"))
    server.status("b", fails=True)
    server.send("a", Text("4"))
    stage.browser.wait_for("globalThis.later().length >= 4")
    told = stage.browser.evaluate("globalThis.later()")
    assert [one[:2] for one in told[:4]] == [
        ["part", "b"], ["part", "a"], ["trouble", "b"], ["state", "live"],
    ]  # fmt: skip
    assert ">4<" in told[1][2]


def test_what_is_read_aloud_is_not_shouted(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.browser.evaluate(
        """void (() => {
          globalThis.said = [];
          new MutationObserver(() => said.push(document.getElementById('announcer').textContent))
            .observe(document.getElementById('announcer'), { childList: true });
        })()"""
    )
    for number in range(20):
        stage.server.send("clock", Text(f"value {number}"))
    stage.browser.wait_for("document.querySelectorAll('#container li').length === 20")
    assert stage.browser.evaluate("said") == ["clock: value 0"]
    stage.pass_time(11)
    stage.server.send("clock", Text("later"))
    stage.browser.wait_for("said.at(-1) === 'clock: later'")


# The page of 2009


def test_the_page_of_2009_in_every_state(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/seed.html")
    state = "document.getElementById('state').innerText.trim()"
    stage.browser.wait_for(f"{state} === 'Live'")
    checked(stage, "seed-cold")
    for text in ("one", "two"):
        stage.server.send("clock", Text(text))
    lines = "Array.from(document.querySelectorAll('li'), (line) => line.textContent)"
    stage.browser.wait_for(f"{lines}.length === 2")
    assert stage.text("em") == (
        "This will push data from the server to you every 5 seconds .. enjoy!"
    )
    checked(stage, "seed-live")
    stage.pass_time(20)
    stage.browser.wait_for(f"/^Silent for 2\\d s$/.test({state})")
    checked(stage, "seed-silent")
    stage.server.status("clock", fails=True)
    stage.browser.wait_for(f"{lines}[0] === 'clock fails: this is its last value.'")
    checked(stage, "seed-failing")
    stage.browser.evaluate("void (Math.random = () => 1)")
    stage.server.exchange.close()
    stage.browser.wait_for(f"/^The server went away. Reconnecting/.test({state})")
    checked(stage, "seed-gone")


# The page of one feed


def test_the_page_of_a_feed(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/server/index/load")
    stage.server.send("load", Data(json.dumps(LOAD)))
    stage.server.send("~feeds", Data(json.dumps(figures())))
    stage.says("load", "Live")
    url = f"{stage.scripted.url}/server/index/load"
    for name, line in (
        ("curl", f"curl -N '{url}?format=ndjson'"),
        ("EventSource", f"new EventSource('{url}')"),
        ("img", f'<img src="{url}"'),
    ):
        assert stage.text(f"#line-{name}").startswith(line)
    links = stage.browser.evaluate("Array.from(document.links, ({ href }) => href)")
    assert f"{url}?format=sse" in links
    assert f"{url}?format=raw" in links
    assert f"{stage.scripted.url}/" in links
    checked(stage, "feed-live")
    stage.server.status("load", fails=True)
    stage.says("load", "Failing: this is the last value")
    checked(stage, "feed-failing")
    stage.server.exchange.close()
    stage.says("load", "Not connected: this is the last value")
    checked(stage, "feed-gone")


def test_the_page_of_an_application_s_own_view_loads_nothing(
    open_page: Callable[[str], Stage],
) -> None:
    stage = open_page("/live")
    checked(stage, "view-cold")
    stage.server.send("load", Data(json.dumps(LOAD)))
    stage.says("load", "Live")
    assert stage.text("#line-curl").startswith(
        f"curl -N '{stage.scripted.url}/live?token=x&format=ndjson'"
    )
    loaded = stage.browser.evaluate(
        "performance.getEntriesByType('resource').map((one) => one.name)"
    )
    assert all("format=multipart" in name for name in loaded), loaded
    checked(stage, "view-live")


@pytest.mark.parametrize(
    "page", [dashboard(FEEDS, "./"), feed_page([FEEDS[0]], None, "?", "http://x/")]
)
def test_the_policy_allows_no_other_host_and_nothing_unsafe(page: Any) -> None:
    assert "unsafe" not in page.policy
    assert "http" not in page.policy
    assert "default-src 'none'" in page.policy
    assert page.policy.count("sha256-") == page.html.count("<script>") + page.html.count("<style>")
    assert policy().count("sha256-") == 0


@pytest.mark.parametrize("path", ["/", "/seed.html", "/server/index/load"])
def test_without_scripts_it_says_so(browser: Browser, scripted: ScriptedServer, path: str) -> None:
    scripted.declared = FEEDS
    scripted.pages["/server/index/load"] = feed_page([FEEDS[1]], "../../", "x", "http://x/")
    browser.open(f"{scripted.url}/blank.html")
    # A sandbox without allow-scripts: the page is as one whose reader has switched scripts off.
    browser.evaluate(
        "void (() => {"
        " const frame = document.createElement('iframe');"
        " frame.sandbox = 'allow-same-origin';"
        f" frame.src = {json.dumps(path)};"
        " frame.style.cssText = 'position: fixed; inset: 0; width: 100%; height: 100%; border: 0';"
        " document.body.append(frame);"
        "})()"
    )
    words = "document.querySelector('iframe').contentDocument.body.innerText"
    browser.wait_for(f"/JavaScript/.test({words})")
    shown = browser.evaluate(words)
    assert not any(word in shown for word in ("Live", "Connecting", "Waiting")), shown
    if path != "/seed.html":
        links = "Array.from(document.querySelector('iframe').contentDocument.links, (a) => a.href)"
        assert any("format=raw" in link for link in browser.evaluate(links))
    if directory := os.environ.get("PUSHDEMO_SCREENSHOTS"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        kind = type(browser).__name__.lower()
        name = path.strip("/").replace("/", "-") or "dashboard"
        browser.screenshot(Path(directory) / f"{name}-noscript-{kind}.png")
    browser.open("about:blank")


# For hours


def test_a_thousand_events_leave_nothing_behind(open_page: Callable[[str], Stage]) -> None:
    stage = open_page("/")
    stage.server.values()
    counted = "document.getElementsByTagName('*').length"

    def events(numbers: range) -> int:
        for number in numbers:
            stage.server.send("clock", Text(f"value {number}"))
            stage.server.send("load", Data(json.dumps({"n": number % 7, "cpu_percent": number})))
            stage.server.send("plot", Blob(png(100 + number % 5, 50), "image/png"))
        last = numbers[-1]
        stage.browser.wait_for(
            f"document.querySelector('#container li').textContent === 'value {last}' &&"
            f" document.querySelector('[data-feed=load] .value').innerText.includes('{last}')",
            60,
        )
        found: int = stage.browser.evaluate(counted)
        return found

    after_some = events(range(150, 300))
    assert events(range(300, 1300)) == after_some
