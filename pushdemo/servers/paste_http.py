"""`egg:pushdemo#http`: the HTTP server that `paster serve` runs, for streams by the thousand.

- A connection waits for its request in the acceptor, not in a worker.
- A request that is equal to one that was just answered with a Stream is given an equal one at once:
  see pushdemo.servers.collapsing.
- When the application returns a Stream or a Poll, the connection is given to the broadcaster, and
  the worker is free again at once: any number of them holds none.
- Any other body of unknown length (a generator that sleeps between its parts, as the seed's does)
  is sent by a thread of its own, so that ten of them do not hold all ten workers.

Requests that wait for a worker are bounded, too: beyond MOST of them, or MOST_BYTES, the answer is
503.
"""

from __future__ import annotations

import logging
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pushdemo.push.deliver import descriptors
from pushdemo.push.head import Head
from pushdemo.push.options import Options
from pushdemo.push.places import Places
from pushdemo.servers import memory
from pushdemo.servers.acceptor import Acceptor
from pushdemo.servers.backlog import Backlog
from pushdemo.servers.collapsing import Collapsing, Precedent, collapses
from pushdemo.servers.connection import turn_away
from pushdemo.servers.handler import Handler
from pushdemo.servers.listening import listen
from pushdemo.servers.refusal import Busy
from pushdemo.servers.request import Exchange
from pushdemo.servers.serving import Place, Serving
from pushdemo.servers.workers import Workers

log = logging.getLogger(__name__)

# Seconds that the requests under way have to end in when the server is stopped.
GRACE = 0.5
# And where another process serves already what comes: a download may take its time.
RETIREMENT = 30.0
# Bodies that have a thread each; for one more, the answer is 503.
MAX_BODY_THREADS = 1000
# Requests that wait for a worker, or for the answer to an equal one. Ten thousand pages that come
# back at once, each with a request of its own, are to have their turn.
MOST = 20_000
MOST_BYTES = 64 * 1024 * 1024
SOFTWARE = f"pushdemo Python/{platform.python_version()}"


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
    control: `unix:PATH`, where the next process takes over from this one; by default a socket in
        /tmp/pushdemo-UID, which is named by host and port.

    Raises ConfigError, also when the address cannot be had: before the application is loaded.
    """
    options = Options(section)
    address = (options.text("host", "127.0.0.1"), options.whole("port", 8080, least=0, most=65535))
    backlog = options.whole("request_queue_size", 4096, least=1)
    make = partial(
        Server,
        workers=options.whole("threadpool_workers", 10, least=1),
        request_timeout=options.seconds("request_timeout", 20),
        max_request_body=options.whole("max_request_body", 1024 * 1024, least=0),
    )
    collapse = options.flag("collapse_requests", True)
    control = options.text("control", "")
    options.finish()
    place = Place(address, control)
    serving = Serving(place, make, backlog)
    listener = None if place.take_over else listen(address, backlog)

    def serve(application: Any) -> None:
        serving.serve(application, listener, collapse=collapse)

    return serve


class Server:
    """An acceptor, workers, and what is between them.

    listener: a listening socket.

    address: its host and port.
    """

    make_head = Head((("Server", SOFTWARE),), "HTTP/1.0")

    def __init__(
        self,
        listener: socket.socket,
        *,
        workers: int = 10,
        request_timeout: float = 20.0,
        max_request_body: int = 1024 * 1024,
    ) -> None:
        descriptors.raise_limit()
        memory.share_one_heap()
        self._listener = listener
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.application: Any = None
        self._acceptor = Acceptor(
            self._listener, self._deliver, timeout=request_timeout, max_body=max_request_body
        )
        self._collapsing: Collapsing | None = None
        self._backlog = Backlog(MOST, MOST_BYTES)
        self._worker_count = workers
        self._workers = Workers(workers)
        self._body_threads = Places(MAX_BODY_THREADS)
        self._retired = False

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def busy(self) -> bool:
        """Whether a worker is at work, or soon will be."""
        return len(self._backlog) > 0

    def serve_application(self, application: Any, *, collapse: bool) -> None:
        """What to serve. collapse: it may be left out where it says so; see the module collapsing.
        Before `serve_forever`."""
        self.application = application
        headers = collapses(application)
        if collapse and headers is not None:
            self._collapsing = Collapsing(
                headers,
                workers=self._worker_count,
                make_head=self.make_head,
                ask=self._ask,
                given=self._settle,
            )

    def serve_forever(self) -> None:
        """Serve until `stop` or `retire`; then give the requests under way a moment to end."""
        try:
            self._acceptor.run()
        finally:
            self._listener.close()
            ended = time.monotonic()
            while self._is_at_work() and time.monotonic() - ended < self._grace:
                time.sleep(0.01)
            self._acceptor.close()

    @property
    def _grace(self) -> float:
        return RETIREMENT if self._retired else GRACE

    def _is_at_work(self) -> bool:
        return self.busy or (self._retired and self._body_threads.taken > 0)

    def retire(self) -> None:
        """Accept no more connections, which another process does: end `serve_forever` when those
        that are there are served. Any thread."""
        self._retired = True
        self._acceptor.retire()

    def stop(self) -> None:
        """End `serve_forever`. Any thread, and signal handlers."""
        self._retired = False
        self._acceptor.stop()

    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd, until `serve_forever` has ended."""
        return self._acceptor.wakeup_fd()

    def in_a_thread(self, task: Callable[[], None]) -> bool:
        """Run `task` in a thread of its own; False if there are too many of them already."""
        if not self._body_threads.take():
            return False

        def run() -> None:
            try:
                task()
            finally:
                self._body_threads.leave()

        try:
            threading.Thread(target=run, name="pushdemo-body", daemon=True).start()
        except RuntimeError:  # the system has none to give
            self._body_threads.leave()
            log.exception("a response's body has no thread to be sent by")
            return False
        return True

    def _deliver(self, exchanges: list[Exchange]) -> None:
        """In the acceptor's thread."""
        admitted = []
        for exchange in exchanges:
            if self._backlog.admit(exchange.request.weight):
                admitted.append(exchange)
            else:
                turn_away(exchange.sock, Busy())
        if self._collapsing is not None:
            self._collapsing.serve(admitted)
            return
        for exchange in admitted:
            self._ask(exchange)

    def _ask(self, exchange: Exchange) -> None:
        self._workers.add(partial(self._handle, exchange))

    def _handle(self, exchange: Exchange) -> None:
        """Serve one request, in a worker."""
        precedent: Precedent | None = None
        try:
            precedent = Handler(exchange, self).handle()
        finally:
            self._settle(exchange)
            if self._collapsing is not None:
                self._collapsing.settle(exchange, precedent)

    def _settle(self, exchange: Exchange) -> None:
        self._backlog.settle(exchange.request.weight)
