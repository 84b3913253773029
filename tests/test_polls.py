"""Single answers and long polls: ETag, If-None-Match (RFC 9110) and Prefer: wait (RFC 7240)."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pushdemo.wsgi import responder
from tests.asking import Answer
from tests.servers import CHECKOUT, HANG, Paster, Reader, until
from tests.test_application import Real, load
from tests.test_stream import run_waitress

FEEDS = """
import pathlib, time

def still():
    return {"orders": 42}

def noted():
    return pathlib.Path("note").read_text()

def picture():
    return b"pixels", "image/png"

def slow_picture():
    time.sleep(0.2)
    return picture()

def hang():
    time.sleep(3600)
"""

INI = """\
feed.still = pollfeeds:still
feed.still.interval = 60
feed.noted = pollfeeds:noted
feed.noted.interval = 0.02
feed.noted.repeat = false
feed.picture = pollfeeds:picture
feed.slow_picture = pollfeeds:slow_picture
feed.hang = pollfeeds:hang
"""


class Noted:
    """A server, and the note that its feed `noted` reads: what it says, the test decides."""

    def __init__(self, directory: Path, app: str = "") -> None:
        self._note = directory / "note"
        self.write("first")
        (directory / "pollfeeds.py").write_text(FEEDS)
        # What is served is the package next to these tests, whichever is installed.
        (directory / "pushdemo").symlink_to(CHECKOUT / "pushdemo")
        self.paster = Paster(directory, INI + app, "threadpool_workers = 2")

    def write(self, text: str) -> None:
        draft = self._note.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self._note)

    def send(self, target: str, method: str = "GET", **headers: str) -> Reader:
        """A connection on which a request has been sent."""
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        request = f"{method} /server/index/{target} HTTP/1.1\r\nHost: test\r\n{''.join(lines)}\r\n"
        return Reader(self.paster.address, request.encode())

    def ask(
        self, target: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        with self.send(target, method, **headers) as reader:
            status, given = reader.head()
            return status, given, reader.rest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Noted]:
    server = Noted(tmp_path_factory.mktemp("polls"))
    with contextlib.closing(server.paster):
        yield server


@pytest.fixture
def noted(server: Noted) -> Iterator[Noted]:
    """The server while somebody watches `noted`: so its newest value stays its state, and no poll
    makes it run again."""
    with server.send("noted") as stream:
        stream.open().part()
        yield server


JSON = "application/json"


def test_a_single_answer_is_the_newest_value_with_its_id_as_its_tag(server: Noted) -> None:
    status, headers, body = server.ask("still", Accept=JSON)
    assert (status, json.loads(body)) == (200, {"orders": 42})
    assert headers["content-type"] == JSON
    assert headers["content-length"] == str(len(body))
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Encoding, Origin"
    assert headers["etag"].strip('"')
    assert "last-modified" in headers
    assert "preference-applied" not in headers
    again = server.ask("still?format=xml")
    assert again[1]["etag"] == headers["etag"]
    assert b"<message><orders>42</orders></message>" in again[2]


def test_who_has_it_already_is_told_so_at_once(server: Noted) -> None:
    _, first, _ = server.ask("still", Accept=JSON)
    began = time.monotonic()
    status, headers, body = server.ask("still", Accept=JSON, If_None_Match=first["etag"])
    assert (status, body) == (304, b"")
    assert time.monotonic() - began < 1
    assert headers["etag"] == first["etag"]
    assert "content-type" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Accept-Encoding, Origin"


@pytest.mark.parametrize("tags", ["W/{}", '"x", {}', '{}, "x"', '"x", W/{}', "*"])
def test_tags_may_be_weak_and_several_and_any(server: Noted, tags: str) -> None:
    _, first, _ = server.ask("still", Accept=JSON)
    known = tags.format(first["etag"])
    assert server.ask("still", Accept=JSON, If_None_Match=known)[0] == 304


@pytest.mark.parametrize("tags", ['"x"', '"x", W/"y"', "nonsense", '""'])
def test_who_has_another_gets_the_newest(server: Noted, tags: str) -> None:
    server.ask("still", Accept=JSON)
    assert server.ask("still", Accept=JSON, If_None_Match=tags, Prefer="wait=60")[0] == 200


def test_who_would_wait_is_told_after_that_time_that_there_is_nothing_new(server: Noted) -> None:
    _, first, _ = server.ask("still", Accept=JSON)
    began = time.monotonic()
    status, headers, body = server.ask(
        "still", Accept=JSON, If_None_Match=first["etag"], Prefer="wait=1"
    )
    took = time.monotonic() - began
    assert (status, body) == (304, b"")
    assert 0.9 < took < 5
    assert headers["preference-applied"] == "wait=1"
    assert headers["etag"] == first["etag"]


def test_who_waits_is_answered_as_soon_as_there_is_something_new(noted: Noted) -> None:
    _, headers, _ = noted.ask("noted", Accept=JSON)
    for text in ("second", "third"):
        began = time.monotonic()
        with noted.send(
            "noted", Accept=JSON, If_None_Match=headers["etag"], Prefer="wait=60"
        ) as poll:
            noted.write(text)
            status, new = poll.head()
            body = poll.rest()
        assert (status, json.loads(body)) == (200, text)
        assert time.monotonic() - began < 10
        assert new["etag"] != headers["etag"]
        assert new["preference-applied"] == "wait=60"
        assert new["content-length"] == str(len(body))
        headers = new


def test_a_poll_waits_for_a_feed_that_has_not_run_yet(
    tmp_path: Path,
) -> None:
    server = Noted(tmp_path)
    with contextlib.closing(server.paster):
        status, _, body = server.ask("still", Accept=JSON, If_None_Match='"x"')
        assert (status, json.loads(body)) == (200, {"orders": 42})
        # And is told that it would have been in vain.
        status, headers, body = server.ask("slow_picture", Accept=JSON)
        assert (status, headers["content-type"]) == (406, "text/plain; charset=UTF-8")
        assert b"What there is: multipart/x-mixed-replace (or format=multipart)." in body
        assert server.ask("slow_picture", Accept=JSON)[0] == 406


def test_a_head_request_waits_for_nothing(server: Noted) -> None:
    _, first, body = server.ask("still", Accept=JSON)
    status, headers, nothing = server.ask("still", "HEAD", Accept=JSON)
    assert (status, nothing) == (200, b"")
    assert {**headers, "date": ""} == {**first, "date": ""}
    assert headers["content-length"] == str(len(body))
    began = time.monotonic()
    known = {"If_None_Match": first["etag"], "Prefer": "wait=60"}
    assert server.ask("still", "HEAD", Accept=JSON, **known)[0] == 304
    status, headers, _ = server.ask("hang", "HEAD", Accept=JSON)
    assert (status, headers["content-type"]) == (200, JSON)
    assert time.monotonic() - began < 10


def test_polls_hold_no_worker(noted: Noted) -> None:
    _, headers, _ = noted.ask("noted", Accept=JSON)
    with contextlib.ExitStack() as stack:
        polls = [
            stack.enter_context(
                noted.send("noted", Accept=JSON, If_None_Match=headers["etag"], Prefer="wait=60")
            )
            for _ in range(20)
        ]
        began = time.monotonic()
        for _ in range(10):
            assert noted.paster.get("/")[0] == 200
        assert time.monotonic() - began < 10
        noted.write("for all")
        answers = [(poll.head()[0], json.loads(poll.rest())) for poll in polls]
    assert answers == [(200, "for all")] * 20


def test_polls_are_counted_as_streams_and_leave_their_places(tmp_path: Path) -> None:
    server = Noted(tmp_path, "push.max_streams = 2")

    def status() -> int:
        return server.ask("noted?limit=1")[0]

    with contextlib.closing(server.paster), contextlib.ExitStack() as stack:
        hanging = {"Accept": JSON, "Prefer": "wait=60"}
        poll = stack.enter_context(server.send("hang", **hanging))
        with server.send("hang", **hanging):
            until(lambda: status() == 503, "both places to be taken")
            code, headers, _ = server.ask("hang", **hanging)
            assert (code, headers["retry-after"]) == (503, "5")
        until(lambda: status() == 200, "the place of the one that hung up")
        until(lambda: server.ask("still", Accept=JSON)[0] == 200, "a place for a moment")
        _, headers, _ = server.ask("still", Accept=JSON)
        known = {"If_None_Match": headers["etag"], "Accept": JSON}
        for _ in range(3):  # who is answered without waiting takes none, and this one for a second
            assert server.ask("still", **known)[0] == 304
        assert server.ask("still", **known, Prefer="wait=1")[0] == 304
        until(lambda: status() == 200, "the place of the one that was answered")
        poll.close()


# The same in process, and under a server that cannot hand off


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    (tmp_path / "pollfeeds.py").write_text(FEEDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("first")
    ini = tmp_path / "test.ini"
    ini.write_text(f"[app:main]\nuse = config:{CHECKOUT}/development.ini\n{INI}")
    monkeypatch.delitem(__import__("sys").modules, "pollfeeds", raising=False)
    real = load(str(ini), monkeypatch)
    yield real
    assert real.open_now == 0
    real.app_globals.push.close()


def answer(
    real: Real, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = Answer(real.app, f"/server/index/{path}", method, **named)
    return given.status, {name.lower(): v for name, v in given.headers.items()}, given.read()


def test_in_process_a_poll_blocks_until_there_is_a_value(real: Real) -> None:
    status, headers, body = answer(real, "still", Accept=JSON)
    assert (status, body) == (200, b'{"orders":42}\n')
    known = {"Accept": JSON, "If_None_Match": headers["etag"]}
    assert answer(real, "still", **known)[0] == 304
    status, again, body = answer(real, "still", **known, Prefer="wait=1")
    assert (status, again["preference-applied"], body) == (304, "wait=1", b"")
    assert answer(real, "still", "HEAD", Accept=JSON)[::2] == (200, b"")
    assert answer(real, "slow_picture", Accept=JSON)[0] == 406
    assert not real.app_globals.push.engine.channels["still"].watched


@pytest.mark.parametrize("prefer", ["", "wait=0", "wait=1"])
def test_without_a_value_for_long_the_answer_is_to_come_again(
    real: Real, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "PATIENCE", 0.05)
    status, headers, body = answer(real, "hang", Accept=JSON, Prefer=prefer)
    assert (status, headers["retry-after"]) == (503, "5")
    assert headers["content-type"] == "text/plain; charset=UTF-8"
    assert b"There is no value yet" in body


def test_a_poll_works_under_a_server_that_cannot_hand_off(real: Real) -> None:
    address, stop = run_waitress(real.app)
    try:
        connection = http.client.HTTPConnection(*address, timeout=HANG)
        connection.request("GET", "/server/index/still", headers={"Accept": JSON})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"orders":42}\n')
        known = {"Accept": JSON, "If-None-Match": response.headers["ETag"], "Prefer": "wait=1"}
        began = time.monotonic()
        connection.request("GET", "/server/index/still", headers=known)
        response = connection.getresponse()
        assert (response.status, response.read()) == (304, b"")
        assert time.monotonic() - began > 0.9
        connection.close()
    finally:
        stop()
