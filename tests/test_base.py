"""What an action may do and return: as in Pylons."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from mako.lookup import TemplateLookup
from paste.registry import RegistryManager
from routes import Mapper
from routes.middleware import RoutesMiddleware
from webob import Response
from webob.exc import HTTPForbidden

from pushdemo.config.environment import PACKAGE
from pushdemo.lib.application import Application
from pushdemo.lib.base import (
    BaseController,
    StartResponse,
    abort,
    app_globals,
    redirect,
    render,
    request,
    response,
    url,
)
from tests.asking import Answer, ask

App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Serve = Callable[[type[BaseController]], App]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Makes an application of one controller, `page`, with templates from tmp_path."""

    def serve(controller: type[BaseController]) -> App:
        module = ModuleType("of_a_test.page")
        vars(module)["PageController"] = controller
        monkeypatch.setitem(sys.modules, "of_a_test.page", module)

        routes = Mapper(controller_scan=lambda: ["page"])
        routes.minimization = False
        routes.connect("/{controller}", action="index")
        routes.connect("/{controller}/{action}")
        routes.connect("/{controller}/{action}/{id}")
        routes.connect("/d/{action}", controller="page", id=None)
        routes.connect("short", "/s/{id}", controller="page", action="show", kind="short")

        lookup = TemplateLookup([str(tmp_path), str(PACKAGE / "templates")], default_filters=["h"])
        app: App = RegistryManager(
            RoutesMiddleware(
                Application("of_a_test", SimpleNamespace(mako_lookup=lookup, name="globals")),
                routes,
                use_method_override=False,
                singleton=False,
            )
        )
        return app

    return serve


# What an action returns


def test_text_is_the_body_in_utf_8(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> str:
            return "grüezi"

    assert ask(serve(Page), "/page") == (200, "grüezi")


def test_bytes_are_the_body(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> bytes:
            return b"\x00\xff"

    assert Answer(serve(Page), "/page").read() == b"\x00\xff"


def test_text_and_bytes_are_added_to_what_was_written(serve: Serve) -> None:
    class Page(BaseController):
        def text(self) -> str:
            response.write("one, ")
            return "two"

        def bytes(self) -> bytes:
            response.write("one, ")
            return b"two"

    assert ask(serve(Page), "/page/text") == (200, "one, two")
    assert ask(serve(Page), "/page/bytes") == (200, "one, two")


def test_none_leaves_the_response_as_the_action_made_it(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            response.status_int = 201
            response.write("made")

    assert ask(serve(Page), "/page") == (201, "made")


def test_the_response_itself_may_be_returned(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Any:
            response.set_cookie("who", "me")
            response.write("made")
            return response

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers.getall("Set-Cookie") == ["who=me; Path=/"]
        assert answer.read() == b"made"


def test_a_list_is_iterated(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> list[bytes]:
            return [b"a", b"b"]

    assert ask(serve(Page), "/page") == (200, "ab")


def test_a_generator_is_sent_piece_by_piece(serve: Serve) -> None:
    made = []

    class Page(BaseController):
        def index(self) -> Iterator[bytes]:
            for piece in (b"a", b"b"):
                made.append(piece)
                yield piece

    with Answer(serve(Page), "/page") as answer:
        assert made == []
        assert next(answer) == b"a"
        assert made == [b"a"]
        assert next(answer) == b"b"


def test_text_from_a_generator_is_sent_in_the_response_s_charset(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Iterator[str | bytes]:
            response.charset = "latin-1"
            return iter(["ü", b"\xfc"])

    assert Answer(serve(Page), "/page").read() == b"\xfc\xfc"


def test_text_from_a_generator_of_no_charset_is_sent_as_utf_8(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Iterator[str]:
            response.headers["Content-Type"] = "multipart/x-mixed-replace;boundary=b"
            return iter(["ü"])

    assert Answer(serve(Page), "/page").read() == "ü".encode()


def test_closing_the_answer_closes_the_generator(serve: Serve) -> None:
    closed = []

    class Page(BaseController):
        def index(self) -> Iterator[str]:
            try:
                yield "a"
                yield "b"
            finally:
                closed.append(True)

    with Answer(serve(Page), "/page") as answer:
        next(answer)
        assert not closed
    assert closed


def test_what_is_iterable_and_no_iterator_reaches_the_server_as_it_is(serve: Serve) -> None:
    # A server knows a Stream by its type.
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

    class Page(BaseController):
        def index(self) -> Body:
            return Body()

    def server(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        body = serve(Page)(environ, start_response)
        assert type(body) is Body
        return body

    assert ask(server, "/page") == (200, "a")


def test_a_response_takes_the_place_of_the_one_that_was_there(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Response:
            response.write("not this")
            return Response("this", status=202, content_type="text/plain")

    with Answer(serve(Page), "/page") as answer:
        assert answer.status == 202
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.read() == b"this"


def test_a_response_that_is_returned_gets_the_headers_it_does_not_have_itself(
    serve: Serve,
) -> None:
    class Page(BaseController):
        def index(self) -> Response:
            response.set_cookie("who", "me")
            response.headers["X-Mine"] = "first"
            response.headers["X-Other"] = "kept"
            answer = Response("this", content_type="text/plain")
            answer.headers["X-Mine"] = "second"
            return answer

        def __after__(self) -> None:
            response.headers["X-After"] = "reached it"

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers["X-Mine"] == "second"
        assert answer.headers["X-Other"] == "kept"
        assert answer.headers["X-After"] == "reached it"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Set-Cookie"] == "who=me; Path=/"
        assert answer.headers["Content-Length"] == "4"
        assert answer.headers["Content-Type"] == "text/plain; charset=UTF-8"


def test_an_action_may_call_another_wsgi_application(serve: Serve) -> None:
    def other(_: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("203 Non-Authoritative Information", [("Content-Type", "text/plain")])
        return [b"from another"]

    class Page(BaseController):
        def index(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
            return other(environ, start_response)

    assert ask(serve(Page), "/page") == (203, "from another")


# The response's headers


def test_no_answer_is_kept_by_caches_unless_its_action_says_so(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> str:
            return ""

        def kept(self) -> str:
            del response.headers["Pragma"]
            response.headers["Cache-Control"] = "max-age=60"
            return ""

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Pragma"] == "no-cache"
        assert answer.headers["Content-Type"] == "text/html; charset=UTF-8"
    with Answer(serve(Page), "/page/kept") as answer:
        assert answer.headers["Cache-Control"] == "max-age=60"
        assert "Pragma" not in answer.headers


def test_the_seed_s_spelling_of_the_content_type_goes_out_as_it_is(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Iterator[bytes]:
            response.headers["Content-type"] = "multipart/x-mixed-replace;boundary=test"
            return iter([b""])

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers.getall("Content-Type") == ["multipart/x-mixed-replace;boundary=test"]


def test_a_head_request_gets_the_headers_and_the_generator_never_runs(serve: Serve) -> None:
    started = []

    class Page(BaseController):
        def index(self) -> Iterator[str]:
            response.headers["X-Mine"] = "there"
            return self._pieces()

        def _pieces(self) -> Iterator[str]:
            started.append(True)
            yield "a"

    with Answer(serve(Page), "/page", "HEAD") as answer:
        assert answer.headers["X-Mine"] == "there"
        assert answer.read() == b""
    assert not started


# Before and after


def test_before_runs_before_the_action_and_after_when_it_has_returned(serve: Serve) -> None:
    order = []

    class Page(BaseController):
        def __before__(self) -> None:
            order.append("before")

        def __after__(self) -> None:
            order.append("after")

        def index(self) -> str:
            order.append("action")
            return ""

    ask(serve(Page), "/page")
    assert order == ["before", "action", "after"]


def test_after_runs_before_the_first_value_of_a_generator(serve: Serve) -> None:
    order = []

    class Page(BaseController):
        def __after__(self) -> None:
            order.append("after")

        def index(self) -> Iterator[str]:
            order.append("first value")
            yield ""

    ask(serve(Page), "/page")
    assert order == ["after", "first value"]


def test_after_may_change_the_headers_of_what_the_action_returned(serve: Serve) -> None:
    class Page(BaseController):
        def __after__(self) -> None:
            response.headers["X-After"] = "yes"

        def index(self) -> Iterator[str]:
            yield ""

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers["X-After"] == "yes"


def test_before_and_after_get_the_route_s_variables_by_name(serve: Serve) -> None:
    seen = []

    class Page(BaseController):
        def __before__(self, id: str) -> None:  # noqa: A002
            seen.append(id)

        def __after__(self, action: str) -> None:
            seen.append(action)

        def show(self) -> str:
            return ""

    ask(serve(Page), "/page/show/7")
    assert seen == ["7", "show"]


def test_an_abort_in_before_is_the_answer_and_nothing_else_runs(serve: Serve) -> None:
    # After is for what before began, and would find it missing.
    ran = []

    class Page(BaseController):
        def __before__(self) -> None:
            abort(403, "Not you.")

        def index(self) -> None:
            ran.append("action")

        def __after__(self) -> None:
            ran.append("after")

    assert ask(serve(Page), "/page") == (403, "403 Forbidden\n\nNot you.\n")
    assert ran == []


def test_after_runs_when_the_action_aborts(serve: Serve) -> None:
    ran = []

    class Page(BaseController):
        def index(self) -> None:
            abort(410)

        def __after__(self) -> None:
            ran.append("after")

    assert ask(serve(Page), "/page")[0] == 410
    assert ran == ["after"]


def test_an_abort_in_after_is_the_answer(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> str:
            return "unseen"

        def __after__(self) -> None:
            abort(409, "Too late.")

    assert ask(serve(Page), "/page") == (409, "409 Conflict\n\nToo late.\n")


# Arguments


def test_an_action_gets_what_it_has_parameters_for(serve: Serve) -> None:
    class Page(BaseController):
        def show(self, kind: str, id: str, size: str = "its default") -> str:  # noqa: A002
            return f"{kind} {id} {size}"

        def all(self, **variables: object) -> str:
            return " ".join(sorted(variables))

        def path(self, environ: dict[str, Any]) -> str:
            return str(environ["PATH_INFO"])

    app = serve(Page)
    assert ask(app, "/s/7") == (200, "short 7 its default")
    assert ask(app, "/page/all/7") == (200, "action controller environ id start_response")
    assert ask(app, "/page/path") == (200, "/page/path")


def test_an_argument_that_the_address_does_not_have_is_a_404_that_names_it(serve: Serve) -> None:
    class Page(BaseController):
        def show(self, id: str) -> str:  # noqa: A002
            return id

    status, text = ask(serve(Page), "/page/show")
    assert status == 404
    assert text.endswith("This address wants more: its id is missing.\n")


def test_a_route_s_default_may_be_none(serve: Serve) -> None:
    class Page(BaseController):
        def show(self, id: str | None) -> str:  # noqa: A002
            return repr(id)

    assert ask(serve(Page), "/d/show") == (200, "None")


@pytest.mark.parametrize("word", ["grüße", "日本", "a b", "<&>"])
def test_a_variable_of_the_address_is_text(serve: Serve, word: str) -> None:
    class Page(BaseController):
        def show(self, id: str) -> str:  # noqa: A002
            return id

    assert ask(serve(Page), "/page/show/" + quote(word)) == (200, word)


def test_bytes_in_an_address_that_are_no_utf_8_are_replaced(serve: Serve) -> None:
    class Page(BaseController):
        def show(self, id: str) -> str:  # noqa: A002
            return id

    assert ask(serve(Page), "/page/show/%ff") == (200, "\ufffd")


# Actions


@pytest.mark.parametrize(
    "name", ["missing", "_private", "-private", "__init__", "__call__", "text"]
)
def test_what_is_no_public_method_is_no_action(serve: Serve, name: str) -> None:
    class Page(BaseController):
        text = "not a method"

        def _private(self) -> str:
            return "secret"

    status, text = ask(serve(Page), f"/page/{name}")
    assert status == 404
    assert "There is no action" in text


def test_a_dash_in_an_address_is_an_underscore_in_the_action_s_name(serve: Serve) -> None:
    class Page(BaseController):
        def of_words(self) -> str:
            return "found"

    assert ask(serve(Page), "/page/of-words") == (200, "found")


# abort, redirect, url, render, app_globals


def test_abort_sends_its_headers(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            abort(503, "Later.", [("Retry-After", "5")])

    with Answer(serve(Page), "/page") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"


def test_abort_knows_the_status_codes_that_webob_does_not(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            abort(426, "Later.", [("Upgrade", "websocket")])

    with Answer(serve(Page), "/page") as answer:
        assert answer.status == 426
        assert answer.headers["Upgrade"] == "websocket"


def test_an_error_keeps_the_response_s_cookies(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            response.set_cookie("one", "1")
            response.set_cookie("two", "2")
            response.headers["Content-Type"] = "image/png"
            abort(404)

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers.getall("Set-Cookie") == ["one=1; Path=/", "two=2; Path=/"]
        assert answer.headers["Content-Type"] == "text/plain; charset=UTF-8"


def test_no_error_is_kept_by_caches(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            abort(404)

    with Answer(serve(Page), "/page") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"


def test_an_error_of_webob_s_is_answered_in_the_same_way(serve: Serve) -> None:
    class Page(BaseController):
        def raised(self) -> None:
            raise HTTPForbidden("No.")

        def returned(self) -> HTTPForbidden:
            return HTTPForbidden("No.")

        def of_its_own(self) -> None:
            raise HTTPForbidden(text="Mine.")

    app = serve(Page)
    assert ask(app, "/page/raised") == (403, "403 Forbidden\n\nNo.\n")
    assert ask(app, "/page/returned") == (403, "403 Forbidden\n\nNo.\n")
    assert ask(app, "/page/of-its-own") == (403, "Mine.")


def test_redirect_sends_the_client_to_what_url_made(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            redirect(url("short", id="7"))

        def moved(self) -> None:
            redirect("/elsewhere", 301)

    with Answer(serve(Page), "/page") as answer:
        assert answer.status == 302
        assert answer.headers["Location"] == "http://localhost/s/7"
        assert b"http://localhost/s/7" in answer.read()
    with Answer(serve(Page), "/page/moved") as answer:
        assert answer.status == 301
        assert answer.headers["Location"] == "http://localhost/elsewhere"


def test_a_not_modified_has_no_body_and_no_type(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> None:
            abort(304)

    with Answer(serve(Page), "/page") as answer:
        assert answer.status == 304
        assert "Content-Type" not in answer.headers
        assert answer.read() == b""


def test_a_template_sees_its_variables_and_the_names_of_controllers(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "hello.mako").write_text(
        "${name}, ${request.path}, ${url(controller='page', action='index')}, ${app_globals.name}"
    )

    class Page(BaseController):
        def index(self) -> str:
            return render("/hello.mako", {"name": "<you>"})

    expected = "&lt;you&gt;, /page, /page, globals"
    assert ask(serve(Page), "/page") == (200, expected)


def test_app_globals_is_what_the_application_was_given(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> str:
            return str(app_globals.name)

    assert ask(serve(Page), "/page") == (200, "globals")


def test_the_request_is_over_when_a_generator_runs(serve: Serve) -> None:
    class Page(BaseController):
        def index(self) -> Iterator[str]:
            yield request.path

    with (
        Answer(serve(Page), "/page") as answer,
        pytest.raises(TypeError, match="No object"),
    ):
        next(answer)


# Error pages


class Failing(BaseController):
    def index(self) -> None:
        abort(418 if request.GET.get("tea") else 404, "Use <b> & not <i>.")

    def plain(self) -> None:
        abort(404)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/plain"])
def test_a_program_gets_an_error_as_plain_text(serve: Serve, accept: str | None) -> None:
    with Answer(serve(Failing), "/page", **({"Accept": accept} if accept else {})) as answer:
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "text/plain; charset=UTF-8"
        assert answer.read() == b"404 Not Found\n\nUse <b> & not <i>.\n"


def test_a_browser_gets_an_error_as_a_page_with_the_text_escaped(serve: Serve) -> None:
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    with Answer(serve(Failing), "/page", Accept=accept) as answer:
        assert answer.status == 404
        assert answer.headers["Content-Type"] == "text/html; charset=UTF-8"
        text = answer.read().decode()
    assert "<h1>404 Not Found</h1>" in text
    assert "<p>Use &lt;b&gt; &amp; not &lt;i&gt;.</p>" in text


def test_an_error_of_no_detail_is_explained(serve: Serve) -> None:
    _, text = ask(serve(Failing), "/page/plain")
    assert text == "404 Not Found\n\nThe resource could not be found.\n"


def test_an_error_answers_a_head_request_with_headers_alone(serve: Serve) -> None:
    assert ask(serve(Failing), "/page", "HEAD") == (404, "")
