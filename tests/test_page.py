"""The root page, and the page of 2009 word for word, against a server that does what we say.

The root page has its stream for itself here. How tabs share one: test_shared_stream.py.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import FeedStatus
from tests.browsers import Browser
from tests.preloading import NO_WORKERS, preloaded
from tests.scripted_server import MULTIPART, PAGES, Exchange, ScriptedServer, ours, seeds

LINES = "Array.from(document.querySelectorAll('#container li'), (line) => line.textContent)"
STATUS = "document.querySelector('[role=status]').textContent"
STATE = "document.getElementById('state').innerText"
AGE = "document.getElementById('age').textContent"


# The seed's page.


def test_the_seeds_page_is_the_seeds() -> None:
    """One script tag, then the first code block of the blog post, to the byte."""
    tag, page = (PAGES / "2009.html").read_bytes().split(b"\n", 1)
    assert tag == b'<script src="/multipart-xhr.js" data-install></script>'
    published = "3b5391ae26f1a740af5188e010721ff45bebc83971eef0c392a316bc3459af5c"
    assert hashlib.sha256(page).hexdigest() == published


@pytest.mark.parametrize("first", [b"--test\r\n" + ours("first"), seeds("first")])
@pytest.mark.parametrize("second", [ours("second"), seeds("second")], ids=["ours", "seeds"])
def test_the_seeds_page_shows_each_part_as_it_comes(
    browser: Browser, scripted: ScriptedServer, first: bytes, second: bytes
) -> None:
    browser.open(f"{scripted.url}/2009.html")
    stream = scripted.accept()
    stream.start(MULTIPART)
    stream.send(first)
    browser.wait_for(f"{LINES}.length === 1")
    stream.send(second)
    browser.wait_for(f"{LINES}.length === 2")
    assert browser.evaluate(LINES) == ["first", "second"]


# Ours.

HEARTBEAT = b"\r\n\r\n--test\r\n"
RESET = b"Event: reset\r\nContent-Length: 0\r\n\r\n\r\n--test\r\n"


@pytest.fixture
def page(browser: Browser, scripted: ScriptedServer) -> Iterator[Browser]:
    """Our page; the test accepts its first request."""
    with preloaded(browser, NO_WORKERS):
        browser.open(f"{scripted.url}/seed.html")
        yield browser
    # Else its stream, and the next try, would fall into the next test's time.
    browser.open("about:blank")


def accept(scripted: ScriptedServer, first: bytes = b"", **headers: str) -> Exchange:
    stream = scripted.accept()
    stream.start(MULTIPART | headers)
    stream.send(b"--test\r\n" + first)
    return stream


def test_lines_and_states(page: Browser, scripted: ScriptedServer) -> None:
    assert page.evaluate(STATUS) == "Connecting"
    stream = accept(scripted, ours("one"))
    page.wait_for(f"{STATUS} === 'Live'")
    assert page.evaluate(LINES) == ["one"]
    stream.send(ours("two"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["two", "one"]  # the newest first, where one looks
    assert page.evaluate("document.querySelector('em').textContent") == (
        "This will push data from the server to you every 5 seconds .. enjoy!"
    )


def test_the_seeds_bytes(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, seeds("one"))
    page.wait_for(f"{LINES}.length === 1")
    stream.send(seeds("two"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["two", "one"]
    assert page.evaluate(AGE) == ""  # they have no date


@pytest.mark.parametrize("end", ["close", "drop"])
def test_reconnects_when_the_server_went_away(
    page: Browser, scripted: ScriptedServer, end: str
) -> None:
    stream = accept(scripted, ours("before"))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("Math.random = () => 1")  # the longest wait
    getattr(stream, end)()
    page.wait_for(f"{STATE} === 'The server went away. Reconnecting in 1 s'")
    stream = scripted.accept()
    page.wait_for(f"{STATE}.trim() === 'Connecting'")
    stream.start(MULTIPART)
    stream.send(b"--test\r\n" + ours("after"))
    page.wait_for(f"{STATE}.trim() === 'Live'")
    assert page.evaluate(LINES) == ["after", "before"]


def test_backoff_grows_to_a_cap_and_has_full_jitter(page: Browser) -> None:
    assert page.evaluate("[0, 1, 2, 3, 4, 5, 99].map((n) => backoff(n, 1000, 1) / 1000)") == [
        *[1, 2, 4, 8, 16],
        *[30, 30],
    ]
    assert page.evaluate("backoff(3, 1000, 0.25)") == 2_000
    assert page.evaluate("backoff(3, 1000, 0)") == 0
    assert page.evaluate("backoff(3, 60000, 1)") == 60_000  # the server's wish is above the cap
    delays = page.evaluate("Array.from({ length: 100 }, () => backoff(1, 1000))")
    assert len(set(delays)) > 90
    assert 0 <= min(delays) < max(delays) < 2_000


def test_attempts_back_off_until_a_part_arrives(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("Math.random = () => 1 / 100")  # quick, and still to be told apart
    page.evaluate(
        """(() => {
          window.waits = [];
          const native = setTimeout;
          window.setTimeout = (action, delay) => {
            if (delay < 1_000) waits.push(delay);
            return native(action, delay);
          };
        })()"""
    )
    accept(scripted).close()  # a stream without a part is a failure, too
    for _ in range(2):
        scripted.accept().answer("500 Broken", {})
    accept(scripted, ours("one")).close()
    accept(scripted)
    assert page.evaluate("waits") == [10, 20, 40, 10]


def test_the_server_says_how_long_to_wait(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, ours("one", {"Retry": "7000"}))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("Math.random = () => 1")
    stream.close()
    page.wait_for(f"{STATE}.endsWith('in 7 s')")
    page.wait_for(f"{STATE}.endsWith('in 6 s')")  # it counts


def test_back_online_it_does_not_wait(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, ours("one", {"Retry": "3600000"}))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("Math.random = () => 1")
    stream.close()
    page.wait_for(f"{STATE}.endsWith('in 3600 s')")
    page.evaluate("dispatchEvent(new Event('online'))")
    accept(scripted, ours("two"))
    page.wait_for(f"{LINES}.length === 2")


def test_a_full_server_is_asked_again_when_it_said(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("Math.random = () => 0")
    refused = scripted.accept()
    began = time.monotonic()
    refused.answer("503 Service Unavailable", {"Retry-After": "1"}, b"full")
    page.wait_for(f"{STATE} === 'The server is full, or has no value yet. Reconnecting in 1 s'")
    accept(scripted, ours("one"))
    assert time.monotonic() - began >= 0.99
    page.wait_for(f"{STATUS} === 'Live'")
    assert page.evaluate(LINES) == ["one"]


def test_retry_after(page: Browser) -> None:
    script = "retryAfter({}, Date.parse('Tue, 24 Nov 2026 09:31:00 GMT'))"
    for value, delay in {
        "120": 120_000,
        "Tue, 24 Nov 2026 09:31:30 GMT": 30_000,
        "Tue, 24 Nov 2026 09:30:00 GMT": None,
        "soon": None,
        None: None,
    }.items():
        assert page.evaluate(script.format(json.dumps(value))) == delay


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        ("404 Not Found", {}, "The server answered 404 Not Found"),
        ("500", {}, "The server answered 500"),
        ("503", {}, "The server is full, or has no value yet"),
    ],
)
def test_other_answers_are_put_in_words(
    page: Browser, scripted: ScriptedServer, status: str, headers: dict[str, str], words: str
) -> None:
    page.evaluate("Math.random = () => 1")
    scripted.accept().answer(status, headers, b"<p>not a value</p>")
    page.wait_for(f"{STATUS} === '{words}. Reconnecting'")
    assert page.evaluate(LINES) == []


def test_a_camera_that_is_not_exact(page: Browser, scripted: ScriptedServer) -> None:
    """It declares the hyphens of its delimiter as a part of the boundary."""
    stream = scripted.accept()
    stream.start({"Content-Type": "multipart/x-mixed-replace; boundary=--test"})
    stream.send(b"--test\r\n" + ours("one"))
    page.wait_for(f"{LINES}.length === 1")
    stream.send(ours("two"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["two", "one"]
    assert page.evaluate(STATUS) == "Live"


LOGIN = "The server cannot be understood: expected %s, got %s. Reload the page to try again."


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        (
            MULTIPART["Content-Type"],
            LOGIN % ("the line '--test' before the first part", "'<p>Log in</p>'"),
        ),
        ("text/html", LOGIN % ("a multipart stream", "text/html: '<p>Log in</p>'")),
    ],
)
def test_where_nothing_can_be_made_of_it_it_says_so_and_stops(
    page: Browser, scripted: ScriptedServer, content_type: str, said: str
) -> None:
    page.evaluate("Math.random = () => 0")  # it would ask again at once
    scripted.accept().answer("200 OK", {"Content-Type": content_type}, b"<p>Log in</p>")
    page.wait_for(f"{STATUS} === {json.dumps(said)}")
    time.sleep(0.3)
    assert len(scripted.exchanges) == 1
    assert page.evaluate(STATE).strip() == said
    assert page.evaluate(LINES) == []
    # Somebody has logged in, and the network or the user wants another attempt.
    page.evaluate("dispatchEvent(new Event('online'))")
    accept(scripted, ours("one"))
    page.wait_for(f"{STATUS} === 'Live'")


def test_what_becomes_unreadable_stops_after_what_was_read(
    page: Browser, scripted: ScriptedServer
) -> None:
    stream = accept(scripted, ours("one") + b"Content-Length: 1\r\n\r\nABC\r\n")
    page.wait_for(f"{STATUS}.includes(\"1 bytes of its Content-Length, got 'BC'. Reload\")")
    stream.wait_for_hangup()
    assert page.evaluate(LINES) == ["A", "one"]


def test_a_server_that_is_not_there(browser: Browser) -> None:
    with ScriptedServer() as server:
        browser.open(f"{server.url}/seed.html")
        server.accept().drop()
    browser.wait_for(f"{STATUS} === 'The server cannot be reached. Reconnecting'")
    browser.open("about:blank")


def test_old_lines_go(page: Browser, scripted: ScriptedServer) -> None:
    accept(scripted, b"".join(ours(str(number)) for number in range(250)))
    page.wait_for(f"{LINES}[0] === '249'")
    assert page.evaluate(LINES) == [str(number) for number in range(249, 149, -1)]


def test_what_is_pushed_is_text(page: Browser, scripted: ScriptedServer) -> None:
    accept(scripted, ours("&lt;b>bold&lt;/b>") + ours("<b>child</b>"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["child", "<b>bold</b>"]
    assert page.evaluate("document.querySelector('b')") is None


def test_a_part_that_is_not_xml_is_shown_as_it_is(page: Browser, scripted: ScriptedServer) -> None:
    accept(scripted, b"Content-Type: text/plain\n\n<i>plain</i>\n--test\n")
    page.wait_for(f"{LINES}.length === 1")
    assert page.evaluate(LINES) == ["<i>plain</i>"]


def test_the_age_of_the_value(page: Browser, scripted: ScriptedServer) -> None:
    """By the server's clock, which here is a day behind the browser's."""
    now = time.time() - 86_400
    modified = {"Last-Modified": formatdate(now - 40, usegmt=True)}
    stream = accept(scripted, ours("old", modified), Date=formatdate(now, usegmt=True))
    age = page.wait_for(f"/^computed 4[01] s ago$/.test({AGE}) && {AGE}")
    page.wait_for(f"{AGE} !== '{age}' && /^computed 4[1-3] s ago$/.test({AGE})")
    # A clock that seems to be ahead, as whole seconds may.
    modified = {"Last-Modified": formatdate(now + 30, usegmt=True)}
    stream.send(ours("new", modified))
    page.wait_for(f"{AGE} === 'computed 0 s ago'")


def test_spans(page: Browser) -> None:
    seconds = [0, 59.9, 60, 3_599, 3_600, 86_399, 86_400, 864_000]
    assert page.evaluate(f"{seconds}.map((s) => span(s * 1000))") == [
        *["0 s", "59 s", "1 min", "59 min"],
        *["1 h", "23 h", "1 d", "10 d"],
    ]


def test_two_tabs(page: Browser, scripted: ScriptedServer) -> None:
    """Firefox holds the second request back while it might answer it from the first's answer."""
    first = accept(scripted, ours("one"))
    second = page.new_tab()
    second.open(f"{scripted.url}/seed.html")
    accept(scripted, ours("two"))
    second.wait_for(f"{LINES}.length === 1")
    second.close()
    first.send(ours("three"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["three", "one"]


def test_a_page_that_was_left_holds_no_stream(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, ours("one"))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("(() => { window.kept = true; })()")
    page.open(f"{scripted.url}/blank.html")
    stream.wait_for_hangup()
    page.back()
    accept(scripted, ours("two"))
    page.wait_for(f"{LINES}[0] === 'two'")
    # If it comes from the back-forward cache, as in Chromium, its lines are still there.
    kept = page.evaluate("Boolean(window.kept)")
    assert page.evaluate(LINES) == (["two", "one"] if kept else ["two"])


def test_pagehide_stops_and_pageshow_resumes(page: Browser, scripted: ScriptedServer) -> None:
    """The events alone: leaving a page would close its connections anyway."""
    page.evaluate(
        "(() => { window.errors = [];"
        " addEventListener('error', ({ message }) => errors.push(message)); })()"
    )
    stream = accept(scripted, ours("one"))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    stream.wait_for_hangup()
    assert page.evaluate(STATE).strip() == "Stopped"
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    accept(scripted, ours("two"))
    page.wait_for(f"{STATUS} === 'Live'")
    assert page.evaluate(LINES) == ["two", "one"]
    assert len(scripted.exchanges) == 2
    assert page.evaluate("errors") == []


@pytest.mark.parametrize("waits", [False, True], ids=["live", "waiting"])
def test_a_hidden_page_does_not_reconnect(
    page: Browser, scripted: ScriptedServer, waits: bool
) -> None:
    page.evaluate(
        """(() => {
          window.pending = new Set();
          const [set, clear] = [setTimeout, clearTimeout];
          window.setTimeout = (...given) => {
            const id = set(...given);
            pending.add(id);
            return id;
          };
          window.clearTimeout = (id) => {
            pending.delete(id);
            clear(id);
          };
        })()"""
    )
    stream = accept(scripted, ours("one", {"Retry": "3600000"}))
    page.wait_for(f"{LINES}.length === 1")
    if waits:
        stream.close()
        page.wait_for(f"{STATUS}.endsWith('Reconnecting')")
    assert page.evaluate("pending.size") > 0
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    if not waits:
        stream.wait_for_hangup()
    assert page.evaluate("pending.size") == 0


# The longest silence, and how often the page began to measure one.
COUNT_SILENCES = """(() => {
  window.silences = 0;
  window.longest = 45_000;
  const native = setTimeout;
  window.setTimeout = (action, delay) => {
    if (delay !== 45_000) return native(action, delay);
    silences++;
    return native(action, longest);
  };
})()"""


def test_silence_is_not_waited_out_for_ever(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, ours("one"))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate(COUNT_SILENCES)
    page.evaluate("longest = 50")
    stream.send(ours("two"))
    stream.wait_for_hangup()
    page.evaluate("longest = 45_000")
    accept(scripted, ours("three"))
    page.wait_for(f"{LINES}.length === 3")


def test_a_heartbeat_is_a_sign_of_life_and_no_line(page: Browser, scripted: ScriptedServer) -> None:
    stream = accept(scripted, ours("one"))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate(COUNT_SILENCES)
    for number in range(1, 4):
        stream.send(HEARTBEAT)
        page.wait_for(f"silences === {number}")
    stream.send(ours("two"))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["two", "one"]


def test_it_goes_on_after_the_last_part_it_has(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("Math.random = () => 0")
    stream = accept(scripted, ours("one", {"Event-ID": "e-1"}) + ours("two", {"Event-ID": "e-2"}))
    page.wait_for(f"{LINES}.length === 2")
    stream.close()
    assert "Last-Event-ID" not in stream.headers
    resumed = accept(scripted)
    assert resumed.headers["Last-Event-ID"] == "e-2"
    page.wait_for(f"{STATUS} === 'Live'")  # also while there is nothing new
    resumed.send(ours("three", {"Event-ID": "e-3"}) + HEARTBEAT)
    page.wait_for(f"{LINES}.length === 3")
    resumed.drop()
    assert accept(scripted).headers["Last-Event-ID"] == "e-3"
    assert page.evaluate(LINES) == ["three", "two", "one"]


def test_it_says_where_something_may_be_missing(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("Math.random = () => 0")
    accept(scripted, ours("one", {"Event-ID": "e-1"})).close()
    accept(scripted, RESET + ours("two", {"Event-ID": "f-1"})).close()
    page.wait_for(f"{LINES}.length === 3")
    assert page.evaluate(LINES) == ["two", "Something may be missing here.", "one"]
    assert page.evaluate("document.querySelector('.gap').offsetHeight") < page.evaluate(
        "document.querySelector('li:last-child').offsetHeight"
    )
    assert accept(scripted).headers["Last-Event-ID"] == "f-1"


def notice(status: FeedStatus) -> bytes:
    """A part and its delimiter, to stand between parts that are made here."""
    return Multipart("test").encode_status(status).removeprefix(b"\r\n").removesuffix(b"Idle:")


def test_it_says_that_a_feed_fails_and_works_again(page: Browser, scripted: ScriptedServer) -> None:
    failing = notice(FeedStatus(1, "orders", 1.5))
    working = notice(FeedStatus(2, "orders", None))
    accept(scripted, ours("one") + failing + ours("one") + working + ours("two"))
    page.wait_for(f"{LINES}.length === 5")
    assert page.evaluate(LINES) == [
        "two",
        "orders works again.",
        "one",
        "orders fails: this is its last value.",
        "one",
    ]


def test_it_does_not_speak_of_a_last_value_where_there_is_none(
    page: Browser, scripted: ScriptedServer
) -> None:
    accept(scripted, b"Idle:" + Multipart("test").encode_status(FeedStatus(1, "orders", 1.5)))
    page.wait_for(f"{LINES}.length === 1")
    assert page.evaluate(LINES) == ["orders fails: there is no value yet."]


def test_the_seeds_page_does_not_notice_what_is_no_value(
    browser: Browser, scripted: ScriptedServer
) -> None:
    browser.open(f"{scripted.url}/2009.html")
    browser.evaluate("(window.errors = 0, addEventListener('error', () => errors++))")
    stream = scripted.accept()
    stream.start(MULTIPART)
    stream.send(b"--test\r\n" + notice(FeedStatus(1, "orders", 1.5)))
    stream.send(RESET + ours("one"))
    browser.wait_for(f"{LINES}.length === 1")
    assert browser.evaluate(LINES) == ["one"]
    assert browser.evaluate("errors") == 0


def test_a_page_that_was_put_aside_goes_on_where_it_was(
    page: Browser, scripted: ScriptedServer
) -> None:
    accept(scripted, ours("one", {"Event-ID": "e-1"}))
    page.wait_for(f"{LINES}.length === 1")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    assert accept(scripted).headers["Last-Event-ID"] == "e-1"


def test_lines_of_several_feeds_say_which(page: Browser, scripted: ScriptedServer) -> None:
    accept(scripted, ours("one", {"Feed": "caf%C3%A9"}) + ours("two", {"Feed": "plain"}))
    page.wait_for(f"{LINES}.length === 2")
    assert page.evaluate(LINES) == ["plain: two", "café: one"]


def test_without_javascript_it_says_so(page: Browser) -> None:
    html = page.evaluate("fetch('/seed.html').then((answer) => answer.text())")
    assert "<noscript><p>This page needs JavaScript" in html


def test_nothing_is_loaded_from_elsewhere(page: Browser, scripted: ScriptedServer) -> None:
    urls = page.evaluate("performance.getEntriesByType('resource').map(({ name }) => name)")
    files = ["page.css", "multipart-xhr.js", "stream.js", "watch.js", "words.js", "page.js"]
    assert {f"{scripted.url}/{name}" for name in files} <= set(urls)
    assert all(url.startswith(scripted.url) for url in urls)
    assert (
        page.evaluate("document.querySelectorAll('script:not([src]), style, [style]').length") == 0
    )
