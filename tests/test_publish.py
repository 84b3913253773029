"""Values from outside: POST /server/publish/FEED."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pushdemo.client import Disconnected, publish
from tests.scripted_server import ScriptedServer
from tests.servers import HANG, Paster, Reader

HEADERS = {"Authorization": "Bearer secret", "Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paster]:
    paster = Paster(
        tmp_path_factory.mktemp("server"),
        "push.token = secret\npush.max_body = 1000\nfeed.outside = push\nfeed.outside.history = 9\n"
        "feed.empty = push",
    )
    yield paster
    paster.close()


def post(
    server: Paster, body: bytes, feed: str = "outside", **headers: str | None
) -> tuple[int, dict[str, str], bytes]:
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        f"POST /server/publish/{feed} HTTP/1.1",
        "Host: test",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name}: {value}" for name, value in given.items() if value is not None]
    with Reader(server.address, "\r\n".join((*lines, "", "")).encode() + body) as reader:
        status, answered = reader.head()
        return status, answered, reader.rest()


def test_a_published_value_is_on_every_stream_and_is_answered_with_its_id(server: Paster) -> None:
    with server.connect("/server/index/outside?format=ndjson") as stream:
        status, _, event_id = post(server, "ünï".encode())
        assert status == 200
        assert stream.head()[0] == 200
        line = stream.line()
        assert f'"id":"{event_id.decode().strip()}"'.encode() in line
        assert '"value":"ünï"'.encode() in line
        post(server, b'{"a": [1, null]}', Content_Type="application/json; charset=utf-8")
        assert b'"value":{"a":[1,null]}' in stream.line()


def test_a_value_that_is_sent_again_with_its_key_is_one_event(server: Paster) -> None:
    status, _, first = post(server, b"once", Idempotency_Key="key 1")
    assert status == 200
    _, _, other = post(server, b"other", Idempotency_Key="key 2")
    assert post(server, b"once", Idempotency_Key="key 1")[::2] == (200, first)
    _, _, last = post(server, b"last")
    assert len({first, other, last}) == 3
    after = first.decode().strip()
    with server.connect(f"/server/index/outside?format=ndjson&last_event_id={after}") as stream:
        assert stream.head()[0] == 200
        assert b'"value":"other"' in stream.line()
        assert b'"value":"last"' in stream.line()


@pytest.mark.parametrize("key", ["", "x" * 256, "ünï"])
def test_a_key_that_is_none_is_refused(server: Paster, key: str) -> None:
    status, _, body = post(server, b"x", Idempotency_Key=key)
    assert status == 400
    assert b"a key has 1 to 255 printable characters of ASCII" in body


def test_the_client_sends_a_value_again_with_the_same_key(scripted: ScriptedServer) -> None:
    ids: list[str] = []

    def send() -> None:
        ids.append(publish(scripted.url, "x", b"v", content_type="text/plain", token="t"))

    thread = threading.Thread(target=send)
    thread.start()
    keys = []
    for number in range(3):
        exchange = scripted.accept("/server/publish/x", timeout=HANG)
        keys.append(exchange.headers["Idempotency-Key"])
        if number == 0:
            exchange.drop()
        elif number == 1:
            exchange.answer("503 Service Unavailable", {"Retry-After": "0"})
        else:
            exchange.answer("200 OK", {}, b"e-1\n")
    thread.join(HANG)
    assert ids == ["e-1"]
    assert len(set(keys)) == 1
    assert keys[0]


def test_the_client_gives_up_in_the_end(scripted: ScriptedServer) -> None:
    errors: list[Exception] = []

    def send() -> None:
        try:
            publish(scripted.url, "x", b"v", content_type="text/plain", token="t", key="k", tries=2)
        except Disconnected as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(2):
        exchange = scripted.accept("/server/publish/x", timeout=HANG)
        assert exchange.headers["Idempotency-Key"] == "k"
        exchange.answer("503 Service Unavailable", {})
    thread.join(HANG)
    assert [str(error) for error in errors] == ["503 Service Unavailable"]


def test_bytes_are_sent_as_what_they_are(server: Paster) -> None:
    assert post(server, b"\x89PNG --test", Content_Type="image/png")[0] == 200
    with server.connect("/server/index/outside?limit=1") as stream:
        headers, body = stream.open().part()
    assert (headers["content-type"], body) == ("image/png", b"\x89PNG --test")


@pytest.mark.parametrize(
    ("authorization", "challenged"),
    [(None, True), ("Bearer", True), ("Bearer wrong", True), ("Basic secret", True),
     ("Bearer secret2", True), ("Bearer \xff", True), ("bearer secret", False)],
)  # fmt: skip
def test_only_who_knows_the_token_may_publish(
    server: Paster, authorization: str | None, challenged: bool
) -> None:
    status, headers, _ = post(server, b"x", Authorization=authorization)
    assert status == (401 if challenged else 200)
    assert ("www-authenticate" in headers) is challenged


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"\xff", "text/plain", 400),
        (b"\xe9", "text/plain; charset=latin-1", 200),
        (b"x", "text/plain; charset=klingon", 415),
        (b"x", "text/plain; charset=idna", 415),
        (b"{", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"[1e999]", "application/json", 400),
        (b"[" * 100 + b"]" * 100, "application/json", 200),
        (b"[" * 101 + b"]" * 101, "application/json", 400),
        (b"[" * 999, "application/json", 400),
        (b"x", None, 415),
        (b"x", "nonsense", 415),
        (b"x" * 1000, "text/plain", 200),
        (b"x" * 1001, "text/plain", 413),
    ],
)
def test_what_is_not_what_it_says_is_refused(
    server: Paster, body: bytes, content_type: str | None, status: int
) -> None:
    assert post(server, body, Content_Type=content_type)[0] == status


@pytest.mark.parametrize(("feed", "status"), [("clock", 404), ("nowhere", 404), ("empty", 200)])
def test_only_what_is_declared_for_it_can_be_published_to(
    server: Paster, feed: str, status: int
) -> None:
    code, _, body = post(server, b"x", feed=feed)
    assert code == status
    if status == 404:
        assert b"There is: empty, outside" in body


def test_it_is_for_posting(server: Paster) -> None:
    status, headers, _ = server.get("/server/publish/outside")
    assert (status, headers["allow"]) == (405, "POST")


def test_without_a_token_there_is_no_such_address(tmp_path: Path) -> None:
    paster = Paster(tmp_path)
    try:
        assert post(paster, b"x", feed="clock")[0] == 404
    finally:
        paster.close()


def test_pages_can_ask_which_feeds_there_are(server: Paster) -> None:
    post(server, b"x", Content_Type="image/png")
    status, headers, body = server.get("/server/feeds")
    assert (status, headers["content-type"]) == (200, "application/json")
    feeds = {feed["name"]: feed for feed in json.loads(body)}
    assert list(feeds)[-2:] == ["outside", "empty"]
    assert feeds["outside"] == {
        "name": "outside",
        "url": "index/outside",
        "type": "image/png",
    }


def run(*arguments: str, value: bytes = b"", token: str | None = "secret") -> tuple[int, str, str]:
    """The command's exit code, and what it said on both outputs."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pushdemo.commands.main", "publish", *arguments],
        input=value,
        capture_output=True,
        timeout=HANG,
        env={**os.environ, "PUSHDEMO_TOKEN": token or ""},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_publishes_a_file_or_standard_input(server: Paster, tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    file.write_text("[1, 2]")
    with server.connect("/server/index/empty?format=ndjson") as stream:
        for arguments, value, expected in [
            ((str(file),), b"", [1, 2]),
            (("-",), b"text", "text"),
            (("-", "--type=application/json"), b"{}", {}),
        ]:
            code, said, _ = run("empty", *arguments, f"--url={server.url}", value=value)
            assert code == 0
            if expected == [1, 2]:
                assert stream.head()[0] == 200
            event = json.loads(stream.line())
            while event["id"] != said.strip():  # what was there before
                event = json.loads(stream.line())
            assert event["value"] == expected


@pytest.mark.parametrize(
    ("arguments", "token", "code", "says"),
    [
        (("outside", "-"), "wrong", 1, "pushdemo: 401 Unauthorized: Send Authorization: Bearer"),
        (("nowhere", "-"), "secret", 1, "pushdemo: 404 Not Found: There is no feed 'nowhere'"),
        (("outside", "/no/such/file"), "secret", 1, "No such file or directory"),
        (("outside", "-"), None, 2, "there is no token: set PUSHDEMO_TOKEN, or give --token"),
        (("outside", "-", "--url=ftp://x"), "secret", 2, "'ftp://x' is no http or https URL"),
        (("outside", "-", "--url=http://127.0.0.1:1"), "secret", 1, "cannot be reached"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(
    server: Paster, arguments: tuple[str, ...], token: str | None, code: int, says: str
) -> None:
    url = () if any("--url" in one for one in arguments) else (f"--url={server.url}",)
    returned, _, said = run(*arguments, *url, value=b"x", token=token)
    assert returned == code
    assert says in said
    assert "Traceback" not in said
