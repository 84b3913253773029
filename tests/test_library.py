"""`Push`, as an application uses it, without any framework."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pushdemo import Push, UnknownFeed
from pushdemo.lib.memoize import memorize
from pushdemo.push.options import ConfigError
from pushdemo.push.stream import Stream
from pushdemo.wsgi.door import HEADER
from tests.asking import Answer, ask
from tests.servers import until


@pytest.fixture
def push() -> Iterator[Push]:
    push = Push()
    yield push
    assert push.engine.open_now == 0
    push.close()


def environ(accept: str = "application/json", **more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "",
        "HTTP_ACCEPT": accept,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        **more,
    }


def answered(push: Push, feeds: str | None = None, **more: Any) -> tuple[str, Any]:
    """The status and the JSON, or text, of a single answer."""
    status, headers, body = push.respond(environ(**more), feeds)
    text = b"".join(body).decode()
    assert dict(headers)["Content-Length"] == str(len(text.encode()))
    return status, json.loads(text) if "json" in dict(headers)["Content-Type"] else text


# Feeds


def test_a_decorated_function_is_a_feed_and_stays_a_function(push: Push) -> None:
    @push.feed
    def orders() -> int:
        return 42

    @push.feed(interval=60, duration=600, name="fünf")
    def five() -> int:
        return 5

    assert (orders(), five()) == (42, 5)
    assert list(push.feeds) == ["orders", "fünf"]
    assert (push.feeds["fünf"].interval, push.feeds["fünf"].duration) == (60, 600)
    assert answered(push) == ("200 OK", 42)
    assert answered(push, "fünf") == ("200 OK", 5)


def test_a_feed_may_be_declared_when_others_run_already(push: Push) -> None:
    push.feed(lambda: 1, name="one")
    assert answered(push, "one")[1] == 1
    push.feed(lambda: 2, name="two")
    assert answered(push, "two")[1] == 2


def test_anything_that_can_be_called_is_a_feed(push: Push) -> None:
    class Counter:
        def __call__(self) -> int:
            return 7

    push.feed(Counter(), name="counter")
    push.feed(Counter())
    assert list(push.feeds) == ["counter", "Counter"]
    assert answered(push, "Counter")[1] == 7


async def awaited() -> int:
    return 1


def generated() -> Iterator[int]:
    yield 1


def wants_more(region: str) -> str:
    return region


@pytest.mark.parametrize(
    ("function", "options", "complaint"),
    [
        (lambda: 1, {"interval": 0}, "feed.x.interval = 0: this must be a number of seconds"),
        (lambda: 1, {"history": -1}, "feed.x.history = -1: this must be a whole number"),
        (lambda: 1, {"repeat": "no!"}, "feed.x.repeat = no!: this must be true or false"),
        (lambda: 1, {"inteval": 1}, "feed.x.inteval: there is no such option; did you mean"),
        (lambda: 1, {"executor": "process"}, "feed.x.executor = process: .*<lambda> cannot be"),
        (awaited, {}, "feed.x: awaited is an async function"),
        (generated, {}, "feed.x: generated is a generator function"),
        (wants_more, {}, "missing a required argument: 'region'"),
    ],
)
def test_a_wrong_declaration_is_one_line(
    push: Push, function: Any, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        push.feed(function, name="x", **options)
    assert len(str(caught.value).splitlines()) == 1
    assert not push.feeds


def test_a_name_is_declared_once(push: Push) -> None:
    push.feed(lambda: 1, name="one")
    with pytest.raises(ConfigError, match="feed\\.one: there is a feed of this name already"):
        push.pushed_feed("one")
    with pytest.raises(ConfigError, match="cannot have this name"):
        push.pushed_feed("a+b")


def in_this_process() -> int:
    return os.getpid()


def test_a_feed_may_run_in_a_process_of_its_own(push: Push) -> None:
    push.feed(in_this_process, executor="process")
    _, pid = answered(push)
    assert pid != os.getpid()


# Options


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"heartbeat": 0}, "push.heartbeat = 0: this must be a number of seconds, more than 0"),
        ({"max_streams": "many"}, "push.max_streams = many: this must be a whole number"),
        ({"max_threads": -1}, "push.max_threads = -1: this must be a whole number of at least 0"),
        ({"boundary": "a b "}, "push.boundary: "),
        ({"hartbeat": 1}, "push.hartbeat: there is no such option; did you mean push.heartbeat?"),
        ({"broadcaster": "/run/x"}, "push.broadcaster = /run/x: "),
    ],
)
def test_a_wrong_option_is_named_as_in_an_ini(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Push(**options)
    assert str(caught.value).startswith(complaint)
    with pytest.raises(ConfigError) as same:
        Push.from_ini({f"push.{name}": str(value) for name, value in options.items()})
    assert str(same.value) == str(caught.value)


def test_a_list_is_a_list_of_origins() -> None:
    push = Push(cors=["https://a.example", "https://b.example"])
    headers = dict(push.headers("https://b.example"))
    assert headers["Access-Control-Allow-Origin"] == "https://b.example"


# Publishing


def test_a_published_value_reaches_who_watches(push: Push) -> None:
    push.pushed_feed("orders", history=3)
    push.publish("orders", {"open": 2})
    status, headers, body = push.respond(environ("application/x-ndjson"), "orders")
    assert (status, dict(headers)["Content-Type"]) == ("200 OK", "application/x-ndjson")
    assert isinstance(body, Stream)
    pieces = iter(body)
    assert json.loads(next(pieces))["value"] == {"open": 2}
    event_id = push.publish("orders", {"open": 3})
    assert json.loads(next(pieces))["id"] == event_id
    assert push.publish("orders", {"open": 4}) != event_id
    assert json.loads(next(pieces))["value"] == {"open": 4}
    body.close()


def test_a_published_value_of_a_computed_feed_is_good_for_its_duration(push: Push) -> None:
    calls = []
    push.feed(lambda: calls.append(1), name="orders", interval=0.05, duration=3600)
    push.publish("orders", "by hand")
    status, body = answered(push, "orders", accept="application/json")
    assert (status, body, calls) == ("200 OK", "by hand", [])


def test_what_cannot_be_published_is_an_error_of_who_publishes(push: Push) -> None:
    push.pushed_feed("orders")
    with pytest.raises(UnknownFeed, match="there is no feed 'others'; there is: orders"):
        push.publish("others", 1)
    with pytest.raises((TypeError, ValueError), match="object"):
        push.publish("orders", object())
    assert push.types() == {"orders": None}


def test_a_value_of_each_kind_has_its_type(push: Push) -> None:
    for name in ("text", "data", "picture"):
        push.pushed_feed(name)
    push.publish("text", "seven")
    push.publish("data", [7])
    push.publish("picture", (b"pixels", "image/png"))
    assert push.types() == {
        "text": "text/plain",
        "data": "application/json",
        "picture": "image/png",
    }


# Responses


def test_an_error_is_a_response(push: Push) -> None:
    assert answered(push) == (
        "404 Not Found",
        "404 Not Found\n\nNo feed is declared: decorate a function with push.feed, or add"
        " feed.NAME = package.module:function to the ini.\n",
    )
    push.pushed_feed("orders")
    status, text = answered(push, "others")
    assert status == "404 Not Found"
    assert "There is: orders" in text
    assert answered(push, "orders", accept="text/css;q=0")[0] == "406 Not Acceptable"
    assert answered(push, "orders", REQUEST_METHOD="POST")[0] == "405 Method Not Allowed"
    assert answered(push, "orders", QUERY_STRING="limit=x")[0] == "400 Bad Request"


def test_a_server_with_one_thread_is_given_no_stream(push: Push) -> None:
    push.pushed_feed("orders")
    push.publish("orders", 1)
    alone = {"wsgi.multithread": False}
    status, headers, body = push.respond(environ("text/event-stream", **alone), "orders")
    assert (status, dict(headers)["Retry-After"]) == ("503 Service Unavailable", "5")
    assert b"one request at a time" in b"".join(body)
    assert answered(push, "orders", **alone) == ("200 OK", 1)  # what needs no waiting


def test_threads_are_kept_for_other_requests() -> None:
    push = Push(max_threads=2)
    push.pushed_feed("orders")
    push.publish("orders", 1)
    streams = [push.respond(environ("text/event-stream"), "orders") for _ in range(2)]
    status, headers, body = push.respond(environ("text/event-stream"), "orders")
    assert (status, dict(headers)["Retry-After"]) == ("503 Service Unavailable", "5")
    assert b"at most 2 streams" in b"".join(body)
    streams[0].body.close()  # type: ignore[attr-defined]
    third = push.respond(environ("text/event-stream"), "orders")
    assert third.status == "200 OK"
    for one in (streams[1], third):
        one.body.close()  # type: ignore[attr-defined]
    assert push.engine.open_now == 0
    push.close()


def test_the_log_says_once_what_could_be_better(
    push: Push, caplog: pytest.LogCaptureFixture
) -> None:
    push.pushed_feed("orders")
    push.publish("orders", 1)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            environment = environ("text/event-stream", **{"wsgi.multiprocess": True})
            push.respond(environment, "orders").body.close()  # type: ignore[attr-defined]
    several, unwrapped = (record.getMessage() for record in caplog.records)
    assert "each computes all feeds by itself" in several
    assert "pushdemo run" in several
    assert "push.middleware" in unwrapped


# The application


def test_the_application_shows_all_feeds(push: Push) -> None:
    push.feed(lambda: {"open": 3}, name="orders")
    assert ask(push.application, "/server/index/orders?format=json") == (200, '{"open":3}\n')
    assert [feed["name"] for feed in json.loads(ask(push.application, "/server/feeds")[1])] == [
        "orders"
    ]
    assert ask(push.application, "/")[0] == 200
    with Answer(push.application, "/server/index/orders?format=sse") as answer:
        assert HEADER.lower() not in (name.lower() for name in answer.headers)
        assert b'data: {"open":3}' in next(answer)
    assert push.application is push.application


def test_an_application_of_one_s_own_around_respond(push: Push) -> None:
    push.feed(lambda: 42, name="orders")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        status, headers, body = push.respond(environ, environ["PATH_INFO"].removeprefix("/live/"))
        start_response(status, headers)
        return body

    wrapped = push.middleware(app)
    assert ask(wrapped, "/live/orders", Accept="application/json") == (200, "42\n")
    with Answer(wrapped, "/live/orders", Accept="text/event-stream") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert b"data: 42" in next(answer)
    # And without the middleware, with a thread.
    with Answer(app, "/live/orders", Accept="text/event-stream") as answer:
        assert b"data: 42" in next(answer)


# Processes


def test_nothing_runs_before_the_first_use() -> None:
    before = threading.active_count()
    push = Push()
    push.feed(lambda: 1, name="one")
    push.middleware(lambda *_: [])
    assert threading.active_count() == before
    assert push.respond(environ(), "one").status == "200 OK"
    push.close()


def test_a_process_that_was_forked_has_feeds_and_ids_of_its_own(push: Push) -> None:
    push.pushed_feed("orders")
    ours = push.publish("orders", 1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # the other process, which must not run the test's end
        try:
            theirs = push.publish("orders", 2)
            os.write(writing, theirs.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read().decode()
    os.waitpid(child, 0)
    assert theirs
    assert theirs.split("-")[0] != ours.split("-")[0]
    assert answered(push, "orders")[1] == 1


def test_a_fork_while_a_lock_is_held(push: Push) -> None:
    push.pushed_feed("orders")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with push._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        try:
            push.publish("orders", 2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    try:
        until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), "the child's end")
    finally:
        done.set()
        thread.join()


def test_a_fork_while_another_thread_computes() -> None:
    """What that computes would be waited for in the other process without end."""
    begun, done = threading.Event(), threading.Event()
    ours = os.getpid()

    @memorize(duration=3600)
    def slow() -> int:
        if os.getpid() == ours:
            begun.set()
            done.wait()
        return os.getpid()

    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        try:
            os._exit(0 if slow() == os.getpid() else 1)
        finally:
            os._exit(1)
    try:
        until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), "the child's end")
    finally:
        done.set()
        thread.join()
    assert slow() == ours


def test_who_only_watches_imports_no_web_framework() -> None:
    program = (
        "import sys, pushdemo.client, pushdemo.push.compute.executor\n"
        "assert 'webob' not in sys.modules and 'pushdemo.library' not in sys.modules\n"
        "from pushdemo import Push, UnknownFeed\n"
        "assert 'webob' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
