"""The pages and the command where the application is not at the root of its host: mounted by
Paste's urlmap, which says so in SCRIPT_NAME, and behind nginx, which removes a prefix and does not.

nginx answers 404 outside the prefixes, and so does urlmap.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urljoin
from urllib.request import urlopen

import pytest

from tests.browsers import Browser
from tests.nginx import Nginx
from tests.preloading import NO_WORKERS, preloaded
from tests.servers import CHECKOUT, HANG
from tests.serving import Serving

# A name that is another one when it is decoded once too often, or not at all.
NAME = "gr\u00f6\u00dfe&100%41"

FEEDS = """\
from pathlib import Path


def text():
    return "something"


def picture():
    return (Path(__file__).parent / "picture.png").read_bytes(), "image/png"
"""

APP = f"""\
use = egg:pushdemo
feed.clock = pushdemo.feeds:clock
feed.clock.interval = 0.2
feed.clock.duration = 0.2
feed.{NAME} = told:text
feed.picture = told:picture
feed.outside = push
push.token = secret
[server:main]
use = egg:pushdemo#http
port = 0
"""
INIS = {
    "root.ini": f"[app:main]\n{APP}",
    "mounted.ini": (
        f"[composite:main]\nuse = egg:Paste#urlmap\n/push = pushdemo\n[app:pushdemo]\n{APP}"
    ),
}

LINES = "document.querySelectorAll('#container li').length"
STATUS = "document.querySelector('[role=status]').textContent"
VALUE = (
    "Array.from(document.querySelectorAll('[data-feed]'))"
    f".find(({{ dataset }}) => dataset.feed === {json.dumps(NAME)})"
    ".querySelector('.value').textContent"
)
PICTURE = "document.querySelector('[data-feed=picture] img').naturalWidth"
RESOURCES = "performance.getEntriesByType('resource').map(({ name }) => name)"

# The page has no stream of its own, however long its worker takes; `workers` tells which it has.
ONLY_WORKERS = """() => {
  const [Native, native] = [SharedWorker, setTimeout];
  globalThis.workers = [];
  globalThis.SharedWorker = class extends Native {
    constructor(url, options) {
      super(url, options);
      workers.push([String(url), options.name]);
    }
  };
  globalThis.setTimeout = (action, delay) => delay === 5_000 ? 0 : native(action, delay);
}"""


def png(width: int) -> bytes:
    """A grey image of one line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + width))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def command(*arguments: str, value: str = "") -> str:
    """What `pushdemo` prints."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pushdemo.commands.main", *arguments],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PUSHDEMO_TOKEN": "secret"},
        input=value,
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prefix")
    for name, ini in INIS.items():
        (directory / name).write_text(ini, encoding="utf-8")
    (directory / "told.py").write_text(FEEDS)
    (directory / "picture.png").write_bytes(png(33))
    return directory


@pytest.fixture(scope="module")
def mounted(directory: Path) -> Iterator[str]:
    """The URL of a server that has the application at /push."""
    with Serving(directory, "mounted.ini") as serving:
        # The page of all feeds waits until each has a value.
        command("publish", "outside", "-", f"--url={serving.url}/push", value="published")
        yield serving.url


@pytest.fixture(scope="module")
def proxy(directory: Path, mounted: str) -> Iterator[str]:
    with Serving(directory, "root.ini") as root:
        command("publish", "outside", "-", f"--url={root.url}", value="published")
        locations = {
            "/live/": f"{root.url}/",  # and nginx redirects /live itself
            '"/caf\u00e9 au lait/"': f"{root.url}/",
            "/outer/": f"{mounted}/",
        }
        with Nginx(directory, locations) as nginx:
            yield nginx.url


SITES = ["mounted:/push/", "proxy:/live/", "proxy:/caf%C3%A9%20au%20lait/", "proxy:/outer/push/"]


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> str:
    """The application's URL, as its clients have it."""
    fixture, _, path = request.param.partition(":")
    return f"{request.getfixturevalue(fixture)}{path}"


@pytest.fixture
def tab(browser: Browser) -> Iterator[Browser]:
    with preloaded(browser, ONLY_WORKERS):
        yield browser
    browser.open("about:blank")  # or it would reconnect to a server that is gone


def is_live(tab: Browser, site: str) -> None:
    """Whether the start page shows what is pushed, which comes by the worker of this site."""
    tab.wait_for(f"{LINES} >= 2 && {STATUS} === 'Live'")
    tab.wait_for(f"{VALUE} === 'something' && {PICTURE} === 33")
    worker = f"{site}stream-worker.js"
    stream = f"{site}server/index/clock+{quote(NAME, safe='')}+picture+outside+~feeds"
    assert tab.evaluate("workers") == [[worker, stream]]
    assert tab.evaluate("getComputedStyle(document.querySelector('ul')).listStyleType") == "none"
    asked_for_nothing_else(tab, site)


def asked_for_nothing_else(tab: Browser, site: str) -> None:
    """Whether all that the page has loaded is of this site."""
    resources = tab.evaluate(RESOURCES)
    assert [name for name in resources if not name.startswith((site, "blob:"))] == []


def test_the_start_page(tab: Browser, site: str) -> None:
    tab.open(site)
    is_live(tab, site)


def test_the_start_page_by_its_name(tab: Browser, proxy: str) -> None:
    tab.open(f"{proxy}/live/index.html")
    is_live(tab, f"{proxy}/live/")


def test_the_page_of_2009_and_its_link(tab: Browser, site: str) -> None:
    tab.open(f"{site}seed.html")
    tab.wait_for(f"{LINES} >= 2 && {STATUS} === 'Live'")
    assert tab.evaluate("workers") == [[f"{site}stream-worker.js", f"{site}server/index"]]
    asked_for_nothing_else(tab, site)
    tab.evaluate("document.querySelector('main > p > a').click()")
    tab.wait_for(f"location.href === {json.dumps(site)} && document.title === 'pushdemo'")


def test_the_page_of_a_feed_and_its_links(tab: Browser, site: str) -> None:
    tab.open(site)
    address = f"{site}server/index/{quote(NAME, safe='')}"
    tab.evaluate(
        f"Array.from(document.links).find((one) => one.href === {json.dumps(address)}).click()"
    )
    tab.wait_for(f"location.href === {json.dumps(address)} && {VALUE} === 'something'")
    assert tab.evaluate("document.querySelector('h1').textContent") == NAME
    assert f"curl -N '{address}?format=ndjson'" in tab.evaluate(
        "document.getElementById('line-curl').textContent"
    )
    asked_for_nothing_else(tab, site)
    tab.evaluate("document.querySelector('a').click()")
    tab.wait_for(f"location.href === {json.dumps(site)} && document.title === 'pushdemo'")


def test_a_slash_that_is_missing_is_redirected_to(tab: Browser, site: str) -> None:
    tab.open(f"{site.removesuffix('/')}?some=query#place")
    assert tab.evaluate("location.href") == f"{site}?some=query#place"
    is_live(tab, site)


def test_a_page_without_a_worker(browser: Browser, site: str) -> None:
    with preloaded(browser, NO_WORKERS):
        browser.open(site)
        browser.wait_for(f"{LINES} >= 2 && {STATUS} === 'Live'")
    browser.open("about:blank")


def test_the_link_of_an_error_page(tab: Browser, site: str) -> None:
    tab.open(f"{site}server/index/nothing")
    assert tab.evaluate("document.querySelector('h1').textContent") == "404 Not Found"
    tab.evaluate("document.querySelector('a').click()")
    tab.wait_for(f"location.href === {json.dumps(site)} && document.title === 'pushdemo'")


# Clients that are no browsers


def test_each_address_in_the_list_of_feeds_is_one(site: str) -> None:
    with urlopen(f"{site}server/feeds", timeout=HANG) as answer:
        feeds = {feed["name"]: urljoin(answer.url, feed["url"]) for feed in json.load(answer)}
    assert list(feeds) == ["clock", NAME, "picture", "outside"]
    with urlopen(f"{feeds[NAME]}?format=json", timeout=HANG) as answer:
        assert json.load(answer) == "something"


def test_the_command_publishes_and_watches(site: str) -> None:
    event = command("publish", "outside", "-", f"--url={site}", value="published")
    watched = command("watch", f"{site}server/index/outside", "--json", "--limit=1")
    assert json.loads(watched)["value"] == "published"
    assert json.loads(watched)["id"] == event.strip()
