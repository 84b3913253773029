"""References from one address of the application to another, which are right under any prefix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urljoin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paste.urlmap import URLMap
from webtest import TestApp

from pushdemo.config.middleware import make_app
from pushdemo.lib.addresses import reference
from pushdemo.lib.static_files import StaticFiles

# Characters that mean something in an address, in an encoding, or in both; not the semicolon, of
# which urljoin loses one.
TEXTS = st.text("ab:%41.?#&= \u00e9\U0001f600", min_size=1, max_size=6)
SEGMENTS = TEXTS.map(lambda text: quote(text, safe=":&=")).filter(lambda s: s.strip("."))
PREFIXES = st.lists(SEGMENTS, max_size=2).map(lambda segments: "".join(f"/{s}" for s in segments))
PATHS = st.builds(lambda directory, last: f"{directory}/{last}", PREFIXES, st.just("") | SEGMENTS)


def environment(script_name: str, path_info: str) -> dict[str, Any]:
    """What a WSGI server makes of two parts of an address."""
    return {
        "SCRIPT_NAME": unquote_to_bytes(script_name).decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(path_info).decode("latin-1"),
    }


@given(hidden=PREFIXES, mount=PREFIXES, path=PATHS, target=PATHS)
@example(hidden="", mount="", path="/%2541/x", target="/%41/y")  # equal only when decoded once
@example(hidden="/live", mount="/push", path="/a:b", target="/a:c")
def test_a_client_resolves_a_reference_to_its_target(
    hidden: str, mount: str, path: str, target: str
) -> None:
    address = f"http://example.org{hidden}{mount}"
    assert urljoin(address + path, reference(environment(mount, path), target)) == address + target


@given(hidden=PREFIXES, mount=PREFIXES.filter(bool), target=PATHS)
def test_also_from_a_mount_point_without_a_slash_at_its_end(
    hidden: str, mount: str, target: str
) -> None:
    address = f"http://example.org{hidden}{mount}"
    assert unquote_to_bytes(
        urljoin(address, reference(environment(mount, ""), target))
    ) == unquote_to_bytes(address + target)


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        ("/server/feeds", "/server/index/clock", "index/clock"),
        ("/server/feeds/", "/server/index/clock", "../index/clock"),
        ("/server/index/clock", "/server/index/clock", "clock"),
        ("/nothing", "/", "./"),
        ("/nothing/at/all", "/", "../../"),
        ("/nothing//at", "/", "../../"),
    ],
)
def test_a_reference_is_short(path: str, target: str, expected: str) -> None:
    assert reference(environment("", path), target) == expected


# Redirects to a directory


@pytest.fixture
def mounted(tmp_path: Path) -> URLMap:
    """An application at /a/push that has a directory `sub`."""
    (tmp_path / "index.html").write_text("index")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("sub")
    app = URLMap()
    app["/a/push"] = StaticFiles(tmp_path)
    return app


@pytest.mark.parametrize(
    ("address", "location"),
    [
        ("/a/push", "push/"),
        ("/a/push?b=%41&c", "push/?b=%41&c"),
        ("/a/push/sub", "sub/"),
    ],
)
def test_a_directory_is_redirected_to_relatively(
    mounted: URLMap, address: str, location: str
) -> None:
    app = TestApp(mounted)
    assert app.get(address, status=301).headers["Location"] == location
    assert app.get(urljoin(address, location)).status_int == 200


# The list of feeds, and the error page


@pytest.mark.parametrize("mount", ["", "/push", "/a/b"])
@pytest.mark.parametrize("path", ["/server/feeds", "/server/feeds/whatever"])
def test_the_list_s_addresses_are_relative_to_it(mount: str, path: str) -> None:
    feeds = {"feed.clock": "pushdemo.feeds:clock", "feed.100%41\u00e9": "pushdemo.feeds:clock"}
    app = TestApp(make_app({}, **feeds), extra_environ={"SCRIPT_NAME": mount})
    addresses = [feed["url"] for feed in json.loads(app.get(path).body)]
    assert [urljoin(path, address) for address in addresses] == [
        "/server/index/clock",
        "/server/index/100%2541%C3%A9",
    ]


@pytest.mark.parametrize(
    ("path", "home"),
    [("/nothing", "./"), ("/server/nothing", "../"), ("/server/index/no/%ff", "../../../")],
)
def test_an_error_page_links_to_the_start_page(path: str, home: str) -> None:
    app = TestApp(make_app({}, **{"feed.clock": "pushdemo.feeds:clock"}))
    answer = app.get(path, headers={"Accept": "text/html"}, status=404)
    assert f'<a href="{home}">'.encode() in answer.body
    assert answer.body.startswith(b"<!DOCTYPE html>")
