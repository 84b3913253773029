"""Real pages, in real browsers, from real `paster serve`: what a person does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browsers import Browser
from tests.servers import CHECKOUT
from tests.serving import Serving

LINES = "Array.from(document.querySelectorAll('#container li'), (line) => line.textContent)"
WORDS = "document.querySelector('main').innerText"

INI = """\
[app:main]
use = config:development.ini
feed.clock.interval = 0.2
feed.clock.duration = 0.2
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
    shutil.copy(Path(__file__).with_name("pages") / "seed.html", directory / "pushdemo" / "public")
    (directory / "mine.ini").write_text(INI.format(port=0))
    return directory


@pytest.fixture(scope="module")
def serving(checkout: Path) -> Iterator[Serving]:
    with Serving(checkout, "mine.ini") as serving:
        yield serving


@pytest.fixture
def tab(browser: Browser) -> Iterator[Browser]:
    yield browser
    browser.open("about:blank")  # or it would reconnect to a server that is gone


@pytest.mark.parametrize("page", ["/", "/seed.html"], ids=["ours", "the seed's"])
def test_the_list_grows_without_a_reload(tab: Browser, serving: Serving, page: str) -> None:
    tab.open(serving.url + page)
    tab.wait_for(f"{LINES}.length >= 3")
    lines = tab.evaluate(LINES)
    assert len(set(lines)) == len(lines)
    assert sorted(lines, reverse=page == "/") == lines
    assert "This will push data from the server to you every 5 seconds" in tab.evaluate(
        "document.body.innerText"
    )


def test_our_page_says_that_it_is_live_and_how_old_the_value_is(
    tab: Browser, serving: Serving
) -> None:
    tab.open(serving.url)
    tab.wait_for(f"{WORDS}.includes('Live') && /computed \\d+ s ago/.test({WORDS})")


def test_our_page_comes_back_when_the_server_does(tab: Browser, checkout: Path) -> None:
    with Serving(checkout, "mine.ini") as first:
        tab.open(first.url)
        tab.wait_for(f"{LINES}.length >= 2")
        port = first.port
    tab.wait_for(f"/Reconnecting/.test({WORDS})")
    before = tab.evaluate(LINES)[0]
    (checkout / "again.ini").write_text(INI.format(port=port))
    with Serving(checkout, "again.ini"):
        tab.wait_for(f"{LINES}[0] > {before!r}", timeout=60)
        assert "Live" in tab.evaluate(WORDS)
