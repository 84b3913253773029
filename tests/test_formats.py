"""/server/index in each of its formats: in process, under a checker of PEP 3333, and served."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.client
import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.library import Push
from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import Event, Value
from pushdemo.push.options import ConfigError
from pushdemo.wsgi.formats import FORMATS, PUBLIC
from tests import history
from tests.asking import Answer
from tests.judging import judge
from tests.servers import CHECKOUT, HANG, Paster, Reader, until
from tests.test_application import Real, load

FEEDS = r"""
import itertools, pathlib, time

one, two = itertools.count(1), itertools.count(1)

def ticks():
    return next(one)

def tocks():
    return next(two)

def text():
    return "line\n--test\r\n--test--\n<&>"

def rows():
    return [{"order": 7, "state": "open"}] * 50

def picture():
    return b"\x89PNG\r\n--test\r\n\r\n--test--\r\n\0\xff", "image/png"

def slow_picture():
    time.sleep(0.2)
    return picture()

def noted():
    note = pathlib.Path("note").read_text()
    return {"object": object(), "picture": picture()}.get(note, note)
"""

PICTURE = b"\x89PNG\r\n--test\r\n\r\n--test--\r\n\0\xff"

INI = """\
feed.text = formatfeeds:text
feed.rows = formatfeeds:rows
feed.picture = formatfeeds:picture
feed.slow_picture = formatfeeds:slow_picture
"""

STREAMS = {
    "multipart": "multipart/x-mixed-replace;boundary=test",
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
}


# In process


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Real]]:
    """Makes an application of these feeds, with lines to add to its ini."""
    made: list[Real] = []
    (tmp_path / "formatfeeds.py").write_text(FEEDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "formatfeeds", raising=False)

    def make(lines: str = "") -> Real:
        ini = tmp_path / "test.ini"
        ini.write_text(
            f"[app:main]\nuse = config:{CHECKOUT}/development.ini\nfeed.clock.interval = 0.02\n"
            f"feed.clock.duration = 0\n{INI}{lines}"
        )
        made.append(load(str(ini), monkeypatch))
        return made[-1]

    yield make
    for real in made:
        assert real.open_now == 0
        real.app_globals.push.close()


@pytest.fixture
def real(make: Callable[[str], Real]) -> Real:
    return make("")


def ask(
    real: Real, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and the body of an answer that ends."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(real.app, f"/server/index{path}", method, **named)
    return answer.status, {name.lower(): v for name, v in answer.headers.items()}, answer.read()


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_headers_of_a_stream(real: Real, name: str, method: str) -> None:
    for path, accept in ((f"?format={name}", "text/html"), ("", FORMATS[name])):
        with Answer(real.app, f"/server/index/text{path}", method, Accept=accept) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == STREAMS[name]
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Vary"] == "Accept, Accept-Encoding, Origin"
            assert answer.headers["X-Accel-Buffering"] == "no"
            assert not set(answer.headers) & {"Content-Length", "Content-Encoding", "ETag"}
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]


def test_an_event_stream(real: Real) -> None:
    status, _, body = ask(real, "/rows?limit=1&format=sse")
    assert status == 200
    epoch = real.app_globals.push.engine.channels["rows"].epoch
    start = rf"retry: 2000\nid: {epoch}-1\n: computed=\d+\.\d+ took=\d+\.\d+\ndata: (.*)\n\n"
    found = re.fullmatch(start, body.decode())
    assert found
    assert len(json.loads(found[1])) == 50


def test_lines_of_json(real: Real) -> None:
    status, _, body = ask(real, "?limit=3&format=ndjson")
    events = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    assert [list(event) for event in events] == [["id", "feed", "computed", "took", "value"]] * 3
    assert len({event["value"] for event in events}) == 3


def test_when_to_come_back_is_an_option(make: Callable[[str], Real]) -> None:
    real = make("push.retry = 0.5")
    assert ask(real, "?limit=1&format=sse")[2].startswith(b"retry: 500\nid: ")
    assert b"\r\nRetry: 500\r\n" in ask(real, "?limit=1")[2]


def test_single_documents(real: Real) -> None:
    status, headers, body = ask(real, "/rows", Accept="application/json")
    assert (status, headers["content-type"], len(json.loads(body))) == (200, "application/json", 50)
    assert "x-accel-buffering" not in headers
    status, headers, body = ask(real, "/rows?format=xml")
    assert (status, headers["content-type"]) == (200, "application/xml")
    assert ElementTree.fromstring(body)[0].find("order") is not None


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", ["sse", "ndjson", "json", "xml"])
def test_a_format_that_cannot_carry_the_value_is_a_406_that_says_what_can(
    real: Real, name: str, known: bool
) -> None:
    if known:
        assert ask(real, "/picture?limit=1")[0] == 200
    status, headers, body = ask(real, f"/picture?format={name}")
    assert status == 406
    assert headers["content-type"] == "text/plain; charset=UTF-8"
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Encoding, Origin"
    assert body.decode() == (
        "406 Not Acceptable\n\nWhat there is: multipart/x-mixed-replace (or format=multipart).\n"
    )


def test_a_browser_s_address_bar_gets_what_there_is_of_what_it_accepts(real: Real) -> None:
    page = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for path in ("/text", "/picture", "/text+rows"):
        assert ask(real, path, Accept=page)[1]["content-type"] == "text/html; charset=utf-8"
    real.app_globals.push.settings = replace(real.app_globals.push.settings, pages=False)
    assert ask(real, "/text", Accept=page)[1]["content-type"] == "application/xml"
    assert ask(real, "/picture?limit=1")[0] == 200
    assert ask(real, "/picture?limit=1", Accept=page)[1]["content-type"] == STREAMS["multipart"]
    assert ask(real, "/text", Accept="text/html")[0] == 406


@pytest.mark.parametrize("path", ["?format=nothing", "?format=", "/text?format=text/xml"])
def test_a_format_that_is_none_is_a_406_that_lists_those_that_are(real: Real, path: str) -> None:
    status, _, body = ask(real, path)
    assert status == 406
    for name in PUBLIC:
        assert f"{FORMATS[name]} (or format={name})" in body.decode()


def test_nothing_acceptable_is_a_406(real: Real) -> None:
    assert ask(real, "", Accept="text/css")[0] == 406
    assert ask(real, "", Accept="*/*;q=0")[0] == 406


@pytest.mark.parametrize("path", ["", "/text+rows", "/nothing", "?format=nothing", "?limit=x"])
def test_errors_too_are_kept_by_no_cache(real: Real, path: str) -> None:
    with Answer(real.app, f"/server/index{path}") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Vary"] == "Accept, Accept-Encoding, Origin"


# Several feeds


@pytest.mark.parametrize("path", ["/text+rows", "/rows+text", "/rows+text+rows", "/text%2Brows"])
def test_several_feeds_on_one_stream(real: Real, path: str) -> None:
    _, _, body = ask(real, path + "?limit=2&format=ndjson")
    events = [json.loads(line) for line in body.splitlines()]
    assert {event["feed"] for event in events} == {"text", "rows"}
    # However they were asked for: an id has the feeds in the ini's order.
    text, rows = (real.app_globals.push.engine.channels[name].epoch for name in ("text", "rows"))
    for event in events:
        assert re.fullmatch(rf"{text}-\d+\.{rows}-\d+", event["id"])
    _, _, body = ask(real, path + "?limit=2&format=sse")
    assert set(re.findall(rb"^event: (.*)$", body, re.M)) == {b"text", b"rows"}
    _, _, body = ask(real, path + "?limit=2")
    assert set(re.findall(rb"^Feed: (.*)\r$", body, re.M)) == {b"text", b"rows"}


def test_the_same_feed_twice_is_that_feed(real: Real) -> None:
    _, _, body = ask(real, "/text+text?limit=1&format=sse")
    assert b"event:" not in body


@pytest.mark.parametrize("path", ["/text+nothing", "/nothing+text", "/text+", "/+", "/+text"])
def test_one_unknown_feed_of_several_is_a_404_that_names_it(real: Real, path: str) -> None:
    status, _, body = ask(real, path)
    missing = "nothing" if "nothing" in path else ""
    assert status == 404
    assert (
        f"There is no feed {missing!r}. There is: clock, load, plot, report, text, rows, "
        in body.decode()
    )


@pytest.mark.parametrize("name", ["json", "xml"])
def test_a_single_answer_is_of_one_feed(real: Real, name: str) -> None:
    status, _, body = ask(real, f"/text+rows?format={name}")
    assert status == 400
    assert b"A single answer is of one feed" in body


def test_one_feed_that_cannot_be_carried_is_enough_for_a_406(real: Real) -> None:
    assert ask(real, "/picture?limit=1")[0] == 200
    assert ask(real, "/text+picture?format=sse")[0] == 406
    assert ask(real, "/text+picture?limit=2")[0] == 200


# Compression


@pytest.mark.parametrize(
    ("path", "accept", "compressed"),
    [
        ("/rows", "gzip", True),
        ("/rows", "br, gzip;q=0.5", True),
        ("/rows", "*", True),
        ("/rows?format=sse", "gzip", True),
        ("/rows", None, False),
        ("/rows", "identity", False),
        ("/rows", "gzip;q=0", False),
        ("/rows", "br", False),
        ("/rows?limit=1", "gzip", False),  # such a stream has no end
        ("/text", "gzip", False),  # it would hardly be smaller
        ("/picture", "gzip", False),  # is compressed already
    ],
)
def test_a_stream_is_compressed_for_who_can_read_that_if_it_is_worth_it(
    real: Real, path: str, accept: str | None, compressed: bool
) -> None:
    headers = {} if accept is None else {"Accept-Encoding": accept}
    with Answer(real.app, f"/server/index{path}", **headers) as answer:
        assert answer.status == 200
        assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
        first = next(answer)
        if compressed:
            first = zlib.decompressobj(31).decompress(first)
            assert b"order" in first
        assert first.startswith((b"--test\r\n", b"retry: "))


# Other origins


def test_by_default_no_other_origin_is_let_in(real: Real) -> None:
    status, headers, _ = ask(real, "?limit=1", Origin="https://a.example")
    assert status == 200
    assert not [name for name in headers if name.startswith("access-control-")]
    status, headers, _ = ask(real, "", "OPTIONS", Origin="https://a.example")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("cors", "origin", "allowed"),
    [
        ("*", "https://a.example", "*"),
        ("https://a.example https://b.example", "https://b.example", "https://b.example"),
        ("https://a.example https://b.example", "https://c.example", None),
    ],
)
def test_other_origins_are_let_in_by_an_option(
    make: Callable[[str], Real], cors: str, origin: str, allowed: str | None
) -> None:
    real = make(f"push.cors = {cors}")
    name = "access-control-allow-origin"
    for path in ("/text?limit=1", "/text?format=json", "/nothing", "?format=nothing", "?limit=x"):
        _, headers, _ = ask(real, path, Origin=origin)
        assert headers.get(name) == allowed
        assert ("etag" in headers.get("access-control-expose-headers", "").lower()) == bool(allowed)
    status, headers, body = ask(
        real, "/text", "OPTIONS", Origin=origin, Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="last-event-id",
    )  # fmt: skip
    assert (status, body) == (204, b"")
    assert headers.get(name) == allowed
    assert headers["access-control-allow-methods"] == "GET, HEAD"
    assert headers["access-control-allow-headers"] == "Last-Event-ID, If-None-Match, Prefer"
    assert "Origin" in headers["vary"]
    assert not set(headers) & {"content-type", "content-length"}


# Options that are wrong


@pytest.mark.parametrize(
    "name", ["error", "message", "open", "reset", "a+b", "two words", "a/b", ""]
)
def test_a_feed_s_name_must_be_free_to_use(name: str) -> None:
    with pytest.raises(ConfigError, match="a feed cannot have this name") as caught:
        Push.from_ini({f"feed.{name}": "pushdemo.feeds:clock"})
    assert str(caught.value).startswith(f"feed.{name}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("feed.clock.repeat", "sometimes", "true or false"),
        ("feed.clock.history", "0", "a whole number of at least 1"),
        ("feed.clock.history", "many", "a whole number of at least 1"),
        ("push.heartbeat", "0", "a number of seconds, more than 0"),
        ("push.retry", "soon", "a number of seconds, more than 0"),
    ],
)
def test_an_option_that_is_wrong_is_named(option: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Push.from_ini({"feed.clock": "pushdemo.feeds:clock", option: value})
    assert str(caught.value) == f"{option} = {value}: this must be {wanted}"


# Multipart, for readers that look for the boundary and for those that count


BOUNDARIES = ["test", "a=b", "(x)", "--", "-", "'?'"]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@given(data=st.data())
def test_text_that_holds_the_boundary_arrives_whole_at_who_looks_for_it(
    boundary: str, data: st.DataObject
) -> None:
    awkward = [f"--{boundary}", f"--{boundary}--", "\r\n", "\n", "-", " ", "x", boundary]
    texts = data.draw(
        st.lists(st.lists(st.sampled_from(awkward)).map("".join), min_size=1, max_size=4)
    )
    framing = Multipart(boundary)
    events = [Event(1, "e-1", "x", Value(payload_of(text), 1.0, 0)) for text in texts]
    frames = [framing.encode(event) for event in events]
    stream = framing.opening + b"".join(frames[:-1]) + framing.last(frames[-1])
    head = f"Content-Type: {framing.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stream, policy=email.policy.HTTP)
    assert not message.defects
    parts = [part.get_content() for part in message.iter_parts()]
    assert [ElementTree.fromstring(part).text or "" for part in parts] == texts


@given(
    images=st.lists(
        st.lists(st.sampled_from([b"\r\n--test\r\n", b"--test--", b"\r\n", b"\0\xff", b""])).map(
            b"".join
        ),
        max_size=4,
    )
)
def test_an_image_that_holds_the_boundary_arrives_whole_at_who_counts(images: list[bytes]) -> None:
    framing = Multipart("test")
    stream = framing.opening
    for image in images:
        value = Value(payload_of((image, "image/png")), 1.0, 0)
        stream += framing.encode(Event(1, "e-1", "x", value)) + framing.heartbeat
    found = FORMAT_READERS["multipart"](stream)
    assert [seen.value for seen in found] == images


# Served


class Seen(NamedTuple):
    """An event as a minimal reader of a format sees it."""

    feed: str
    id: str
    value: bytes


RESET = Seen("", "", b"reset")
HEARTBEATS = {"sse": b"retry: 2000\n", "ndjson": b" ", "multipart": b" "}


def read_sse(body: bytes) -> list[Seen]:
    """The events that are whole in what has been received of a stream."""
    found = []
    for block in body.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        if fields.get(b"event") == b"reset":
            found.append(RESET)
        elif b"id" in fields:
            feed = fields.get(b"event", b"").decode()
            found.append(Seen(feed, fields[b"id"].decode(), fields[b"data"]))
    return found


def read_ndjson(body: bytes) -> list[Seen]:
    """See read_sse."""
    events = [json.loads(line) for line in body.split(b"\n")[:-1]]
    return [
        RESET
        if event.get("event") == "reset"
        else Seen(event["feed"], event["id"], json.dumps(event["value"]).encode())
        for event in events
        if event.get("event") in (None, "reset")
    ]


def read_multipart(body: bytes) -> list[Seen]:
    """See read_sse. It counts, and does not look for boundaries."""
    found = []
    rest = body.removeprefix(b"--test\r\n")
    while b"\r\n\r\n" in rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        idle, *lines = head.split(b"\r\n")
        assert idle.rstrip() == b"Idle:"
        headers = dict(line.split(b": ", 1) for line in lines)
        length = int(headers[b"Content-Length"])
        if len(rest) < length:
            break
        value, rest = rest[:length], rest[length:].removeprefix(b"\r\n--test\r\n")
        if headers.get(b"Event") == b"reset":
            found.append(RESET)
        else:
            feed = headers.get(b"Feed", b"").decode()
            found.append(Seen(feed, headers[b"Event-ID"].decode(), value))
    return found


FORMAT_READERS = {"sse": read_sse, "ndjson": read_ndjson, "multipart": read_multipart}

SERVED = (
    INI
    + """\
feed.ticks = formatfeeds:ticks
feed.ticks.interval = 0.02
feed.ticks.duration = 0
feed.ticks.repeat = false
feed.ticks.history = 500
feed.tocks = formatfeeds:tocks
feed.tocks.interval = 0.02
feed.tocks.duration = 0
feed.tocks.repeat = false
feed.tocks.history = 500
feed.noted = formatfeeds:noted
feed.noted.interval = 0.02
push.heartbeat = 0.2
feed.noted.repeat = """
)


class Served:
    """A server of these feeds, and the note that its feed `noted` reads."""

    def __init__(self, directory: Path, repeat: str = "false") -> None:
        self._note = directory / "note"
        self.write("first")
        (directory / "formatfeeds.py").write_text(FEEDS)
        # What is served is the package next to these tests, whichever is installed.
        (directory / "pushdemo").symlink_to(CHECKOUT / "pushdemo")
        self.paster = Paster(directory, f"{SERVED}{repeat}", "threadpool_workers = 4")

    def write(self, text: str) -> None:
        draft = self._note.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self._note)

    def send(self, target: str, **headers: str) -> Reader:
        """A connection on which a request has been sent."""
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        request = f"GET /server/index/{target} HTTP/1.1\r\nHost: test\r\n{''.join(lines)}\r\n"
        return Reader(self.paster.address, request.encode())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("formats"))
    with contextlib.closing(served.paster):
        yield served


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_served_has_its_headers(served: Served, name: str) -> None:
    with served.send(f"text?format={name}") as reader:
        status, headers = reader.head()
    assert (status, headers["content-type"]) == (200, STREAMS[name])
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Encoding, Origin"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


def test_what_holds_the_boundary_arrives_whole(served: Served) -> None:
    with served.send("picture?limit=1") as reader:
        headers, body = reader.open().part()
        assert (headers["content-type"], body, reader.rest()) == ("image/png", PICTURE, b"")
    with served.send("text?limit=1") as reader:
        reader.head()
        message = email.message_from_bytes(
            b"Content-Type: multipart/x-mixed-replace;boundary=test\r\n\r\n" + reader.rest(),
            policy=email.policy.HTTP,
        )
    (part,) = message.iter_parts()
    text = ElementTree.fromstring(part.get_content()).text
    assert text == "line\n--test\r\n--test--\n<&>"


@pytest.mark.parametrize("name", ["sse", "ndjson"])
def test_a_feed_that_has_not_run_and_then_gives_bytes_is_a_406(tmp_path: Path, name: str) -> None:
    served = Served(tmp_path)
    with contextlib.closing(served.paster), served.send(f"slow_picture?format={name}") as reader:
        status, headers = reader.head()
        body = reader.rest()
        assert (status, headers["content-type"]) == (406, "text/plain; charset=UTF-8")
        assert headers["content-length"] == str(len(body))
        assert headers["cache-control"] == "no-store"
        assert body.endswith(b"\nWhat there is: multipart/x-mixed-replace (or format=multipart).\n")


class Received:
    """All that has come of a stream of this format."""

    def __init__(self, served: Served, target: str, name: str) -> None:
        self._read = FORMAT_READERS[name]
        self._connection = http.client.HTTPConnection(*served.paster.address, timeout=HANG)
        self._connection.request("GET", f"/server/index/{target}?format={name}")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.body = b""

    def __enter__(self) -> Received:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    @property
    def values(self) -> list[bytes]:
        return [seen.value for seen in self._read(self.body)]

    def more(self) -> None:
        """Wait for some."""
        received = self._response.read1(4096)
        assert received, "the stream has ended"
        self.body += received

    def value(self, text: str) -> bytes:
        """Wait for a value with this in it."""
        while not (self.values and text.encode() in self.values[-1]):
            self.more()
        return self.values[-1]

    def heartbeats(self, beat: bytes) -> None:
        """Wait for two more."""
        while not self.body.endswith(beat * 2):
            self.more()


@pytest.mark.parametrize("name", STREAMS)
def test_only_changes_are_sent_and_heartbeats_between_them(served: Served, name: str) -> None:
    served.write("before")
    with Received(served, "noted", name) as stream:
        stream.value("before")
        stream.heartbeats(HEARTBEATS[name])
        before = stream.values
        served.write("after")
        stream.value("after")
        stream.heartbeats(HEARTBEATS[name])
        assert len(stream.values) == len(before) + 1


def test_what_a_stream_cannot_carry_it_leaves_out_and_goes_on(served: Served) -> None:
    served.write("some text")
    with Received(served, "noted", "multipart") as all_of_it:
        all_of_it.value("some text")
        with Received(served, "noted", "sse") as stream:
            stream.value("some text")
            served.write("picture")
            assert all_of_it.value("PNG") == PICTURE
            served.write("more text")
            stream.value("more text")
            assert stream.values == [b"some text", b"more text"]


def test_silence_for_one_format_is_filled_with_heartbeats(tmp_path: Path) -> None:
    """Pictures come all the time, and of them nothing to an event stream."""
    served = Served(tmp_path, repeat="true")
    served.write("some text")
    with contextlib.closing(served.paster), Received(served, "noted", "sse") as stream:
        stream.value("some text")
        served.write("picture")
        stream.heartbeats(HEARTBEATS["sse"])
        served.write("more text")
        stream.value("more text")


def test_a_value_that_cannot_be_sent_is_logged_once_a_streak(served: Served) -> None:
    def failures() -> int:
        return served.paster.output.count("feed noted failed, and sends its last value meanwhile")

    served.write("some text")
    with Received(served, "noted", "ndjson") as stream, Received(served, "ticks", "sse") as ticks:
        stream.value("some text")
        for streak in (1, 2):
            served.write("object")
            until(lambda: failures() >= streak, "the failure")  # noqa: B023
            beats = len(ticks.values)
            while len(ticks.values) < beats + 10:
                ticks.more()
            assert failures() == streak
            served.write(f"text {streak}")
            stream.value(f"text {streak}")
    assert "an object of type object cannot be sent" in served.paster.output


def test_curl_reads_a_compressed_stream_as_it_comes(served: Served) -> None:
    if shutil.which("curl") is None:
        if os.environ.get("CI"):
            raise AssertionError("there is no curl")
        pytest.skip("there is no curl")
    with served.send("rows+ticks?format=ndjson", Accept_Encoding="gzip") as reader:
        assert reader.head()[1]["content-encoding"] == "gzip"
    url = f"{served.paster.url}/server/index/rows+ticks?format=ndjson"
    with subprocess.Popen(["curl", "-sN", "--compressed", url], stdout=subprocess.PIPE) as curl:
        try:
            assert curl.stdout is not None
            events = [json.loads(curl.stdout.readline()) for _ in range(10)]
        finally:
            curl.kill()
    ticks = [event["value"] for event in events if event["feed"] == "ticks"]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert len(ticks) >= 9


# Coming back


ROUNDS = 200
# About as many bytes as three events have.
SIZES = {"sse": 180, "ndjson": 300, "multipart": 800}


def come_back_again_and_again(served: Served, feeds: str, name: str, seed: int) -> history.Client:
    """Read a random number of bytes of a stream and hang up, in the middle of whatever it is; then
    come back with the id of the last event that was whole."""
    chance = random.Random(seed)
    client = history.Client(f"{feeds} as {name}", feeds.split("+"))
    last_id = ""
    for _ in range(ROUNDS):
        size = chance.randrange(SIZES[name])
        headers = {"Last-Event-ID": last_id} if last_id else {}
        connection = http.client.HTTPConnection(*served.paster.address, timeout=HANG)
        connection.request("GET", f"/server/index/{feeds}?format={name}", headers=headers)
        with contextlib.closing(connection), connection.getresponse() as response:
            assert response.status == 200
            body = response.read(size)
        client.entries.append(history.Connected(0.0, last_id or None))
        for seen in FORMAT_READERS[name](body):
            if seen == RESET:
                client.entries.append(history.Reset(0.0))
            else:
                found = re.search(rb"(?:<message>|^)(\d+)(?:</message>|$)", seen.value)
                assert found, seen
                client.entries.append(history.Seen(0.0, seen.feed or feeds, seen.id, int(found[1])))
                last_id = seen.id
        client.entries.append(history.Disconnected(0.0))
    return client


def test_who_is_cut_off_again_and_again_misses_nothing_and_sees_nothing_twice(
    served: Served,
) -> None:
    clients = [(feeds, name) for feeds in ("ticks", "ticks+tocks") for name in STREAMS]
    # While somebody watches them all the time, the feeds forget nothing that their history holds.
    with (
        served.send("ticks?format=sse"),
        served.send("tocks?format=sse"),
        ThreadPoolExecutor(len(clients)) as pool,
    ):
        records = list(
            pool.map(
                lambda seed: come_back_again_and_again(served, *clients[seed], seed),
                range(len(clients)),
            )
        )
    verdict = judge(history.witnessed(records), records)
    assert verdict, verdict
    for record in records:
        assert record.resets == 0
        assert len(record.seen) > ROUNDS / 10
        assert {seen.feed for seen in record.seen} == set(record.feeds)


# A value as it is


def test_who_accepts_an_image_alone_gets_the_newest_once(real: Real) -> None:
    status, headers, body = ask(real, "/picture", Accept="image/png")
    assert (status, headers["content-type"], body) == (200, "image/png", PICTURE)
    # It may be a page or an SVG, of whoever has published it: opened, it runs no script.
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    again = ask(real, "/picture", Accept="image/png", If_None_Match=headers["etag"])
    assert (again[0], again[2]) == (304, b"")
    assert ask(real, "/picture", Accept="image/*")[2] == PICTURE
    assert ask(real, "/picture?format=raw")[2] == PICTURE
    assert (
        ask(real, "/slow_picture", Accept="image/png")[2] == PICTURE
    )  # the first, when it is there


def test_what_is_no_such_image_is_a_406(real: Real) -> None:
    assert ask(real, "/picture", Accept="image/jpeg")[0] == 406
    assert ask(real, "/text", Accept="image/png")[0] == 406
    assert ask(real, "/text+rows?format=raw")[0] == 400


def test_text_and_data_as_they_are(real: Real) -> None:
    status, headers, body = ask(real, "/text?format=raw")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert body.decode() == json.loads(ask(real, "/text?format=json")[2])
    status, headers, body = ask(real, "/rows?format=raw")
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == json.loads(ask(real, "/rows?format=json")[2])
