"""Clients that are widely used, and not ours, against a real server: each yields one event for each
of ours, as it comes, and none for anything else.

How they are used is in other_clients.py and node/clients.js. Between any two events the server says
that a feed fails, or nothing but several heartbeats.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from tests import node_packages
from tests.servers import CHECKOUT, HANG, Paster, until

FEEDS = """
import io, itertools, pathlib

from PIL import Image

note = pathlib.Path(__file__).with_name("note")
numbers = itertools.count()

def small():
    text = note.read_text()
    if text == "fail":
        raise ValueError("on purpose")
    return {"text": text, "odd": "\\u2028\\u0085"}

def large():
    return {**small(), "more": ["again"] * 200}

def picture():
    image = io.BytesIO()
    Image.new("L", (64, 48), next(numbers) * 10 % 250).save(image, "JPEG")
    return image.getvalue(), "image/jpeg"
"""

INI = """\
push.heartbeat = 0.05
feed.small = clientfeeds:small
feed.small.interval = 0.05
feed.small.duration = 0
feed.small.repeat = false
feed.large = clientfeeds:large
feed.large.interval = 0.05
feed.large.duration = 0
feed.large.repeat = false
feed.picture = clientfeeds:picture
feed.picture.interval = 0.3
feed.picture.duration = 0
"""


FRAMINGS: dict[str, Framing] = {
    "sse": EventStream(),
    "ndjson": NdJson(),
    "multipart": Multipart("test"),
}
IN_PYTHON = {
    "httpx_sse": "sse",
    "requests_sse": "sse",
    "sseclient_py": "sse",
    "aiohttp_sse_client2": "sse",
    "aiosseclient": "sse",
    "json_requests": "ndjson",
    "json_httpx": "ndjson",
    "json_urllib": "ndjson",
    "json_aiohttp": "ndjson",
    "multipart_aiohttp": "multipart",
}
IN_NODE = {
    "eventsource": "sse",
    "launchdarkly-eventsource": "sse",
    "eventsource-parser": "sse",
    "fetch-event-source": "sse",
    "ndjson": "ndjson",
    "split2": "ndjson",
}
FORMATS = {**IN_PYTHON, **IN_NODE, "jq": "ndjson"}
# The large feed is compressed for them.
TAKE_GZIP = [
    "httpx_sse", "aiohttp_sse_client2", "json_requests", "json_httpx", "json_aiohttp",
    "multipart_aiohttp", "eventsource", "eventsource-parser", "fetch-event-source", "jq",
]  # fmt: skip
# What ends with the connection is read 512 bytes at a time by requests, and so an event may wait
# there for what comes after it.
LATE = {"requests_sse"}
PLAYS = [("small", name) for name in FORMATS] + [("large", name) for name in TAKE_GZIP]

KINDS = ["reset", "message", "error", "recovered", "message", "message", "message"]
TEXTS = ["one", "two", "three", "end"]


def command(name: str, url: str) -> list[str]:
    if name == "jq":
        program = '[.event // "message", .id, .value]'
        return ["sh", "-c", f"curl -sSN --compressed '{url}' | jq -c --unbuffered '{program}'"]
    if name in IN_NODE:
        return ["node", str(node_packages.NODE / "clients.js"), name, url]
    return [sys.executable, "-m", "tests.other_clients", name, url]


class Client:
    """One of them, in a process of its own."""

    def __init__(self, name: str, url: str, directory: Path) -> None:
        self._failed = False
        self._output = directory / name
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command(name, url),
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def events(self) -> list[list[Any]]:
        """What it has printed of each event: its type, its id, its data."""
        *lines, _ = self.output.split("\n")
        assert all(line.startswith("[") for line in lines), self.output
        return [json.loads(line) for line in lines]

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this, or has failed: then its own test says so."""
        if not self._failed:
            try:
                until(lambda: text in self.output or self.process.poll() is not None, text)
            except AssertionError:
                self._failed = True

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(HANG)


class Silence:
    """A stream of which nothing is read but its heartbeats."""

    def __init__(self, server: Paster, feed: str, name: str) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=HANG)
        headers = {"Accept-Encoding": "gzip" if feed == "large" else "identity"}
        self._connection.request("GET", f"/server/index/{feed}?format={name}", headers=headers)
        self._response = self._connection.getresponse()
        compressed = self._response.headers["Content-Encoding"] == "gzip"
        assert compressed == (feed == "large")
        framing = Gzip(FRAMINGS[name]) if compressed else FRAMINGS[name]
        self._heartbeats = framing.heartbeat * 3

    def wait(self) -> None:
        """Wait for three heartbeats."""
        received = b""
        while not received.endswith(self._heartbeats):
            more = self._response.read1(4096)
            assert more, "the stream has ended"
            received += more

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class Play:
    """The server, with every client that is installed, after the last event was seen by all."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._note = directory / "note"
        self._write("one")
        (directory / "clientfeeds.py").write_text(FEEDS)
        # What is served is the package next to these tests, whichever is installed.
        (directory / "pushdemo").symlink_to(CHECKOUT / "pushdemo")
        self.server = stack.enter_context(closing(Paster(directory, INI)))
        in_node = node_packages.installed()
        with_jq = shutil.which("jq") is not None and shutil.which("curl") is not None
        self.clients: dict[tuple[str, str], Client] = {}
        for feed, name in PLAYS:
            if (name in IN_NODE and not in_node) or (name == "jq" and not with_jq):
                continue
            (directory / feed).mkdir(exist_ok=True)
            client = Client(name, self._url(feed, name), directory / feed)
            self.clients[feed, name] = stack.enter_context(closing(client))
        self._silences = [
            stack.enter_context(closing(Silence(self.server, feed, name)))
            for feed in ("small", "large")
            for name in FRAMINGS
        ]
        self._play()

    def _url(self, feed: str, name: str) -> str:
        # With an id of long ago, so that each begins with a reset.
        target = f"/server/index/{feed}?format={FORMATS[name]}&last_event_id=gone-1"
        return self.server.url + target

    def _play(self) -> None:
        self._wait_for("one")
        self._write("fail")
        self._wait_for('"error"')
        for text in ("two", "three", "end"):
            self._write(text)
            self._wait_for(text)
        for (_, name), client in self.clients.items():
            if name in LATE:
                client.wait_for("end")

    def _write(self, text: str) -> None:
        draft = self._note.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self._note)

    def _wait_for(self, text: str) -> None:
        """Until all have printed it, and are sent three heartbeats after it."""
        for (_, name), client in self.clients.items():
            if name not in LATE:
                client.wait_for(text)
        for silence in self._silences:
            silence.wait()


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    with ExitStack() as stack:
        yield Play(tmp_path_factory.mktemp("clients"), stack)


@pytest.mark.parametrize(("feed", "name"), PLAYS)
def test_it_yields_one_event_for_each_and_none_for_anything_else(
    play: Play, feed: str, name: str
) -> None:
    client = play.clients.get((feed, name))
    if client is None:
        node_packages.missing(f"{name} is not installed")
    events = client.events
    assert [kind for kind, _, _ in events] == KINDS
    messages = [(event_id, data) for kind, event_id, data in events if kind == "message"]
    ids = [event_id for event_id, _ in messages]
    epoch = ids[0].removesuffix("1")
    assert [event_id.removeprefix(epoch) for event_id in ids] == ["1", "2", "3", "4"]
    if FORMATS[name] == "multipart":
        texts = [data.partition("<text>")[2].partition("</text>")[0] for _, data in messages]
    else:
        values = [json.loads(data) if FORMATS[name] == "sse" else data for _, data in messages]
        texts = [value["text"] for value in values]
        assert {value["odd"] for value in values} == {"\u2028\u0085"}
    assert texts == TEXTS
    # A notice has no id; for many clients it keeps the one before.
    notices = {event_id for kind, event_id, _ in events if kind != "message"}
    assert notices <= {None, ids[0]}


PICTURES = 8


def by_opencv(url: str) -> list[int]:
    """The grey of each frame."""
    done = subprocess.run(
        command("multipart_opencv", url), cwd=CHECKOUT, capture_output=True, check=True
    )
    return [round(json.loads(line)[2][0]) for line in done.stdout.splitlines()]


def by_ffmpeg(url: str) -> list[int]:
    """See by_opencv."""
    if shutil.which("ffmpeg") is None:
        node_packages.missing("ffmpeg is not installed")
    frames = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-f", "mpjpeg", "-i", url, *frames],
        capture_output=True,
        check=False,  # to hang up after the last frame is an error to it
    )
    return list(done.stdout[:: 64 * 48])


@pytest.mark.parametrize("read", [by_ffmpeg, by_opencv])
def test_video_readers_play_a_feed_of_jpegs(play: Play, read: Callable[[str], list[int]]) -> None:
    frames = read(f"{play.server.url}/server/index/picture?limit={PICTURES}")
    assert len(frames) == PICTURES
    steps = {(after - before) % 250 for before, after in itertools.pairwise(frames)}
    assert steps <= {9, 10, 11}


def test_there_are_heartbeats_between_those_pictures(play: Play) -> None:
    with play.server.connect("/server/index/picture") as reader:
        reader.open().part()
        assert reader.take(6) == b"Idle: "
