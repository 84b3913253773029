"""What a request asks for, read once: bounded, validated, or refused with what is wrong."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webob import Request

from pushdemo.push.position import NOWHERE, Place
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.formats import FORMATS
from pushdemo.wsgi.request import (
    HEADERS,
    MOST,
    MOST_DIGITS,
    MOST_FEEDS,
    StreamRequest,
    check_lengths,
    read,
)


def request(query: str = "", **headers: str) -> Request:
    made = Request.blank("/")
    made.environ["QUERY_STRING"] = query
    for name, value in headers.items():
        made.headers[name.replace("_", "-")] = value
    return made


def test_it_is_one_value() -> None:
    asked = read(
        request(
            "limit=3&format=sse",
            Last_Event_ID="a-1.b-2",
            Prefer="wait=30",
            Accept="application/json, text/event-stream;q=0.5",
            Accept_Encoding="gzip",
            If_None_Match='"a-1", W/"b-2"',
            Origin="https://example.org",
        ),
        "clock+load",
    )
    assert asked == StreamRequest(
        method="GET",
        feeds=("clock", "load"),
        format="sse",
        accepted=("json", "sse"),
        limit=3,
        resume_from=(Place("a", 1), Place("b", 2)),
        wait=30,
        known=frozenset(("a-1", "b-2")),
        origin="https://example.org",
        accepts_gzip=True,
        accepts_images=False,
        accept="application/json, text/event-stream;q=0.5",
        ranges=("application/json", "text/event-stream"),
        is_image=False,
    )
    assert read(request(), None) == StreamRequest(
        method="GET",
        feeds=(),
        format=None,
        accepted=tuple(FORMATS),
        limit=None,
        resume_from=None,
        wait=None,
        known=frozenset(),
        origin=None,
        accepts_gzip=False,
        accepts_images=False,
        accept="",
        ranges=(),
        is_image=False,
    )


def test_what_a_client_has() -> None:
    assert read(request(If_None_Match='"a-1"'), None).knows("a-1")
    assert not read(request(If_None_Match='"a-1"'), None).knows("a-2")
    assert read(request(If_None_Match="*"), None).knows("a-2")
    assert not read(request(), None).knows("a-1")


def test_an_id_may_stand_in_the_query_and_the_header_goes_before() -> None:
    assert read(request("last_event_id=a-1"), None).resume_from == (Place("a", 1),)
    both = request("last_event_id=a-1", Last_Event_ID="b-2")
    assert read(both, None).resume_from == (Place("b", 2),)
    assert read(request("last_event_id="), None).resume_from is None


@given(st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=MOST))
def test_an_id_of_anybody_s_is_a_position_and_no_error(last_id: str) -> None:
    """A 400 would end an EventSource for good, when a server with other ids took over."""
    assert read(request(Last_Event_ID=last_id or "x"), None).resume_from is not None


def test_an_id_that_is_none_of_ours_is_nowhere() -> None:
    assert read(request(Last_Event_ID="1719-0"), None).resume_from == (Place("1719", 0),)
    assert read(request(Last_Event_ID="e-" + "1" * 1000), None).resume_from == NOWHERE


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_read_has_a_length(name: str) -> None:
    read(request(**{name: "x" * MOST}), None)
    with pytest.raises(RequestError, match=rf"at most {MOST} characters in the header {name}"):
        read(request(**{name: "x" * (MOST + 1)}), None)
    with pytest.raises(RequestError, match=name):
        check_lengths(request(**{name: " ," * MOST}))


@pytest.mark.parametrize("query", ["&".join(f"k{n}=1" for n in range(100_000)), "%41" * 20_000])
def test_so_has_the_query(query: str) -> None:
    with pytest.raises(RequestError, match=f"in the query; it has {len(query)}"):
        read(request(query), None)


def test_a_stream_has_so_many_feeds() -> None:
    names = "+".join(f"f{n}" for n in range(MOST_FEEDS))
    assert len(read(request(), names).feeds) == MOST_FEEDS
    with pytest.raises(RequestError, match=f"at most {MOST_FEEDS} feeds; the address names 101"):
        read(request(), names + "+more")
    with pytest.raises(RequestError, match="names of the feeds"):
        read(request(), "a+" * 10_000)


@pytest.mark.parametrize("name", ["limit", "format", "last_event_id"])
def test_what_is_given_twice_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is given 2 times"):
        read(request(f"{name}=1&{name}=1"), None)


@pytest.mark.parametrize("query", ["limit=%ff", "format=%e2%82", "%ff=1"])
def test_a_query_that_is_no_utf_8_is_refused(query: str) -> None:
    with pytest.raises(RequestError, match="UTF-8"):
        read(request(query), None)


@given(st.text(max_size=50))
def test_a_limit_is_a_number_or_refused_in_one_short_line(limit: str) -> None:
    given = request("limit=" + quote(limit.encode("utf-8", "replace")))
    if limit.isascii() and limit.isdigit() and int(limit) > 0 and len(limit) <= MOST_DIGITS:
        assert read(given, None).limit == int(limit)
    else:
        with pytest.raises(RequestError) as caught:
            read(given, None)
        assert str(caught.value).isprintable()
