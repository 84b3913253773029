"""Real pages, in real browsers, from real `paster serve`: what a person does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.browsers import Browser
from tests.servers import CHECKOUT, until
from tests.serving import Serving

LINES = "Array.from(document.querySelectorAll('#container li'), (line) => line.textContent)"
GAPS = "document.querySelectorAll('#container li.gap').length"
WORDS = "document.querySelector('main').innerText"

INI = """\
[app:main]
use = config:development.ini
feed.clock.interval = 0.2
feed.clock.duration = 0.2
feed.clock.history = 100
{more}
[server:main]
use = config:development.ini
port = {port}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, with the seed's page among the files of public/."""
    directory = tmp_path_factory.mktemp("checkout")
    shutil.copytree(CHECKOUT / "pushdemo", directory / "pushdemo")
    shutil.copy(CHECKOUT / "development.ini", directory)
    shutil.copy(Path(__file__).with_name("pages") / "2009.html", directory / "pushdemo" / "public")
    (directory / "mine.ini").write_text(INI.format(port=0, more=""))
    return directory


@pytest.fixture(scope="module")
def serving(checkout: Path) -> Iterator[Serving]:
    with Serving(checkout, "mine.ini") as serving:
        yield serving


@pytest.fixture
def tab(browser: Browser) -> Iterator[Browser]:
    yield browser
    browser.open("about:blank")  # or it would reconnect to a server that is gone


@pytest.mark.parametrize("page", ["/", "/seed.html", "/2009.html"])
def test_the_list_grows_without_a_reload(tab: Browser, serving: Serving, page: str) -> None:
    tab.open(serving.url + page)
    # All feeds begin with the page at the root, so that the clock may miss a beat, which sends its
    # last value again: there the page says so.
    new = LINES.replace("#container li", "#container li:not(.again)")
    tab.wait_for(f"{new}.length >= 3")
    lines = tab.evaluate(new)
    assert len(set(lines)) == len(lines)
    assert sorted(lines, reverse=page != "/2009.html") == lines
    seconds = {"/seed.html": "0.2", "/2009.html": "5"}.get(page)
    if seconds:
        assert (
            f"This will push data from the server to you every {seconds} seconds"
            in tab.evaluate("document.body.innerText")
        )


def test_our_page_says_that_it_is_live_and_how_old_the_value_is(
    tab: Browser, serving: Serving
) -> None:
    tab.open(serving.url)
    tab.wait_for(f"{WORDS}.includes('Live') && /computed \\d+ s ago/.test({WORDS})")


def test_eight_tabs_take_one_stream(tab: Browser, checkout: Path) -> None:
    """All that there is: a second one would be answered 503."""
    (checkout / "one.ini").write_text(INI.format(port=0, more="push.max_streams = 1"))
    with Serving(checkout, "one.ini") as serving, ExitStack() as stack:
        tabs = [tab, *(tab.new_tab() for _ in range(7))]
        for new in tabs[1:]:
            stack.callback(new.close)
        for each in tabs:
            each.open(serving.url)
        lines = [each.wait_for(f"{LINES}.length >= 3 && {LINES}") for each in tabs]
        newest = lines[-1][0]
        for each in tabs:
            each.wait_for(f"{LINES}.includes({newest!r})")
            assert "Live" in each.evaluate(WORDS)
        with serving.connect("/server/index") as reader:
            assert reader.head()[0] == 503


def test_a_stream_ends_with_its_page(tab: Browser, checkout: Path) -> None:
    (checkout / "one.ini").write_text(INI.format(port=0, more="push.max_streams = 1"))
    with Serving(checkout, "one.ini") as serving:
        tab.open(serving.url)
        tab.wait_for(f"{LINES}.length >= 1")
        tab.open(f"{serving.url}/page.css")

        def free() -> bool:
            with serving.connect("/server/index?limit=1") as reader:
                return reader.head()[0] == 200

        until(free, "the stream's end")


def test_the_page_shows_each_feed_in_its_natural_way(tab: Browser, serving: Serving) -> None:
    tab.open(serving.url)
    value = "document.querySelector('[data-feed={}] .value')"
    tab.wait_for(f"/cpu_percent/.test({value.format('load')}.querySelector('th').innerText)", 30)
    assert tab.evaluate(f"{value.format('load')}.querySelectorAll('tr').length") > 3
    before = tab.evaluate(f"{value.format('load')}.innerText")
    tab.wait_for(f"{value.format('load')}.innerText !== {json.dumps(before)}", 30)
    tab.wait_for(f"{value.format('plot')}.querySelector('img').naturalWidth > 300", 60)
    tab.wait_for(f"/^[0-9]{{4}}-/.test({value.format('clock')}.innerText)")
    # A table of tables; each row of a sequence is a row.
    tab.wait_for(f"{value.format('report')}.querySelectorAll('td table tr').length > 10", 60)


def test_our_page_comes_back_when_the_server_does(tab: Browser, checkout: Path) -> None:
    with Serving(checkout, "mine.ini") as first:
        tab.open(first.url)
        tab.wait_for(f"{LINES}.length >= 2")
        port = first.port
    tab.wait_for(f"/Reconnecting/.test({WORDS})")
    before = tab.evaluate(LINES)
    (checkout / "again.ini").write_text(INI.format(port=port, more=""))
    with Serving(checkout, "again.ini"):
        tab.wait_for(f"{LINES}.length >= {len(before)} + 3", timeout=60)
        assert "Live" in tab.evaluate(WORDS)
        # A new server does not know what the one before has sent since.
        lines = tab.evaluate(LINES)
        assert lines[-len(before) :] == before
        assert tab.evaluate(GAPS) == 1
        assert lines[-len(before) - 1] == "Something may be missing here."


def test_our_page_goes_on_where_it_was(tab: Browser, serving: Serving) -> None:
    """As one that was put aside, and with a feed that sends while it is away."""
    tab.open(f"{serving.url}/seed.html")  # which has no other feed begin beside the clock
    tab.wait_for(f"{LINES}.length >= 2")
    with serving.connect("/server/index") as reader:
        reader.open()
        tab.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        before = tab.evaluate(LINES)
        sent = [reader.text()]
        while len(sent) < 5:
            sent.append(reader.text())
        tab.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        tab.wait_for(f"{LINES}.includes({sent[-1]!r})")
    lines = tab.evaluate(LINES)
    assert set(sent) <= set(lines)
    assert len(set(lines)) == len(lines)
    assert lines[-len(before) :] == before
    assert tab.evaluate(GAPS) == 0
