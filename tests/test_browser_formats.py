"""What browsers do with our formats by themselves: EventSource, gzip, and <img> without a script.

Against `paster serve`, with feeds whose values the test writes: each is sent when the one before
has been seen, so a browser that holds something back never gets the next.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Event, Value
from tests.browsers import Browser
from tests.scripted_server import PAGES, ScriptedServer
from tests.servers import CHECKOUT, until
from tests.serving import Serving

FEEDS = '''\
"""Feeds whose values the test writes into files."""

from pathlib import Path

HERE = Path(__file__).parent


def text():
    return (HERE / "text").read_text()


def plot():
    return (HERE / "plot").read_bytes(), "image/png"
'''

INI = """\
[app:main]
use = config:development.ini
push.heartbeat = 0.1
push.retry = 0.1
feed.clock.interval = 0.2
feed.clock.duration = 0.2
feed.text = told:text
feed.text.interval = 0.01
feed.text.repeat = false
feed.plot = told:plot
feed.plot.interval = 0.01
feed.plot.repeat = false
[server:main]
use = config:development.ini
port = {port}
"""

PLOT = """\
<!DOCTYPE html>
<title>plot</title>
<link rel="icon" href="data:,">
<body style="margin: 0"><img src="/server/index/plot">
"""


class Told:
    """A checkout with such feeds, and pages that use them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(CHECKOUT / "pushdemo", directory / "pushdemo")
        shutil.copy(CHECKOUT / "development.ini", directory)
        for name in ("blank.html", "harness.js"):
            shutil.copy(PAGES / name, directory / "pushdemo" / "public")
        (directory / "pushdemo" / "public" / "plot.html").write_text(PLOT)
        (directory / "told.py").write_text(FEEDS)
        self.tell("text", b"first")

    def tell(self, name: str, value: bytes) -> None:
        new = self.directory / "new"
        new.write_bytes(value)
        new.rename(self.directory / name)  # at once, or the feed reads half of it

    def serve(self, port: int = 0) -> Serving:
        (self.directory / "told.ini").write_text(INI.format(port=port))
        return Serving(self.directory, "told.ini")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told"))


@pytest.fixture(scope="module")
def serving(told: Told) -> Iterator[Serving]:
    with told.serve() as serving:
        yield serving


@pytest.fixture
def tab(browser: Browser) -> Iterator[Browser]:
    yield browser
    browser.open("about:blank")


# EventSource. `seen` has [type, data, lastEventId] of each event.

LISTEN = """(() => {
  window.seen = [];
  window.source = new EventSource('%s');
  for (const type of ['message', 'reset', 'clock', 'text']) {
    source.addEventListener(type, ({ type, data, lastEventId }) =>
      seen.push([type, data, lastEventId]));
  }
})()"""


@pytest.mark.parametrize("query", ["", "?format=sse"])
def test_an_event_source_gets_each_event(
    tab: Browser, told: Told, serving: Serving, query: str
) -> None:
    told.tell("text", b"before")
    tab.open(f"{serving.url}/blank.html")
    tab.evaluate(LISTEN % f"/server/index/text{query}")
    values = ["before", "two\nlines", "caf\u00e9 \U0001f600", " spaces  "]
    for value in values:
        told.tell("text", value.encode())
        tab.wait_for(f"seen.at(-1)?.[1] === {value!r}")
    types, data, ids = zip(*tab.evaluate("seen.slice(-4)"), strict=True)
    assert set(types) == {"message"}
    assert list(data) == values
    assert len(set(ids)) == 4
    assert all(ids)


def test_an_event_source_of_several_feeds_gets_named_events(
    tab: Browser, told: Told, serving: Serving
) -> None:
    told.tell("text", b"named")
    tab.open(f"{serving.url}/blank.html")
    tab.evaluate(LISTEN % "/server/index/clock+text")
    tab.wait_for("seen.some(([type, data]) => type === 'text' && data === 'named')")
    tab.wait_for("seen.filter(([type]) => type === 'clock').length >= 3")
    assert tab.evaluate("seen.filter(([type]) => type === 'message')") == []
    assert tab.evaluate("seen.every(([type, data, id]) => id.includes('.'))")


def test_an_event_source_comes_back_to_a_server_that_was_killed(tab: Browser, told: Told) -> None:
    told.tell("text", b"before")
    with told.serve() as first:
        port = first.port
        tab.open(f"{first.url}/blank.html")
        tab.evaluate(LISTEN % "/server/index/text")
        tab.wait_for("seen.length === 1")
        first.process.kill()
        tab.wait_for("source.readyState === EventSource.CONNECTING")
    told.tell("text", b"after")
    with told.serve(port):
        tab.wait_for("seen.at(-1)[1] === 'after'")
        types = tab.evaluate("seen.map(([type]) => type)")
        assert types == ["message", "reset", "message"]  # it is another epoch
        tab.evaluate("source.close()")


# gzip. Each way puts what it reads into `seen`.

READ = {
    "EventSource": """(() => {
      window.seen = '';
      new EventSource('/server/index/text').onmessage = ({ data }) => { seen += data; };
    })()""",
    "MultipartXMLHttpRequest": """(() => {
      window.seen = '';
      const request = new MultipartXMLHttpRequest();
      request.multipart = true;
      request.open('GET', '/server/index/text');
      request.onload = () => { seen += request.responseText; };
      request.send();
    })()""",
    "fetch": """void (async () => {
      window.seen = '';
      const headers = { Accept: 'application/x-ndjson' };
      const { body } = await fetch('/server/index/text', { cache: 'no-store', headers });
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let read; !(read = await reader.read()).done; ) seen += read.value;
    })()""",
}
FRAMINGS: dict[str, Framing] = {
    "EventSource": EventStream(),
    "MultipartXMLHttpRequest": Multipart("test"),
    "fetch": NdJson(),
}


def compressible(number: int) -> str:
    return f"event {number} begins" + " over and over" * 300 + f" event {number} ends"


@pytest.mark.parametrize("how", READ)
def test_compressed_events_are_not_held_back(
    tab: Browser, told: Told, serving: Serving, how: str
) -> None:
    told.tell("text", compressible(0).encode())
    tab.open(f"{serving.url}/blank.html")
    accept = FRAMINGS[how].content_type.split(";")[0]
    headers = f"{{ headers: {{ Accept: '{accept}' }} }}"
    tab.evaluate(
        f"fetch('/server/index/text', {headers}).then(({{ headers, body }}) =>"
        " body.cancel().then(() => { window.encoding = headers.get('Content-Encoding'); }))"
    )
    assert tab.evaluate("encoding") == "gzip"
    tab.evaluate(READ[how])
    for number in range(4):
        told.tell("text", compressible(number).encode())
        tab.wait_for(f"seen.includes('event {number} ends')")


@pytest.mark.parametrize("size", [1, 300, 100_000])
@pytest.mark.parametrize("how", READ)
def test_nor_between_heartbeats_nor_small_ones(
    tab: Browser, scripted: ScriptedServer, how: str, size: int
) -> None:
    framing = Gzip(FRAMINGS[how])
    tab.open(f"{scripted.url}/blank.html")
    tab.evaluate(READ[how])
    stream = scripted.accept("/server/index/text")
    stream.start({"Content-Type": framing.content_type, "Content-Encoding": "gzip"})
    stream.send(framing.opening)
    for number in range(4):
        stream.send(framing.heartbeat * number)
        text = os.urandom(size // 2).hex() + f"event {number} ends"
        value = Value(payload_of(text), computed=1.0, fresh_until=0)
        stream.send(framing.encode(Event(number, f"e-{number}", "text", value)))
        tab.wait_for(f"seen.includes('event {number} ends')")


# <img>

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def png(colour: tuple[int, int, int], side: int = 16) -> bytes:
    """A square, as PNG has it (https://www.w3.org/TR/png-3/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    noise = os.urandom(3 * side * (side - 8)) if side > 16 else b""
    rows = bytes(colour) * side * 8 + noise + bytes(colour) * side * 8
    lines = (b"\0" + rows[3 * side * y : 3 * side * (y + 1)] for y in range(side))
    image = zlib.compress(b"".join(lines))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", image) + chunk(b"IEND", b"")
    )


def corner(tab: Browser, path: Path) -> tuple[int, ...]:
    """The colour that the tab shows in its upper left corner.

    From a screenshot: Firefox draws only the first of an <img>'s images to a canvas.
    """
    tab.screenshot(path)
    data = path.read_bytes()
    compressed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            compressed += data[at + 8 : at + 8 + length]
        at += 12 + length
    # The first pixel of a PNG is what it is, whatever the filter of its line.
    return tuple(zlib.decompress(compressed)[1:4])


def wait_for_colour(tab: Browser, path: Path, colour: tuple[int, int, int]) -> None:
    def near(shown: tuple[int, ...]) -> bool:
        return all(abs(a - b) < 16 for a, b in zip(shown, colour, strict=True))

    until(lambda: near(corner(tab, path)), f"the colour {colour}")


def test_an_img_plays_a_feed_of_images(
    tab: Browser, told: Told, serving: Serving, tmp_path: Path
) -> None:
    told.tell("plot", png(COLOURS[0]))
    tab.open(f"{serving.url}/blank.html")
    # Not with open(), since Firefox lets a page `load` when its images have ended.
    tab.evaluate("(() => { location.href = '/plot.html'; })()")
    for colour in COLOURS:
        told.tell("plot", png(colour))
        wait_for_colour(tab, tmp_path / "shown.png", colour)
        with serving.connect("/server/index/plot") as reader:
            reader.open().part()
            # A heartbeat, which an <img> would take for the beginning of an image.
            assert reader.take(6) == b"Idle: "
        assert corner(tab, tmp_path / "shown.png") == colour


@pytest.mark.parametrize("kind", ["JPEG", "large PNG"])
def test_an_img_plays_other_images(
    tab: Browser, scripted: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    def image(colour: tuple[int, int, int]) -> bytes:
        if kind == "large PNG":
            return png(colour, side=300)  # of noise in the middle: many reads
        url: str = tab.evaluate(
            f"""(() => {{
              const canvas = document.createElement('canvas');
              canvas.width = canvas.height = 16;
              const context = canvas.getContext('2d');
              context.fillStyle = 'rgb{colour}';
              context.fillRect(0, 0, 16, 16);
              return canvas.toDataURL('image/jpeg');
            }})()"""
        )
        return base64.b64decode(url.partition(",")[2])

    framing = Images(Multipart("test"))
    tab.open(f"{scripted.url}/blank.html")
    tab.evaluate(
        """(() => {
          document.body.style.margin = 0;
          document.body.append(Object.assign(new Image(), { src: '/server/index/plot' }));
        })()"""
    )
    stream = scripted.accept("/server/index/plot")
    stream.start({"Content-Type": framing.content_type})
    stream.send(framing.opening)
    for number, colour in enumerate(COLOURS):
        value = Value(payload_of((image(colour), "image/any")), computed=1.0, fresh_until=0)
        stream.send(framing.encode(Event(number, f"e-{number}", "plot", value)))
        wait_for_colour(tab, tmp_path / "shown.png", colour)


def test_our_class_reads_what_an_img_does(tab: Browser, scripted: ScriptedServer) -> None:
    framing = Images(Multipart("test"))
    tab.open(f"{scripted.url}/blank.html")
    tab.evaluate(
        """(() => {
          window.sizes = [];
          const request = new MultipartXMLHttpRequest();
          request.multipart = true;
          request.open('GET', '/server/index/plot');
          request.responseType = 'blob';
          request.onload = () => sizes.push(request.response.size);
          request.send();
        })()"""
    )
    stream = scripted.accept("/server/index/plot")
    stream.start({"Content-Type": framing.content_type})
    stream.send(framing.opening)
    for count, colour in enumerate(COLOURS, 1):
        value = Value(payload_of((png(colour), "image/png")), computed=1.0, fresh_until=0)
        stream.send(framing.encode(Event(count, f"e-{count}", "plot", value)))
        tab.wait_for(f"sizes.length === {count} && sizes.at(-1) === {len(png(colour))}")


# WebSocket. `seen` has the value of each message, or how many bytes it has.

OPEN = """(() => {
  window.seen = [];
  window.socket = new WebSocket(location.origin.replace('http', 'ws') + '%s');
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) =>
    seen.push(typeof data === 'string' ? JSON.parse(data).value : data.byteLength);
  socket.onclose = ({ code }) => { window.ended = code; };
})()"""


def test_a_web_socket_gets_each_value(tab: Browser, told: Told, serving: Serving) -> None:
    told.tell("text", b"before")
    tab.open(f"{serving.url}/blank.html")
    tab.evaluate(OPEN % "/server/index/text")
    values = ["before", "two\nlines", "caf\u00e9 \U0001f600", "long " * 10_000]
    for value in values:
        told.tell("text", value.encode())
        tab.wait_for(f"seen.at(-1) === {value!r}")
    assert tab.evaluate("seen.length") == 4
    assert "permessage-deflate" in tab.evaluate("socket.extensions")
    tab.evaluate("socket.close(1000)")
    tab.wait_for("window.ended === 1000")


def test_a_web_socket_gets_bytes_and_its_end(tab: Browser, told: Told, serving: Serving) -> None:
    told.tell("plot", b"\x89PNG and more")
    tab.open(f"{serving.url}/blank.html")
    tab.evaluate(OPEN % "/server/index/plot?limit=1")
    tab.wait_for("seen[0] === 13")
    tab.wait_for("window.ended === 1000")


def test_a_browser_has_more_web_sockets_than_six(
    tab: Browser, told: Told, serving: Serving
) -> None:
    told.tell("text", b"many")
    tab.open(f"{serving.url}/blank.html")
    tab.evaluate("""(() => {
      window.counts = Array(30).fill(0);
      window.sockets = counts.map((_, n) => {
        const socket = new WebSocket(location.origin.replace('http', 'ws') + '/server/index/clock');
        socket.onmessage = () => { counts[n] += 1; };
        return socket;
      });
    })()""")
    tab.wait_for("counts.every((count) => count >= 2)")
    tab.evaluate("sockets.forEach((socket) => socket.close())")
