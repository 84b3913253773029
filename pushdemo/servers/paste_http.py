"""`egg:pushdemo#http`: Paste's HTTP server, for streams by the thousand.

Paste parses the request and calls the application in its pool of workers, as ever. Around that
stand four changes:

- A connection waits for its request in the acceptor, not in a worker.
- A request that is equal to one that was just answered with a Stream is given an equal one at once:
  see pushdemo.servers.collapsing.
- When the application returns a Stream or a Poll, the connection is given to the broadcaster, and
  the worker is free again at once: any number of them holds none.
- Any other body of unknown length (a generator that sleeps between its parts, as the seed's does)
  is sent by a thread of its own, so that ten of them do not hold all ten workers.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import formatdate
from functools import partial
from typing import Any

from paste.httpserver import WSGIHandler, WSGIThreadPoolServer

from pushdemo.lib.options import ConfigError, Options
from pushdemo.push.stream import HANDS_OFF, Poll, Stream
from pushdemo.servers import descriptors
from pushdemo.servers.acceptor import Acceptor, Request
from pushdemo.servers.collapsing import Collapsing, Precedent, collapses

log = logging.getLogger(__name__)

# Seconds for which a client may take nothing of an ordinary response.
WRITE_TIMEOUT = 60.0
# Seconds that the requests under way have to end in when the server is stopped.
GRACE = 0.5
# Bodies that have a thread each; for one more, the answer is 503.
MAX_BODY_THREADS = 1000


def server_factory(
    global_conf: Mapping[str, str],  # noqa: ARG001  # PasteDeploy's signature
    **section: str,
) -> Callable[[Any], None]:
    """PasteDeploy's `paste.server_factory`. Options of the section, and who suffers by a wrong one:

    host: the address to listen on; 127.0.0.1 keeps everybody else out.
    port: 0 takes any that is free.
    request_queue_size: connections waiting to be accepted; too few (Paste's own 5), and a burst of
        clients waits for seconds.
    threadpool_workers: requests that run at the same time; streams are not among them.
    request_timeout: seconds for a request to come; too few, and clients on bad lines are cut off.
    max_request_body: bytes; they are kept in memory.
    collapse_requests: false has the application see each request, also one for a stream that is
        equal to the last; then clients that all come back at once wait for a worker each.

    Raises ConfigError, also when the address cannot be had: before the application is loaded.
    """
    options = Options(section)
    server = Server(
        (options.text("host", "127.0.0.1"), options.whole("port", 8080, least=0, most=65535)),
        backlog=options.whole("request_queue_size", 4096, least=1),
        workers=options.whole("threadpool_workers", 10, least=1),
        request_timeout=options.seconds("request_timeout", 20),
        max_request_body=options.whole("max_request_body", 1024 * 1024, least=0),
    )
    collapse = options.flag("collapse_requests", True)
    options.finish()

    def serve(application: Any) -> None:
        server.serve_application(application, collapse=collapse)
        with server.stopped_by(signal.SIGINT, signal.SIGTERM):
            print(f"serving on http://{server.authority}", flush=True)
            server.serve_forever()

    return serve


class Handler(WSGIHandler):  # type: ignore[misc]  # Paste has no types
    """One request, all of which was received before.

    What is to be sent collects in `wfile` until it is flushed, so that a response's head and the
    beginning of its body leave in one packet.
    """

    def __init__(self, sock: socket.socket, address: Any, server: Server, received: bytes) -> None:
        self._received = received
        self.given_away = False  # the connection is somebody else's to close
        self.precedent: Precedent | None = None  # for equal requests
        self.wsgi_headers_sent = False
        super().__init__(sock, address, server)

    def setup(self) -> None:
        self.connection = self.request
        self.rfile = io.BytesIO(self._received)
        self.wfile = io.BytesIO()

    def finish(self) -> None:
        if not self.given_away:
            self._flush()

    def wsgi_setup(self, environ: dict[str, Any] | None = None) -> None:
        # The acceptor has sent "100 Continue"; Paste would send it a second time.
        del self.headers["Expect"]
        super().wsgi_setup(environ)
        # PEP 3333 has the path's bytes as latin-1; Paste decodes them as UTF-8, and what is not
        # latin-1 could not be encoded again.
        path = self.wsgi_environ["PATH_INFO"]
        self.wsgi_environ["PATH_INFO"] = path.encode("utf-8", "replace").decode("latin-1")
        self.wsgi_environ[HANDS_OFF] = True

    def wsgi_write_chunk(self, chunk: bytes) -> None:
        super().wsgi_write_chunk(chunk)
        self._flush()

    def wsgi_execute(self, environ: dict[str, Any] | None = None) -> None:
        self.wsgi_setup(environ)
        try:
            body = self.server.wsgi_application(self.wsgi_environ, self.wsgi_start_response)
        except Exception:
            self._fail()
            return
        if self.wsgi_curr_headers and not self.wsgi_headers_sent:
            if isinstance(body, Stream | Poll):
                try:
                    head = self.server.make_head(*self.wsgi_curr_headers)
                    body.hand_off(self.connection, head, self.server.make_head)
                except OSError:  # no descriptor for the broadcaster's selector
                    self._fail()
                    return
                self.given_away = True
                if isinstance(body, Stream):
                    self.precedent = Precedent(body, *self.wsgi_curr_headers)
                return
            if self._endless(body):
                self.given_away = self.server.in_a_thread(lambda: self._send_and_close(body))
                if not self.given_away:
                    self._refuse(body)
                return
        self._send(body)

    def _endless(self, body: Iterable[bytes]) -> bool:
        if self.command == "HEAD":
            return False
        _, headers = self.wsgi_curr_headers
        return not isinstance(body, (list, tuple)) and not any(
            name.lower() == "content-length" for name, _ in headers
        )

    def _send(self, body: Iterable[bytes]) -> None:
        try:
            for chunk in body:
                self.wsgi_write_chunk(chunk)
            if not self.wsgi_headers_sent:
                self.wsgi_write_chunk(b"")
        except OSError:
            log.debug("the client left before its response was sent")
        except Exception:
            self._fail()
        finally:
            if hasattr(body, "close"):
                body.close()

    def _send_and_close(self, body: Iterable[bytes]) -> None:
        try:
            self._send(body)
        finally:
            self.connection.close()

    def _refuse(self, body: Any) -> None:
        if hasattr(body, "close"):
            body.close()
        self._answer("503 Service Unavailable", "Try again in a few seconds.", ("Retry-After", "5"))

    def _fail(self) -> None:
        log.exception("error in the application, serving %s", self.path)
        if not self.wsgi_headers_sent:
            self._answer("500 Internal Server Error", "The server's log says what went wrong.")

    def _answer(self, status: str, text: str, *headers: tuple[str, str]) -> None:
        body = f"{status}\n\n{text}\n".encode()
        self.wsgi_curr_headers = (
            status,
            [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers],
        )
        super().wsgi_write_chunk(body)

    def _flush(self) -> None:
        if data := self.wfile.getvalue():
            self.wfile = io.BytesIO()
            self.connection.sendall(data)


class Server(WSGIThreadPoolServer):  # type: ignore[misc]  # Paste has no types
    """Paste's server with its pool, behind an acceptor. Listens from its making on; raises
    ConfigError where it cannot."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        backlog: int = 4096,
        workers: int = 10,
        request_timeout: float = 20.0,
        max_request_body: int = 1024 * 1024,
    ) -> None:
        descriptors.raise_limit()
        host, port = address
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                       flags=socket.AI_PASSIVE)  # fmt: skip
            self.address_family: int = found[0][0]
            super().__init__(
                None,
                found[0][4],
                Handler,
                nworkers=workers,
                daemon_threads=True,  # a worker that hangs must not keep the process
                # Paste's own care for hung workers kills streams, and more of the same.
                threadpool_options={
                    "max_requests": 0,
                    "spawn_if_under": 0,
                    "hung_check_period": 0,
                    "kill_thread_limit": 0,
                },
                request_queue_size=backlog,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error.strerror or error};"
                " set host and port in the server's section"
            ) from None
        self._acceptor = Acceptor(
            self.socket, self._deliver, timeout=request_timeout, max_body=max_request_body
        )
        self._collapsing: Collapsing | None = None
        self._workers = workers
        self._body_threads = threading.BoundedSemaphore(MAX_BODY_THREADS)

    def server_bind(self) -> None:
        # Without HTTPServer's: that asks the name service who we are, and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host, port = self.server_address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

    def serve_application(self, application: Any, *, collapse: bool) -> None:
        """What to serve. collapse: it may be left out where it says so; see the module collapsing.
        Before `serve_forever`."""
        self.wsgi_application = application
        headers = collapses(application)
        if collapse and headers is not None:
            self._collapsing = Collapsing(
                headers, workers=self._workers, make_head=self.make_head, ask=self._ask
            )

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002
        """Serve until `stop`; then give the requests under way a moment to end."""
        try:
            self._acceptor.run()
        finally:
            self.socket.close()
            deadline = time.monotonic() + GRACE
            while self._busy() and time.monotonic() < deadline:
                time.sleep(0.01)

    def stop(self) -> None:
        """End `serve_forever`. Any thread, and signal handlers."""
        self._acceptor.stop()

    def make_head(self, status: str, headers: Iterable[tuple[str, str]]) -> bytes:
        """The head of a response that ends with its connection."""
        lines = [
            f"HTTP/1.0 {status}",
            f"Server: {Handler.server_version}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in headers),
            "Connection: close",
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    @contextlib.contextmanager
    def stopped_by(self, *numbers: int) -> Iterator[None]:
        """Let these signals stop it. In the main thread.

        An interrupt that was ignored from the start stays so: a shell starts a background job like
        that, for Ctrl-C to end what is in the foreground, and nothing else. SIGTERM always works.
        """
        for number in numbers:
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: self.stop())
        before = signal.set_wakeup_fd(self._acceptor.wakeup_fd(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def in_a_thread(self, task: Callable[[], None]) -> bool:
        """Run `task` in a thread of its own; False if there are too many of them already."""
        if not self._body_threads.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                task()
            finally:
                self._body_threads.release()

        threading.Thread(target=run, name="pushdemo-body", daemon=True).start()
        return True

    def _busy(self) -> bool:
        return bool(self.thread_pool.worker_tracker) or not self.thread_pool.queue.empty()

    def _deliver(self, requests: list[Request]) -> None:
        """In the acceptor's thread."""
        if self._collapsing is not None:
            self._collapsing.serve(requests)
            return
        for request in requests:
            self._ask(request)

    def _ask(self, request: Request) -> None:
        self.thread_pool.add_task(partial(self._handle, request))

    def _handle(self, request: Request) -> None:
        """Serve one request, in a worker."""
        handler = None
        try:
            request.sock.settimeout(WRITE_TIMEOUT)
            handler = Handler(request.sock, request.sock.getpeername(), self, request.received)
        except OSError:
            log.debug("the client left before its response was sent")
        finally:
            if handler is None or not handler.given_away:
                request.sock.close()
            if self._collapsing is not None:
                self._collapsing.settle(request, handler.precedent if handler else None)
