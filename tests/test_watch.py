"""`pushdemo watch` as a shell runs it: what goes to stdout, what to stderr, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.servers import CHECKOUT, Paster
from tests.test_client import (
    HANG,
    MULTIPART,
    NDJSON,
    SSE,
    Exchange,
    Server,
    answer,
    document,
    multipart,
    part,
    sse,
)

COMMAND = [sys.executable, "-m", "pushdemo.commands.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # what is in the buffer is what is tested

IMAGE = b"\x89PNG\r\n\x1a\n"
IMAGE_PART = b"--test\r\nContent-Type: image/png\r\nContent-Length: 8\r\n\r\n" + IMAGE


def pushdemo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )


def lines(server: Server, *arguments: str) -> list[str]:
    """What `pushdemo watch` prints of what the server sends once."""
    ended = pushdemo("watch", server.url, "--no-reconnect", *arguments)
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `pushdemo` with these arguments; the test reads its stdout and stderr."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=HANG)


# Servers that are not exact


def test_a_camera_that_is_not_exact_is_watched() -> None:
    """It declares the hyphens of its delimiter as a part of the boundary."""
    camera = {"Content-Type": "multipart/x-mixed-replace; boundary=--test"}
    with Server(answer(multipart(1, 2), camera), answer(multipart(3), camera)) as server:
        ended = pushdemo("watch", server.url, "--limit=3")
    assert (ended.stdout, ended.returncode) == ("1\n2\n3\n", 0)


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        (MULTIPART, b"<p>Log in</p>\r\n",
         r"expected the line '--test' before the first part, got '<p>Log in</p>\r\n'"),
        (MULTIPART, b"--test\r\nContent-Length: 1\r\n\r\nABC\r\n",
         "expected the end of a part after the 1 bytes of its Content-Length, got 'BC'"),
        (SSE, b"<p>Log in</p>", "expected a field such as 'data: ...', got '<p>Log in</p>'"),
        (NDJSON, b"Log in", "expected a JSON object on a line, got 'Log in'"),
        ({"Content-Type": "text/html"}, b"<p>Log in</p>",
         "URL answers with text/html, which is no event format, and begins with '<p>Log in</p>'"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_made_of_it_it_says_so_and_ends(
    headers: dict[str, str], body: bytes, said: str
) -> None:
    with Server(answer(body, headers)) as server:
        ended = pushdemo("watch", server.url)
    lines = [line for line in ended.stderr.splitlines() if "connected to" not in line]
    assert lines == [f"pushdemo: {said.replace('URL', server.url)}"]
    assert ended.returncode == 1


# What it prints


def test_a_value_is_a_line() -> None:
    stream = b'{"value":"gr\xc3\xbcn"}\n{"value":{"a": [1, "\xe2\x82\xac"]}}\n{"value":null}\n'
    with Server(answer(stream, NDJSON)) as server:
        assert lines(server) == ["gr\xfcn", '{"a":[1,"\u20ac"]}', "null"]


def test_bytes_are_told_and_not_printed() -> None:
    with Server(answer(IMAGE_PART, MULTIPART)) as server:
        assert lines(server) == ["<image/png, 8 bytes>"]


def test_what_is_no_value_is_told_on_stderr() -> None:
    stream = b'{"event":"reset"}\n{"event":"error","feed":"clock","status":500}\n{"value":1}\n'
    with Server(answer(stream, NDJSON)) as server:
        ended = pushdemo("watch", server.url, "--limit=1")
    assert ended.stdout == "1\n"
    assert ended.stderr.splitlines()[1:] == [
        "pushdemo: events may be missing here",
        'pushdemo: error of feed clock: {"status":500}',
    ]


def test_json_has_every_event_on_a_line() -> None:
    stream = b'{"id":"e-1","feed":"clock","computed":1.5,"value":"a\\nb"}\n{"event":"reset"}\n'
    with Server(answer(stream, NDJSON)) as server:
        assert lines(server, "--json") == [
            '{"id":"e-1","feed":"clock","type":"message","computed":1.5,"value":"a\\nb"}',
            '{"id":null,"feed":null,"type":"reset","computed":null,"value":null}',
        ]


def test_json_has_bytes_in_base64() -> None:
    with Server(answer(IMAGE_PART, MULTIPART)) as server:
        (line,) = lines(server, "--json")
    said = json.loads(line)
    assert base64.b64decode(said["value"]) == IMAGE
    assert (said["encoding"], said["content_type"]) == ("base64", "image/png")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_what_the_terminal_cannot_show_is_escaped(arguments: list[str]) -> None:
    with Server(answer(b'{"value":"\\u20ac \\ud800"}\n', NDJSON)) as server:
        ended = pushdemo("watch", server.url, "--limit=1", *arguments, PYTHONIOENCODING="ascii")
    assert r"\u20ac \ud800" in ended.stdout
    assert ended.returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_line_is_there_before_the_next_event(
    started: Callable[..., subprocess.Popen[str]], arguments: list[str]
) -> None:
    printed = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        assert printed.wait(HANG)
        exchange.send(sse(2))

    with Server(script) as server:
        process = started("watch", server.url, "--limit", "2", *arguments)
        assert process.stdout is not None
        assert "1" in process.stdout.readline()
        printed.set()
        assert "2" in process.stdout.readline()
        assert process.wait(HANG) == 0


# What it asks for


def test_its_options_are_the_client_s() -> None:
    with Server(answer(multipart(4), MULTIPART)) as server:
        lines(server, "--format=multipart", "--last-event-id=e-3", "--limit=1")
    assert server.headers[0]["accept"] == "multipart/x-mixed-replace"
    assert server.headers[0]["last-event-id"] == "e-3"
    with Server(document(b"1")) as server:
        lines(server, "--format=json", "--timeout=9", "--limit=1")
    assert server.headers[0]["prefer"] == "wait=6"


def test_it_comes_back_and_says_so() -> None:
    first = answer(b"retry: 1\n\n" + sse(1))
    with Server(first, answer(sse(2))) as server:
        ended = pushdemo("watch", server.url, "--limit=2")
    assert ended.stdout == "1\n2\n"
    connected = f"pushdemo: connected to {server.url}: text/event-stream\n"
    again = r"pushdemo: reconnecting in 0\.\d s: the stream ended\n"
    assert re.fullmatch(re.escape(connected) + again + re.escape(connected), ended.stderr)
    assert ended.returncode == 0


# How it ends


def test_an_error_is_a_line() -> None:
    refusal = answer(b"404 Not Found\n\nThere is no feed.\n", status="404 Not Found")
    with Server(refusal) as server:
        ended = pushdemo("watch", server.url)
    assert ended.stderr == "pushdemo: 404 Not Found: There is no feed.\n"
    assert ended.stdout == ""
    assert ended.returncode == 1


def test_without_reconnecting_the_end_of_the_stream_is_an_error() -> None:
    with Server(answer(sse(1))) as server:
        ended = pushdemo("watch", server.url, "--no-reconnect")
    assert ended.stdout == "1\n"
    assert ended.stderr.endswith("\npushdemo: the stream ended\n")
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["wach"], "invalid choice: 'wach'"),
        (["watch"], "the following arguments are required: URL"),
        (["watch", "ftp://h"], "ftp://h: this must begin with http:// or https://"),
        (["watch", "http://h", "--limit=0"], "limit=0: this must be at least 1"),
        (["watch", "http://h", "--limit=x"], "argument --limit: invalid int value: 'x'"),
        (["watch", "http://h", "--timeout=-1"], "timeout=-1.0: this must be more than 0"),
        (["watch", "http://h", "--timeout=nan"], "timeout=nan: this must be more than 0"),
        (["watch", "http://h", "--format=yaml"], "argument --format: invalid choice: 'yaml'"),
        (["watch", "http://h", "--last-event-id=\n"], "cannot be an event's id"),
    ],
)
def test_a_mistake_in_the_arguments_is_told_with_the_usage(
    arguments: list[str], message: str
) -> None:
    ended = pushdemo(*arguments)
    assert ended.stderr.startswith("usage: pushdemo")
    assert message in ended.stderr.splitlines()[-1]
    assert ended.returncode == 2


def test_an_interrupt_ends_it_without_a_word(
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        exchange.wait_for_hangup()

    with Server(script) as server:
        process = started("watch", server.url)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG) == 130
        assert process.stderr.read().count("\n") == 1  # that it was connected


def test_a_reader_that_has_enough_ends_it_without_a_word(
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    closed = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.start(MULTIPART)
        exchange.send(b"--test\r\n" + part(1))
        assert closed.wait(HANG)
        exchange.send(part(2))
        exchange.wait_for_hangup()

    with Server(script) as server:
        process = started("watch", server.url)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        process.stdout.close()
        closed.set()
        assert process.wait(HANG) == 0
        assert process.stderr.read().count("\n") == 1
        process.stdout = None


def test_it_says_its_version_and_how_it_is_used() -> None:
    ended = pushdemo("--version")
    assert (ended.stdout, ended.returncode) == (f"pushdemo {version('pushdemo')}\n", 0)
    ended = pushdemo("--help")
    assert "watch" in ended.stdout
    assert ended.returncode == 0
    ended = pushdemo("watch", "--help")
    assert "--no-reconnect" in ended.stdout
    assert "(default: 45)" in " ".join(ended.stdout.split())


# The real server


def test_it_watches_the_application(tmp_path: Path) -> None:
    paster = Paster(tmp_path, "feed.clock.interval = 0.1\nfeed.clock.duration = 0.1")
    try:
        ended = pushdemo("watch", f"{paster.url}/", "--limit=3", "--json", "--format=multipart")
        assert ended.returncode == 0, ended.stderr
        events = [json.loads(line) for line in ended.stdout.splitlines()]
        assert len(events) == 3
        assert len({event["value"] for event in events}) == 3
        ended = pushdemo("watch", f"{paster.url}/server/index/nothing")
        assert ended.stderr.startswith("pushdemo: 404 Not Found: There is no feed 'nothing'.")
    finally:
        paster.close()
