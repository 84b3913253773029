"""`Push`: what an application uses of pushdemo.

from pushdemo import Push

push = Push()

@push.feed(interval=2, duration=10)
def orders(): ...

app.wsgi_app = push.middleware(app.wsgi_app)

@app.get("/live/orders")
def live():
    return push.flask(request, "orders")
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pushdemo.handover.address import socket_path
from pushdemo.handover.client import BroadcasterAway, Handover, HandoverLost
from pushdemo.handover.listening import Listener
from pushdemo.handover.readiness import say_ready
from pushdemo.handover.reload import Reload, take_over_asked
from pushdemo.handover.server import Receiver
from pushdemo.handover.succession import OldGoesOn, succeed
from pushdemo.push.broker import broker_for
from pushdemo.push.broker.cluster import publish_value
from pushdemo.push.broker.protocol import Broker, BrokerUnavailable, Misconfigured
from pushdemo.push.compute import declaration
from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.compute.payload import Blob, Data, Payload, Text, payload_of, received
from pushdemo.push.compute.template import Template, of_function
from pushdemo.push.engine import Engine, UnknownFeed
from pushdemo.push.event import Value
from pushdemo.push.exposition import METRICS
from pushdemo.push.failure import failure_of
from pushdemo.push.gate import Gone
from pushdemo.push.loop import Health
from pushdemo.push.options import ConfigError, Options
from pushdemo.push.places import Places
from pushdemo.push.published import check_key
from pushdemo.push.response import Response
from pushdemo.push.settings import Settings
from pushdemo.push.signals import at_once, stopping
from pushdemo.push.status import STATUS, content_type_of
from pushdemo.push.stream import HandsOff
from pushdemo.wsgi import frameworks
from pushdemo.wsgi.cors import Cors
from pushdemo.wsgi.door import Door, Left, door_of
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.handshake import check_origin
from pushdemo.wsgi.hints import Hints
from pushdemo.wsgi.incoming import Incoming
from pushdemo.wsgi.middleware import Middleware
from pushdemo.wsgi.monitor import Monitor
from pushdemo.wsgi.outgoing import Outgoing, take
from pushdemo.wsgi.page import page_for
from pushdemo.wsgi.remote import Remote
from pushdemo.wsgi.request import StreamRequest, read
from pushdemo.wsgi.responder import Caller, Responder, WsgiResponse, error_response, whole
from pushdemo.wsgi.web import Request

if TYPE_CHECKING:
    from flask import Request as FlaskRequest
    from flask import Response as FlaskResponse

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class Push:
    """The feeds of one application, and the streams of them.

    Options are those of an ini's `push.…` keys, without that prefix: see
    pushdemo.push.settings.Settings.read for their names, units and defaults. A wrong one raises
    ConfigError (a SystemExit, whose message is one line).

    It may be made when a module is imported, and before a server forks its workers: threads,
    descriptors and random ids are made by the first use in each process. Every method may be called
    from any thread.
    """

    def __init__(self, **options: object) -> None:
        given = {f"push.{name}": _as_text(value) for name, value in options.items()}
        self.settings = Settings.read(Options(given, "push."))
        self._declarations: dict[str, Declaration] = {}
        self._handover = _handover(self.settings.broadcaster)
        self._has_broker = self._open_broker() is not None
        self._broker: Broker | None = None
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._relay_places: Places | None = None
        self._hints = Hints()
        _all.add(self)

    @classmethod
    def from_ini(cls, ini: str | Mapping[str, str]) -> Push:
        """What an ini asks for: its path (for the section [app:main]), or an [app:…] section.

        `feed.NAME = package.module:function` declares a feed, `feed.NAME.interval` and the like are
        its options, and `push.…` those of all streams. Other keys are not looked at: they are those
        of an application that builds on this one. A module beside the ini is found, as one beside a
        script is. Raises ConfigError.
        """
        section = section_of(ini) if isinstance(ini, str) else ini
        given = {key: value for key, value in section.items() if key.startswith("push.")}
        push = cls(**{key.removeprefix("push."): value for key, value in given.items()})
        for name in declaration.names_in(section):
            push._declare(declaration.declared_in(section, name))
        return push

    # Feeds

    @overload
    def feed(self, function: F, *, name: str | None = None, **options: object) -> F: ...

    @overload
    def feed(
        self, function: None = None, *, name: str | None = None, **options: object
    ) -> Callable[[F], F]: ...

    def feed(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Declare a feed. A decorator, with options or without; the function stays what it is.

        name: of the feed; by default the function's.
        interval: seconds from one event to the next; 5.
        duration: seconds for which a value is good: the function is called at most once in them. By
            default the interval.
        history: how many events are kept for clients that come back; 1.
        repeat: whether each beat sends the value, or only one that has changed; True.
        timeout: seconds after which a computation is given up; 300.
        executor: "thread", or "process" for a function that computes in Python.
        template: a file with a Mako template, or a function of the value: makes HTML of each value,
            for htmx and the like. See pushdemo.push.compute.template.

        Raises ConfigError.
        """
        if function is None:
            return functools.partial(self.feed, name=name, **options)
        called = name or str(getattr(function, "__name__", type(function).__name__))
        template = _template(options)
        declared = declaration.decorated(called, function, self._options(called, options), template)
        self._declare(declared)
        return function

    def pushed_feed(self, name: str, **options: object) -> None:
        """Declare a feed without a function: each of its values comes from `publish`.

        history: how many events are kept for clients that come back; 1.
        template: as for `feed`.

        Raises ConfigError.
        """
        template = _template(options)
        self._declare(declaration.pushed(name, self._options(name, options), template))

    def relay(
        self, name: str, url: str, *, headers: Mapping[str, str] | None = None, **options: object
    ) -> None:
        """Declare a feed whose events are another pushdemo's, with their ids: clients may move
        between the two.

        url: of one feed there, `https://HOST/server/index/NAME`.
        headers: of the requests for it, such as Authorization.
        history: how many events are kept for clients that come back; 1.

        Raises ConfigError.
        """
        self._declare(declaration.relayed(name, url, self._options(name, options), headers or {}))

    def publish(self, feed: str, value: object, *, key: str | None = None) -> str:
        """Send a value to all subscribers of a feed, in whatever process and, with a broker, on
        whatever machine. Returns the event's id.

        key: names this value, in 1 to 255 printable characters of ASCII: published again with the
            same key within a day, it is the same event, whose id is returned. So who had no answer
            may ask again.

        In a feed that has a function, the value counts as computed now. Raises UnknownFeed;
        TypeError or ValueError for a value that cannot be sent, as for one that a feed's function
        returns; BroadcasterAway or HandoverLost where the broadcaster process does not answer; and
        BrokerUnavailable or Misconfigured where the broker does not, for five seconds.
        """
        return self._publish(feed, payload_of(value), key)

    def publish_body(
        self, feed: str, content_type: str, body: bytes, *, key: str | None = None
    ) -> str:
        """The same for a value that came by HTTP. Raises UnknownType or ValueError for one that is
        not what its content type says."""
        return self._publish(feed, received(content_type, body), key)

    @property
    def feeds(self) -> Mapping[str, Declaration]:
        """The declared feeds by name, in the order of their declaration."""
        return self._declarations

    def types(self) -> dict[str, str | None]:
        """The content type of each feed's newest value, by the feed's name; None where there is no
        value yet. Raises BroadcasterAway where the broadcaster process does not answer."""
        if self._handover is not None:
            return dict(self._handover.health()["types"])
        return {name: content_type_of(one.newest) for name, one in self.engine.channels.items()}

    # Responses

    def middleware(self, app: Any) -> Any:
        """A WSGI application around another: the outermost one. It takes the streams that views
        return off the server, so that they hold no thread and no worker."""
        return Middleware(app)

    def respond(self, environ: dict[str, Any], feeds: str | None = None) -> WsgiResponse:
        """The response to a WSGI request for feeds: status, headers, body.

        feeds: a feed's name, or several (`a+b`); None for the first that is declared.
        """
        try:
            return self.answer(environ, feeds)
        except RequestError as error:
            return whole(error_response(error))

    def flask(self, request: FlaskRequest, feeds: str | None = None) -> FlaskResponse:
        """The response of a Flask view. See `respond`."""
        return frameworks.flask(self.respond(request.environ, feeds))

    def django(self, request: Any, feeds: str | None = None) -> Any:
        """The response of a Django view, under WSGI. See `respond`."""
        return frameworks.django(self.respond(request.environ, feeds))

    def pyramid(self, request: Any, feeds: str | None = None) -> Any:
        """The response of a Pyramid view. See `respond`."""
        return frameworks.pyramid(self.respond(request.environ, feeds))

    @functools.cached_property
    def application(self) -> Any:
        """A WSGI application to run, or to mount at a prefix of another: a page that shows all
        feeds, its scripts, and the streams."""
        from pushdemo.config.middleware import application_for  # which knows this module

        return application_for(self)

    @functools.cached_property
    def monitor(self) -> Any:
        """A WSGI application to mount at a prefix of another, for who runs it: /status, /metrics,
        /healthz and /readyz. `application` has them too."""
        return self.middleware(Monitor(self))

    def answer(
        self,
        environ: dict[str, Any],
        feeds: str | None,
        *,
        shareable: bool = False,
        base: str | None = None,
    ) -> WsgiResponse:
        """As `respond`, for who makes a page of an error: raises RequestError, with the headers
        that its response has.

        shareable: whether equal requests have the same response: see pushdemo.wsgi.responder.
        base: a relative reference to `application`'s root, if that is where the request came.
        """
        request = Request(environ)
        headers = self.headers(request.headers.get("Origin"))
        try:
            return self._answer(environ, request, feeds, shareable, base)
        except RequestError as error:
            error.headers += headers
            raise

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Those that every response about feeds has. origin: of the page that asks, if the browser
        names it."""
        return [
            ("Cache-Control", "no-store"),
            ("Vary", "Accept, Accept-Encoding, Origin"),
            *Cors(self.settings.cors).headers(origin),
        ]

    def answer_here(self, environ: Mapping[str, Any], feeds: str | None) -> WsgiResponse:
        """As `answer`, from this process's channels, for a caller that has the connection."""
        asked = read(Request(dict(environ)), feeds)
        caller = Caller(hands_off=True, cors=bool(self.settings.cors))
        return Responder(self.engine, self.headers(asked.origin)).respond(asked, caller)

    # The process

    @property
    def holds_streams(self) -> bool:
        """Whether the streams are this process's, and not a broadcaster process's."""
        return self._handover is None

    @property
    def engine(self) -> Engine:
        """What runs the feeds and holds the streams of this process."""
        with self._lock:
            if self._engine is None:
                self._make_engine().begin()
            assert self._engine is not None
            return self._engine

    @property
    def broker_address(self) -> str | None:
        """For a person, without its password; None where there is no broker."""
        broker = self._open_broker()
        return None if broker is None else broker.address

    def check(self) -> None:
        """Ask the broker, if there is one, whether it will do. Raises ConfigError where that is
        not to be mended by waiting, such as a wrong password; where the engine is away, the log
        says so. Leaves nothing open, so that a process may fork afterwards."""
        broker = self._open_broker()
        if broker is None:
            return
        try:
            broker.check()
        except Misconfigured as error:
            raise ConfigError(f"push.broker: {error}") from None
        except BrokerUnavailable as error:
            log.warning("the broker is away, and is asked again and again: %s", error)

    def readiness(self) -> list[str]:
        """Why no stream can begin now, in a line each; none where one can."""
        try:
            why = self.ended()
        except (BroadcasterAway, HandoverLost) as error:
            return [f"the broadcaster does not answer: {error}"]
        if self.holds_streams and self.engine.full:
            why.append("all streams are taken")
        return why

    def ended(self) -> list[str]:
        """Which of the threads of `health` have ended, in a line each. Raises as that."""
        threads = self.health().items()
        return [f"the thread {name} has ended" for name, one in threads if not one.alive]

    def health(self) -> Mapping[str, Health]:
        """How the threads are that serve all feeds and all streams, by name; those of the
        broadcaster process, where there is one. Raises BroadcasterAway where it does not answer."""
        if self._handover is None:
            return self.engine.health()
        threads = self._handover.health()["threads"]
        return {name: Health(**one) for name, one in threads.items()}

    def serve_broadcaster(
        self, address: str, *, mode: int = 0o660, take_over: bool = False
    ) -> None:
        """Be the process that runs the feeds and holds the streams of all workers, until SIGTERM or
        SIGINT. SIGHUP starts a successor, which loads the application anew and takes over.

        address: `unix:PATH`, of a Unix socket to listen on.
        mode: the permissions of that socket. A process that may write to it may publish.
        take_over: take over from the process that listens there, if there is one.

        Raises ValueError for an address that is none; AddressTaken and OSError where it cannot be
        had; OldGoesOn where another process does not let itself be taken over; ConfigError for a
        broker that will not do.
        """
        self.check()
        self._handover = None
        reload = Reload(address)
        reload.await_signal()
        inheritance = None
        if (asked := take_over_asked()) is not None or take_over:
            if asked and asked != address:
                raise OldGoesOn(f"it listens at {asked}, and this process is to at {address}")
            inheritance = succeed(socket_path(address))
        if inheritance is None:
            listener = Listener(address, mode)
        else:
            listener = Listener.inherited(address, inheritance.listeners[0])
        estate = Outgoing(self, address, end=lambda: receiver.stop())
        receiver = Receiver(listener, Incoming(self), estate=estate)
        stop = reload.noting(receiver.stop)
        with stopping(stop, receiver.wakeup_fd(), signal.SIGTERM, signal.SIGINT):
            if inheritance is not None:
                take(inheritance, self)
            elif self._has_broker:
                _ = self.engine  # which hears of all feeds from now on
            reload.serves(stop)
            say_ready()
            receiver.run()
        if self.settings.drain:
            at_once(signal.SIGTERM, signal.SIGINT)
        self.close()
        reload.guard(receiver.successor)

    # To another process

    def hold(self) -> None:
        """Compute, publish and send nothing until `go_on`, so that another process may take over.
        Clients that come wait for that, and so does who publishes. Raises TimeoutError."""
        self.engine.hold()

    def go_on(self) -> None:
        """The end of `hold`, or of `restore`."""
        self.engine.go_on()

    def snapshot(self) -> tuple[bytes, list[socket.socket]]:
        """While it is held: what another process needs to go on with all feeds and streams, and
        the clients' connections, which are still this process's."""
        return self.engine.snapshot()

    def restore(self, snapshot: bytes, socks: list[socket.socket]) -> None:
        """Before the first stream: go on with another process's feeds and streams, from `go_on` on.
        Feeds that are not declared here are left out, with their streams.

        Raises ValueError for what is no snapshot.
        """
        with self._lock:
            engine = self._engine or self._make_engine()
        engine.restore(snapshot, socks)

    def leave(self, address: str | None = None) -> None:
        """While it is held: another process has the feeds and the streams now.

        address: `unix:PATH`, where that process listens as a broadcaster does. It is given what
            comes here from now on: values that are published, and clients.

        Raises ValueError for an address that is none.
        """
        handover = Handover(address) if address else None

        def offer(state: bytes, sock: socket.socket) -> None:
            if handover is None:
                raise BroadcasterAway("another process has taken over")
            handover.offer(state, sock)

        self._handover = handover
        self.engine.leave(offer)

    # The end

    def close(self) -> None:
        """End this process's streams, over `push.drain` seconds, and its threads. Otherwise they
        end with it."""
        with self._lock:
            engine, self._engine = self._engine, None
            broker, self._broker = self._broker, None
        if engine is not None:
            engine.close()
        elif broker is not None:
            broker.close()

    # Parts of these

    def _declare(self, declared: Declaration) -> None:
        with self._lock:
            if declared.name in self._declarations:
                raise ConfigError(f"feed.{declared.name}: there is a feed of this name already")
            self._declarations[declared.name] = declared
            if self._engine is not None:
                self._engine.add(declared)

    @staticmethod
    def _options(name: str, options: Mapping[str, object]) -> Options:
        prefix = f"feed.{name}."
        return Options({prefix + key: _as_text(value) for key, value in options.items()}, prefix)

    def _open_broker(self) -> Broker | None:
        """A new one. Nothing is connected yet. Raises ConfigError."""
        try:
            return broker_for(self.settings.broker)
        except Misconfigured as error:
            # Without the value: it may have a password in it.
            raise ConfigError(f"push.broker: {error}") from None

    def _make_engine(self) -> Engine:
        """With the lock."""
        if self._has_broker and self._broker is None:
            self._broker = self._open_broker()
        self._engine = Engine(self.settings, self._declarations.values(), self._broker)
        return self._engine

    def _publish(self, feed: str, payload: Payload, key: str | None) -> str:
        if key is not None:
            check_key(key)
        declared = self._declarations.get(feed)
        if declared is None:
            names = ", ".join(self._declarations) or "none"
            raise UnknownFeed(f"there is no feed '{feed}'; there is: {names}")
        if declared.origin is not None:
            raise ValueError(
                f"feed {feed} is a relay: publish at its origin, {declared.origin.url}"
            )
        if self._handover is not None and not self._has_broker:
            return self._handover.publish(feed, *_as_body(payload), key=key)
        fresh_until = sys.maxsize  # good until the next comes, however long that takes
        if not declared.is_pushed:
            fresh_until = time.monotonic_ns() + round(declared.duration * 1_000_000_000)
        computed = time.time()
        html = _rendered(declared, payload, computed)
        value = Value(payload, computed, fresh_until, html=html)
        if self._has_broker:
            # From any process, a worker's too: who holds the streams hears of it like all others.
            with self._lock:
                broker = self._broker = self._broker or self._open_broker()
            assert broker is not None
            return publish_value(broker, feed, value, declared.history, key)
        try:
            return self.engine.publish(feed, value, key)
        except Gone:  # for another process
            if self._handover is None:
                raise BroadcasterAway("another process has taken over") from None
            return self._publish(feed, payload, key)

    def _answer(
        self,
        environ: dict[str, Any],
        request: Request,
        feeds: str | None,
        shareable: bool,
        base: str | None,
    ) -> WsgiResponse:
        asked = read(request, feeds)
        if not _INTERNAL.isdisjoint(asked.feeds):
            shareable = False  # who may see it is looked at for each request
            if not self.settings.status.allows(environ):
                raise RequestError(403, _FORBIDDEN)
        if self.settings.pages and (page := page_for(asked, request, self._declarations, base)):
            headers = [*self.headers(asked.origin), *page.headers]
            return whole(Response("200 OK", headers, page.html.encode()))
        return self._stream(asked, environ, request, feeds, shareable)

    def _stream(
        self,
        asked: StreamRequest,
        environ: dict[str, Any],
        request: Request,
        feeds: str | None,
        shareable: bool,
    ) -> WsgiResponse:
        door = door_of(environ)
        hands_off = door is not None and door.connection is not None
        if asked.upgrade is not None:
            check_origin(asked.origin, request.headers.get("Host"), self.settings.cors)
            if not hands_off:
                raise RequestError(
                    501, "There are no WebSockets on this server. The server's log says why."
                )
        threads = self.settings.threads(multithread=bool(environ.get("wsgi.multithread")))
        body: HandsOff
        if self._handover is not None:
            body = Remote(self._handover, environ, feeds, self._relays(threads))
            if door is None:
                return body.relay()
            status, headers = "200 OK", self.headers(asked.origin)  # of no interest to the client
        else:
            caller = Caller(hands_off, threads, bool(self.settings.cors), shareable)
            try:
                response = self._respond(asked, caller, environ)
            except RequestError as error:
                if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                    self._hint(door, environ)
                raise
            if not isinstance(response.body, HandsOff):
                return response
            if door is None:
                self._hint(door, environ)
                return response
            status, headers, body = response.status, response.headers, response.body
        self._hint(door, environ)
        ticket = door.leave(Left(body, headers, status))
        return WsgiResponse("200 OK", [*headers, ticket], [])

    def _hint(self, door: Door | None, environ: Mapping[str, Any]) -> None:
        """Say what to do, where a stream holds a thread, or would."""
        if door is None:
            self._hints.no_middleware()
        elif door.connection is None:
            self._hints.no_connection(environ)

    def _respond(
        self, asked: StreamRequest, caller: Caller, environ: Mapping[str, Any]
    ) -> WsgiResponse:
        if environ.get("wsgi.multiprocess"):
            self.engine.share_reports()
            if not self._has_broker:
                self._hints.several_processes()
        return Responder(self.engine, self.headers(asked.origin)).respond(asked, caller)

    def _relays(self, most: int) -> Places:
        """Those of streams that hold a thread here, and are another process's."""
        with self._lock:
            if self._relay_places is None:
                self._relay_places = Places(most)
            return self._relay_places

    def _forget(self) -> None:
        """This process was forked from the one in which all was made: make it anew when it is
        needed. Called before any other thread is there."""
        engine, self._engine = self._engine, None
        self._broker = None
        self._lock = threading.RLock()  # another thread of that process may have held it
        self._relay_places = None
        self._hints = Hints()
        if engine is not None:
            engine.abandon()


def section_of(path: str) -> Mapping[str, str]:
    """An ini's [app:main], with what that builds on. Its directory is on Python's path then."""
    from paste.deploy import appconfig

    directory = os.path.dirname(os.path.abspath(path))
    if directory not in sys.path:
        sys.path.append(directory)
    section: Mapping[str, str] = appconfig(f"config:{os.path.abspath(path)}")
    return with_paths(section, directory)


def with_paths(section: Mapping[str, str], directory: str) -> Mapping[str, str]:
    """A section whose paths are below the ini's directory, and not below the current one."""
    public = section.get("push.public")
    return {**section, "push.public": os.path.join(directory, public)} if public else section


def _handover(address: str) -> Handover | None:
    try:
        return Handover(address) if address else None
    except ValueError as error:
        raise ConfigError(f"push.broadcaster = {address}: {error}") from None


def _as_text(value: object) -> str:
    """An option's value, as an ini has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, set, frozenset)):
        return " ".join(str(item) for item in value)
    return str(value)


def _template(options: dict[str, Any]) -> Template | None:
    """That which is a function, taken out of the options."""
    return of_function(options.pop("template")) if callable(options.get("template")) else None


def _rendered(declared: Declaration, payload: Payload, computed: float) -> str | None:
    """The HTML of a value that is published. Raises ValueError where the template fails."""
    if declared.template is None:
        return None
    try:
        return declared.template.html(payload, declared.name, computed)
    except Exception as error:
        log.exception("the template of feed %s fails", declared.name)
        raise ValueError(
            f"the template of feed {declared.name} fails: {failure_of(error).summary}"
        ) from None


def _as_body(payload: Payload) -> tuple[str, bytes]:
    """A payload as a content type and bytes, which `received` makes the same payload of."""
    match payload:
        case Text(text):
            return "text/plain; charset=utf-8", text.encode()
        case Data(json):
            return "application/json", json.encode()
        case Blob(data, content_type):
            return content_type, data


_INTERNAL = frozenset((STATUS, METRICS))
_FORBIDDEN = (
    "Status and metrics are for who asks from this machine, and not through a proxy; push.status"
    " names others who may."
)

_all: weakref.WeakSet[Push] = weakref.WeakSet()


def pushes() -> list[Push]:
    """Those of this process that have feeds, and hold their streams themselves."""
    return [push for push in _all if push.feeds and push.holds_streams]


def _after_fork() -> None:
    for push in list(_all):
        push._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
