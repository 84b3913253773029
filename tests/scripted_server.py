"""An HTTP server whose answers the test writes, byte by byte and when it likes.

It serves the pages, and the files of pushdemo/public and tests/pages. Every other request waits
until the test takes it with `accept`, and is then the test's to answer:

    with ScriptedServer() as server:
        browser.open(server.url)
        request = server.accept("/server/index")
        request.start(MULTIPART)
        request.send(b"--test\r\n" + ours("one"))
        request.drop()
"""

from __future__ import annotations

import mimetypes
import queue
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pushdemo.push.compute.declaration import Declaration
from pushdemo.wsgi.page import Page, dashboard, seed_page

PAGES = Path(__file__).with_name("pages")
PUBLIC = Path(__file__).parents[1] / "pushdemo" / "public"

MULTIPART = {"Content-Type": "multipart/x-mixed-replace;boundary=test"}


def ours(text: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A part as our server sends it, with the delimiter that closes it.

    Written out here and not taken from pushdemo.push, so that each is a test of the other.
    """
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<message>{text}</message>'.encode()
    lines = ["Content-Type: application/xml", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body + b"\r\n--test\r\n"


def seeds(text: str) -> bytes:
    """What the seed's data_stream yields."""
    return (
        "--test\nContent-type: application/xml\n\n"
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
        f"<message>{text}</message>\n"
        "--test\n"
    ).encode("latin-1")


class Exchange:
    """One request and its answer. The test's thread uses it while the server's thread waits."""

    def __init__(self, handler: _Handler) -> None:
        self.method = handler.command
        self.path = handler.path
        self.headers = handler.headers
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        self._socket = handler.connection
        self.finished = threading.Event()

    def start(self, headers: Mapping[str, str], status: str = "200 OK") -> None:
        """Sends the status line and the headers: Date unless given, and those."""
        lines = [f"HTTP/1.0 {status}"]
        for name, value in ({"Date": formatdate(usegmt=True)} | dict(headers)).items():
            lines.append(f"{name}: {value}")
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, status: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """A whole response, with its length."""
        self.start({"Content-Length": str(len(body)), **headers}, status)
        self.send(body)
        self.close()

    def close(self) -> None:
        """Ends the response, as HTTP/1.0 does, by closing the connection."""
        self.finished.set()

    def drop(self) -> None:
        """Breaks the connection off with a reset."""
        linger_for_no_time = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        # Closing the last descriptor sends the reset; the handler's shutdown would send a FIN.
        self._socket.close()
        self.finished.set()

    def wait_for_hangup(self, timeout: float = 10.0) -> None:
        """Returns when the client has closed its end; AssertionError if it does not."""
        self._socket.settimeout(timeout)
        try:
            while self._socket.recv(4096):
                pass
        except TimeoutError:
            raise AssertionError(f"the client kept {self.path} for {timeout} s") from None
        except ConnectionResetError:
            pass
        self.finished.set()


def never() -> Any:
    raise AssertionError("the test answers in its place")


CLOCK = Declaration("clock", never, interval=5.0, duration=5.0, repeat=False)


class ScriptedServer(ThreadingHTTPServer):
    """declared: the feeds that the pages are to show. They keep no beat, unless a test says so.
    pages: others, by their path.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.declared: list[Declaration] = [CLOCK]
        self.pages: dict[str, Page] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.exchanges: list[Exchange] = []  # all that were ever begun
        self._waiting: queue.Queue[Exchange] = queue.Queue()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for exchange in self.exchanges:
            exchange.finished.set()

    def begin(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._waiting.put(exchange)

    def accept(self, path: str = "/server/index", timeout: float = 10.0) -> Exchange:
        """The next request, which must be for this path."""
        try:
            exchange = self._waiting.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no request for {path} within {timeout} s") from None
        assert exchange.path == path, f"{exchange.path} was asked for, not {path}"
        return exchange

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: that a client went away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        page = self._page()
        if page is not None:
            self._send(page.html.encode(), dict(page.headers))
            return
        name = self.path.strip("/")
        for folder in (PUBLIC, PAGES):
            if (folder / name).is_file():
                self._send_file(folder / name)
                return
        # Browsers ask for the one when they like; and of feeds a scripted server has just one.
        if name in ("favicon.ico", "server/feeds"):
            self.send_error(404)
            return
        exchange = Exchange(self)
        self.server.begin(exchange)
        exchange.finished.wait()

    def _page(self) -> Page | None:
        declared = self.server.declared
        if self.path == "/":
            return dashboard(declared, "./")
        if self.path == "/seed.html":
            return seed_page(declared, "./")
        return self.server.pages.get(self.path)

    def _send_file(self, path: Path) -> None:
        content_type = mimetypes.guess_type(path)[0] or "text/plain"
        self._send(path.read_bytes(), {"Content-Type": content_type})

    def _send(self, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
