"""Which format a client gets, for what it accepts; and how long it would wait."""

from __future__ import annotations

import pytest
from webob import Request

from pushdemo.wsgi.cors import Cors
from pushdemo.wsgi.formats import FORMATS, LONGEST_WAIT, preferred_wait
from pushdemo.wsgi.request import read

CHROME_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)
FIREFOX_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROME_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX_IMAGE = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
EVENT_SOURCE = "text/event-stream"
FETCH = "*/*"
JQUERY_XML = "application/xml, text/xml, */*; q=0.01"


def request(query: str = "", **headers: str | None) -> Request:
    given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    return Request.blank(f"/{query}", headers=given)


def chosen(accept: str | None, names: list[str] | None = None) -> str | None:
    return read(request(Accept=accept), None).choose(list(FORMATS) if names is None else names)


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "multipart"),
        (FETCH, "multipart"),
        (CHROME_PAGE, "html"),
        (FIREFOX_PAGE, "html"),
        (CHROME_IMAGE, "multipart"),
        (FIREFOX_IMAGE, "multipart"),
        (EVENT_SOURCE, "sse"),
        (JQUERY_XML, "xml"),
        ("multipart/x-mixed-replace", "multipart"),
        ("application/x-ndjson", "ndjson"),
        ("application/json", "json"),
        ("application/xml", "xml"),
        ("APPLICATION/JSON", "json"),
        ("multipart/*", "multipart"),
        ("text/*", "sse"),
        ("application/*", "ndjson"),
        ("application/json, text/event-stream", "sse"),
        ("application/json, text/event-stream;q=0.9", "json"),
        ("application/json;q=0.5, */*;q=0.1", "json"),
        ("*/*, application/json;q=0.5", "multipart"),
        ("*/*, multipart/x-mixed-replace;q=0", "sse"),
        ("*/*;q=0.1, multipart/*;q=0, text/*;q=0", "ndjson"),
        ("application/json;q=0.001", "json"),
        ("application/json;q=0", None),
        ("*/*;q=0", None),
        ("text/html", "html"),
        ("text/css", None),
        ("image/*", None),
        # Not to be understood, and so as if it were not there.
        ("garbage", "multipart"),
        ("application/json;q=2", "multipart"),
        (";;;", "multipart"),
        ("\xff", "multipart"),
    ],
)
def test_what_a_client_accepts(accept: str | None, name: str | None) -> None:
    assert chosen(accept) == name


@pytest.mark.parametrize(
    ("accept", "name"),
    [(CHROME_PAGE, "multipart"), (FETCH, "multipart"), (EVENT_SOURCE, None), ("text/xml", None)],
)
def test_only_what_is_there_is_chosen_from(accept: str, name: str | None) -> None:
    """A page's address of a feed of images, put into a browser's address bar, shows the images."""
    assert chosen(accept, ["multipart"]) == name


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_in_the_query_comes_before_what_is_accepted(name: str) -> None:
    assert read(request(f"?format={name}", Accept="text/html"), None).choose(FORMATS) == name
    others = [other for other in FORMATS if other != name]
    assert read(request(f"?format={name}"), None).choose(others) is None


@pytest.mark.parametrize(
    "query", ["?format=", "?format=nothing", "?format=SSE", "?format=text/xml"]
)
def test_a_format_that_is_none_is_not_guessed_at(query: str) -> None:
    assert read(request(query, Accept="*/*"), None).choose(FORMATS) is None


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("wait=10", 10),
        ("Wait = 10", 10),
        ('wait="10"', 10),
        ("wait=0", 0),
        ("respond-async, wait=10", 10),
        ("wait=10; foo=bar", 10),
        ("handling=lenient, wait=10, respond-async", 10),
        ("wait=10, wait=20", 10),  # "the first", says RFC 7240, section 2
        ("wait=100000", LONGEST_WAIT),
        ("wait", None),
        ("wait=", None),
        ("wait=soon", None),
        ("wait=1.5", None),
        ("wait=-1", None),
        ("await=10", None),
        ("respond-async", None),
    ],
)
def test_how_long_a_client_would_wait(prefer: str | None, seconds: int | None) -> None:
    assert preferred_wait(request(Prefer=prefer)) == seconds


# Other origins


@pytest.mark.parametrize("origin", [None, "https://a.example", "null"])
def test_by_default_nothing_is_said_of_other_origins(origin: str | None) -> None:
    assert not Cors([])
    assert Cors([]).headers(origin) == []


@pytest.mark.parametrize("origin", [None, "https://a.example", "null"])
def test_a_star_allows_all(origin: str | None) -> None:
    assert Cors(["*"])
    headers = dict(Cors(["*"]).headers(origin))
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in headers["Access-Control-Expose-Headers"].split(", ")
    assert "Access-Control-Allow-Credentials" not in headers


def test_origins_are_allowed_one_by_one() -> None:
    cors = Cors(["https://a.example", "https://b.example:8443"])
    for origin in ("https://a.example", "https://b.example:8443"):
        assert dict(cors.headers(origin))["Access-Control-Allow-Origin"] == origin
    for other in (None, "null", "http://a.example", "https://a.example.evil", "https://a.example/"):
        assert cors.headers(other) == []
