"""Equal requests and one answer: by value, by property, and in a server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.config.middleware import PublicFirst, make_app
from pushdemo.controllers.server import ServerController
from pushdemo.lib.application import Application
from pushdemo.push.response import Headers, MakeHead
from pushdemo.push.stream import Stream
from pushdemo.servers.collapsing import MOST, Collapsing, Precedent, collapses
from pushdemo.servers.listening import listen
from pushdemo.servers.paste_http import Server
from pushdemo.servers.request import Exchange, RequestParser
from pushdemo.wsgi.middleware import Middleware
from tests.servers import HANG, Paster, Reader, until

HEADERS = ("Accept", "Last-Event-ID")
GET = b"GET /server/index HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"


class GivenTo:
    """A stream that notes whom it was given to."""

    def __init__(self, places: int = 1000) -> None:
        self.still_valid = True
        self.places = places
        self.socks: list[socket.socket] = []
        self.heads: list[bytes] = []

    def take_places(self, wanted: int) -> int:
        taken = min(wanted, self.places)
        self.places -= taken
        return taken

    def hand_off_more(
        self, socks: Sequence[socket.socket], head: bytes, _make_head: MakeHead
    ) -> None:
        self.socks += socks
        self.heads.append(head)


def make_head(status: str, headers: Headers) -> bytes:
    return f"{status} {headers}".encode()


class Closable:
    """What stands for a socket here."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def exchange(received: bytes) -> Exchange:
    request = RequestParser(1000).feed(received)
    assert request
    return Exchange(cast("socket.socket", Closable()), request)


class Stage:
    """Requests whose sockets are only names, and who is asking."""

    def __init__(self, workers: int = 2) -> None:
        self.asked: list[Exchange] = []
        self.given: list[Exchange] = []
        self.collapsing = Collapsing(
            HEADERS,
            workers=workers,
            make_head=make_head,
            ask=self.asked.append,
            given=self.given.append,
        )

    def requests(self, count: int, received: bytes = GET + b"\r\n") -> list[Exchange]:
        return [exchange(received) for _ in range(count)]

    def settle(self, stream: GivenTo | None = None) -> None:
        """The request that has been asking the longest is answered."""
        self.collapsing.settle(self.asked.pop(0), self.precedent(stream) if stream else None)

    def precedent(self, stream: GivenTo) -> Precedent:
        return Precedent(cast("Stream", stream), "200 OK", [("A", "b")])


def test_what_is_known_is_given_at_once() -> None:
    stage, stream = Stage(), GivenTo()
    stage.collapsing.serve(stage.requests(1))
    stage.settle(stream)
    later = stage.requests(3)
    stage.collapsing.serve(later)
    assert stage.asked == []
    assert stream.socks == [request.sock for request in later]
    assert stream.heads == [make_head("200 OK", [("A", "b")])]  # once for all three
    assert stage.given == later


def test_equal_requests_wait_for_the_first_who_ask() -> None:
    stage, stream = Stage(), GivenTo()
    requests = stage.requests(5)
    stage.collapsing.serve(requests)
    assert stage.asked == requests[:2]
    stage.settle(stream)
    assert stream.socks == [request.sock for request in requests[2:]]
    stage.settle(stream)
    assert stage.asked == []


def test_where_the_answer_is_for_one_alone_all_ask() -> None:
    stage = Stage()
    requests = stage.requests(5)
    stage.collapsing.serve(requests)
    seen = []
    while stage.asked:
        assert len(stage.asked) <= 2
        seen.append(stage.asked[0])
        stage.settle()
    assert seen == requests


def test_who_has_no_place_asks_what_to_do() -> None:
    stage, stream = Stage(), GivenTo(places=1)
    stage.collapsing.serve(stage.requests(1))
    stage.settle(stream)
    requests = stage.requests(3)
    stage.collapsing.serve(requests)
    assert stream.socks == [requests[0].sock]
    assert stage.asked == requests[1:]


def test_an_answer_that_does_not_stand_any_more_is_asked_for_again() -> None:
    stage, old, new = Stage(), GivenTo(), GivenTo()
    stage.collapsing.serve(stage.requests(1))
    stage.settle(old)
    old.still_valid = False
    requests = stage.requests(4)
    stage.collapsing.serve(requests)
    assert stage.asked == requests[:2]
    stage.settle(new)
    assert (old.socks, new.socks) == ([], [request.sock for request in requests[2:]])


def test_a_cookie_is_for_one_alone() -> None:
    stage, stream = Stage(), GivenTo()
    stage.collapsing.serve(stage.requests(1))
    answer = replace(stage.precedent(stream), headers=[("Set-Cookie", "session=1")])
    stage.collapsing.settle(stage.asked.pop(), answer)
    requests = stage.requests(1)
    stage.collapsing.serve(requests)
    assert stage.asked == requests


EQUAL = [
    GET + b"Cookie: a=1\r\nUser-Agent: x\r\n\r\n",
    GET + b"Cookie: a=2\r\n\r\n",
    GET + b"\r\n",
    GET.replace(b"Host: a\r\n", b"Host: b\r\nX-Y.z!: \xff: Accept: x\r\n") + b"\r\n",
    GET.replace(b"Accept: ", b"ACCEPT:\t ") + b"\r\n",
    # These are not Last-Event-ID and Accept, and the application does not see them.
    GET + b"Last_Event_ID: a-3\r\n\r\n",
    GET + b"accept_: x\r\n\r\n",
    # What follows a request is not part of it.
    GET + b"\r\nbody",
    GET + b"Content-Length: 0\r\n\r\n",
]
DIFFERENT = [
    GET + b"\r\n",
    GET.replace(b"/server/index", b"/server/index?limit=1") + b"\r\n",
    GET.replace(b"/server/index", b"http://a/server/index") + b"\r\n",
    GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
    GET.replace(b"event-stream", b"plain") + b"\r\n",
    GET + b"Last-Event-ID: a-1\r\n\r\n",
    GET + b"last-event-id: a-2\r\n\r\n",
    GET + b"Last-Event-ID:\r\n\r\n",
    GET + b"Accept: text/plain\r\n\r\n",
    GET + b"Content-Length: 4\r\n\r\nbody",
    GET.replace(b"GET", b"HEAD") + b"\r\n",
]


def test_what_the_answer_does_not_depend_on_makes_no_difference() -> None:
    stage, stream = Stage(), GivenTo()
    first, *others = [stage.requests(1, received)[0] for received in EQUAL]
    stage.collapsing.serve([first])
    stage.settle(stream)
    stage.collapsing.serve(others)
    assert stream.socks == [request.sock for request in others]


@pytest.mark.parametrize("received", DIFFERENT[1:])
def test_anything_else_does(received: bytes) -> None:
    stage, stream = Stage(), GivenTo()
    for known in DIFFERENT:
        if known != received:
            stage.collapsing.serve(stage.requests(1, known))
            stage.settle(stream)
    (other,) = stage.requests(1, received)
    stage.collapsing.serve([other])
    assert stage.asked == [other]
    assert stream.socks == []


def test_what_is_no_get_is_not_looked_at() -> None:
    stage, stream = Stage(), GivenTo()
    requests = stage.requests(4, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    stage.collapsing.serve(requests)
    assert stage.asked == requests
    stage.settle(stream)
    assert stream.socks == []


def test_the_oldest_answers_are_forgotten() -> None:
    stage, stream = Stage(), GivenTo()

    def serve(number: int) -> None:
        target = b"/server/index/%d" % number
        stage.collapsing.serve(stage.requests(1, GET.replace(b"/server/index", target) + b"\r\n"))

    for number in range(MOST + 1):
        serve(number)
        stage.settle(stream)
    serve(MOST)
    serve(1)
    assert (stage.asked, len(stream.socks)) == ([], 2)
    serve(0)
    assert len(stage.asked) == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.integers(1, 6)),
            st.tuples(st.just("settle"), st.sampled_from(["stream", "page", "full", "stale"])),
        ),
        max_size=40,
    )
)
def test_whatever_happens_each_is_answered_once(steps: list[tuple[str, Any]]) -> None:
    stage = Stage(workers=3)
    streams: list[GivenTo] = []
    everybody: list[Exchange] = []
    settled: list[Exchange] = []

    def settle(how: str) -> None:
        settled.append(stage.asked[0])
        if how == "page":
            stage.settle()
            return
        streams.append(GivenTo(places=1 if how == "full" else 1000))
        streams[-1].still_valid = how != "stale"
        stage.settle(streams[-1])

    for step, what in steps:
        if step == "come":
            requests = stage.requests(what)
            everybody += requests
            stage.collapsing.serve(requests)
        elif stage.asked:
            settle(what)
        assert len(stage.asked) <= 3
    while stage.asked:
        settle("page")
    given_to = [sock for stream in streams for sock in stream.socks]
    answered = [*given_to, *(request.sock for request in settled)]
    assert sorted(map(id, answered)) == sorted(id(request.sock) for request in everybody)
    assert [request.sock for request in stage.given] == given_to


class Failing(GivenTo):
    """A stream that cannot do one of these."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def take_places(self, wanted: int) -> int:
        if self._what == "take_places":
            raise ValueError("on purpose")
        return super().take_places(wanted)

    def hand_off_more(
        self, socks: Sequence[socket.socket], head: bytes, make_head: MakeHead
    ) -> None:
        if self._what == "hand_off_more":
            raise RuntimeError("can't start new thread")
        super().hand_off_more(socks, head, make_head)


def test_a_stream_that_cannot_say_whether_it_stands_is_not_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(GivenTo):
        def __getattribute__(self, name: str) -> Any:
            return 1 / 0 if name == "still_valid" else super().__getattribute__(name)

    stage, stream = Stage(), Odd()
    stage.collapsing.serve(stage.requests(1))
    stage.settle(stream)
    requests = stage.requests(2)
    stage.collapsing.serve(requests)
    assert (stage.asked, stream.socks) == (requests, [])
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("what", ["take_places", "hand_off_more"])
def test_a_stream_that_fails_fails_for_those_it_was_for_alone(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage, stream = Stage(), Failing(what)
    stage.collapsing.serve(stage.requests(1))
    stage.settle(stream)
    requests = stage.requests(2)
    other = stage.requests(1, DIFFERENT[1])
    stage.collapsing.serve([*requests, *other])
    if what == "take_places":  # nothing was done: the application can be asked
        assert stage.asked == [*requests, *other]
    else:
        assert stage.asked == other
        assert stage.given == requests
        assert all(cast("Closable", request.sock).closed for request in requests)
    assert "Traceback" in caplog.text


# In a server


class Counting(ServerController):
    """A controller of one's own, made of ours."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with Served(monkeypatch) as served:
        yield served


class Served:
    """The application and its server in this process, with a count of how often it is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._monkeypatch = monkeypatch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(
        self, section: Mapping[str, str] = MappingProxyType({}), *, wrap: Any = lambda app: app,
        collapse: bool = True,
    ) -> None:  # fmt: skip
        original = PublicFirst.__call__

        def counted(app: PublicFirst, environ: Any, start_response: Any) -> Any:
            self.calls += 1
            return original(app, environ, start_response)

        self._monkeypatch.setattr(PublicFirst, "__call__", counted)
        app = make_app(
            {}, **{"push.boundary": "test", "feed.clock": "pushdemo.feeds:clock", **section}
        )
        self.server = Server(listen(("127.0.0.1", 0), 128))
        self.server.serve_application(wrap(app), collapse=collapse)
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self._stack.callback(thread.join, HANG)
        self._stack.callback(self.server.stop)

    def connect(self, *headers: str, target: str = "/server/index") -> Reader:
        lines = (f"GET {target} HTTP/1.1", "Host: a", *headers, "", "")
        reader = Reader(self.server.address, "\r\n".join(lines).encode())
        self._stack.enter_context(reader)
        return reader

    def settle(self) -> None:
        """Wait until no worker is at work, not even on what its client has already."""
        until(lambda: not self.server.busy, "the workers to be idle")

    def crowd(self, count: int) -> list[Reader]:
        return [self.connect(f"Cookie: number={number}") for number in range(count)]


def heads(readers: Sequence[Reader]) -> list[tuple[int, dict[str, str]]]:
    return [reader.head() for reader in readers]


def test_a_crowd_asks_the_application_but_a_few_times(served: Served) -> None:
    served.start()
    first = served.connect().open()
    text = first.text()
    served.settle()
    crowd = served.crowd(50)
    assert {reader.open().text() for reader in crowd} == {text}
    assert served.calls == 1


def test_different_formats_stay_different(served: Served) -> None:
    served.start()
    accepts = ["text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace", "*/*"]
    for _ in range(5):
        readers = [served.connect(f"Accept: {accept}") for accept in accepts]
        types = [headers["content-type"].partition(";")[0] for _, headers in heads(readers)]
        assert types == [*accepts[:3], accepts[2]]
        served.settle()
    assert served.calls == 4


def test_each_resumes_from_where_it_was(served: Served) -> None:
    served.start({"feed.clock.history": "1000", "feed.clock.interval": "0.05"})
    with contextlib.closing(served.connect("Accept: application/x-ndjson")) as reader:
        reader.head()
        ids = [json.loads(reader.line())["id"] for _ in range(3)]
        for number in range(10):
            seen = ids[number % 2]
            other = served.connect("Accept: application/x-ndjson", f"Last-Event-ID: {seen}")
            assert other.head()[0] == 200
            assert json.loads(other.line())["id"] == ids[number % 2 + 1]
            served.settle()
    assert served.calls == 3


def test_one_stream_too_many_is_told_so_by_the_application(served: Served) -> None:
    served.start({"push.max_streams": "5"})
    statuses = sorted(status for status, _ in heads(served.crowd(8)))
    assert statuses == [200] * 5 + [503] * 3


def test_places_are_free_again(served: Served) -> None:
    served.start({"push.max_streams": "5"})
    crowd = served.crowd(5)
    heads(crowd)
    for reader in crowd:
        reader.close()

    def admitted() -> bool:
        with contextlib.closing(served.connect()) as reader:
            return reader.head()[0] == 200

    until(admitted, "a place")


class Guard:
    """A middleware that looks at each request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if "let-me-in" not in environ.get("HTTP_COOKIE", ""):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []
        return self._app(environ, start_response)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)  # as some do


class Guarded(Middleware):
    """The same, made of the application itself."""

    def __init__(self, app: Middleware) -> None:
        vars(self).update(vars(app))

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return Guard(super().__call__)(environ, start_response)


def guarded_without(app: Middleware) -> Middleware:
    """With one put around what `make_app` makes, and within the outermost."""
    app._app = Guard(app._app)
    return app


def guarded_within(app: Middleware) -> Middleware:
    """With one put where Pylons has it put."""
    app._app._app = Guard(app._app._app)
    return app


@pytest.mark.parametrize("guard", [Guard, Guarded, guarded_without, guarded_within])
def test_a_middleware_sees_every_request(served: Served, guard: Any) -> None:
    served.start(wrap=guard)
    allowed = served.connect("Cookie: let-me-in")
    assert allowed.head()[0] == 200
    assert served.connect("Cookie: a=b").head()[0] == 403
    assert served.connect().head()[0] == 403


@pytest.mark.parametrize("when", ["__before__", "__after__"])
def test_a_controller_with_something_around_its_actions_sees_every_request(
    served: Served, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    seen = []
    around = lambda self: seen.append(self)  # noqa: E731
    monkeypatch.setattr(ServerController, when, around, raising=False)
    served.start()
    assert {status for status, _ in heads(served.crowd(12))} == {200}
    assert len(seen) == 12


def test_so_does_one_made_of_ours(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Application, "_find", lambda self, variables: Counting)  # noqa: ARG005
    served.start()
    heads(served.crowd(12))
    assert served.calls == 12


def test_it_can_be_switched_off(served: Served) -> None:
    served.start(collapse=False)
    heads(served.crowd(12))
    assert served.calls == 12


def test_who_does_not_say_so_does_not_collapse() -> None:
    assert collapses(make_app({})) is not None
    assert collapses(lambda environ, start_response: []) is None  # noqa: ARG005


@pytest.mark.usefixtures("in_c")
def test_a_thousand_at_once_have_the_same_event(tmp_path: Path) -> None:
    with contextlib.closing(Paster(tmp_path)) as paster, contextlib.ExitStack() as stack:
        request = b"GET /server/index HTTP/1.1\r\nHost: a\r\nCookie: number=%d\r\n\r\n"
        readers = [
            stack.enter_context(Reader(paster.address, request % number)) for number in range(1000)
        ]
        texts = [reader.open().text() for reader in readers]
        assert len(set(texts)) <= 2  # a beat may come between
