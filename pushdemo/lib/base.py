"""The base controller, and the names that controllers work with: what Pylons gave them.

`request`, `response`, `url` and `app_globals` are proxies: in each thread they stand for those of
the request that it is serving. They end with the application's call, and so before a generator
that an action returned has run; what that needs, the action takes out of them first.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from paste.registry import StackedObjectProxy

from pushdemo.push.shorten import shorten
from pushdemo.wsgi.web import HTTPException, HTTPNotFound, Response, WSGIHTTPException, status_map

__all__ = ["BaseController", "abort", "app_globals", "redirect", "render", "request", "response",
           "url"]  # fmt: skip

StartResponse = Callable[..., Any]

app_globals = StackedObjectProxy(name="app_globals")
request = StackedObjectProxy(name="request")
response = StackedObjectProxy(name="response")
url = StackedObjectProxy(name="url")


def abort(
    status_code: int, detail: str = "", headers: Iterable[tuple[str, str]] | None = None
) -> NoReturn:
    """End the action with an error page. `detail` says what to do about it."""
    raise _error_of(status_code)(detail=detail, headers=headers)


def _error_of(status_code: int) -> type[WSGIHTTPException]:
    """The class of an HTTP error; made here for those that WebOb has none for, such as 426."""
    kind: type[WSGIHTTPException] | None = status_map.get(status_code)
    if kind is not None:
        return kind
    status = HTTPStatus(status_code)
    members = {"code": status.value, "title": status.phrase, "explanation": status.description}
    return type(f"HTTP{status.value}", (WSGIHTTPException,), members)


def redirect(location: str, code: int = HTTPStatus.FOUND) -> NoReturn:
    """End the action by sending the client to `location`, most often one made by `url(…)`."""
    raise status_map[code](location=location)


def render(template_name: str, extra_vars: Mapping[str, object] | None = None) -> str:
    """The Mako template of that name (`/page.mako`), which sees the names above and `extra_vars`.

    Raises mako.exceptions.TopLevelLookupException for a template that is not there.
    """
    template = app_globals.mako_lookup.get_template(template_name)
    names = {"app_globals": app_globals, "request": request, "response": response, "url": url}
    rendered: str = template.render(**names, **(extra_vars or {}))
    return rendered


def explain(error: HTTPException) -> Response:
    """An HTTP error as the page to send: HTML where the client asks for it by name, as browsers
    do, and plain text for all others."""
    assert isinstance(error, WSGIHTTPException)  # all of webob.exc's are; its base class is not
    if not (error.empty_body or error.location or error.has_body):
        names = {"status": error.status, "detail": error.detail or error.explanation}
        if "text/html" in request.headers.get("Accept", ""):
            error.content_type = "text/html"
            error.text = render("/error.mako", names)
        else:
            error.content_type = "text/plain"
            error.text = "{status}\n\n{detail}\n".format(**names)
    return _completed(error)


class BaseController:
    """A controller: each public method is an action, called with those of the route's variables
    (and `environ`, `start_response`) that it has parameters for.

    What an action may return is what Pylons let it: text or bytes, which are added to the
    response's body; None, for a response that is complete; a WebOb response in place of it; what
    another WSGI application returned, called with `environ` and `start_response`; and anything
    else is the body, to be iterated. `__before__` runs before the action, `__after__` when it has
    returned: for a generator, before its first value.
    """

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        started = False

        def start(*arguments: Any) -> Any:
            nonlocal started
            started = True
            return start_response(*arguments)

        # PEP 3333 has bytes as latin-1 in the path, and Routes leaves them so. (A route's own
        # default may be None.)
        variables = {
            name: value and value.encode("latin-1").decode("utf-8", "replace")
            for name, value in environ["wsgiorg.routing_args"][1].items()
        }
        known = {**variables, "environ": environ, "start_response": start}
        action = self._action(variables["action"])
        self._call(getattr(self, "__before__", None), known)
        try:
            result = self._call(action, known)
        except HTTPException as error:
            result = error  # and `__after__` runs all the same
        if not started:
            _respond_with(result)
        self._call(getattr(self, "__after__", None), known)
        if not started:
            result = response._current_obj()(environ, start_response)
        body: Iterable[bytes] = result
        return body

    def _action(self, name: str) -> Callable[..., Any]:
        name = name.replace("-", "_")
        action = None if name.startswith("_") else getattr(self, name, None)
        if not callable(action):
            raise HTTPNotFound(f"There is no action '{shorten(name)}' here.")
        return action  # type: ignore[no-any-return]

    def _call(self, function: Callable[..., Any] | None, known: Mapping[str, object]) -> Any:
        if function is None:
            return None
        parameters = _parameters(function)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return function(**known)
        wanted = {p.name: known[p.name] for p in parameters if p.name in known}
        missing = [
            p.name for p in parameters if p.default is p.empty and p.name not in known
            and p.kind is not p.VAR_POSITIONAL
        ]  # fmt: skip
        if missing:
            raise HTTPNotFound(f"This address wants more: its {missing[0]} is missing.")
        return function(**wanted)


def _parameters(method: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    function = getattr(method, "__func__", None)
    # Asked of the function, which stays, so that the answer can be kept: it takes as long as the
    # rest of a request's way through here.
    return _signature(method) if function is None else _signature(function)[1:]


@functools.lru_cache
def _signature(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


def _respond_with(result: Any) -> None:
    """Make `response` what an action's result says."""
    current = response._current_obj()
    if isinstance(result, HTTPException):
        request.environ["paste.registry"].replace(response, explain(result))
    elif isinstance(result, Response):
        request.environ["paste.registry"].replace(response, _completed(result))
    elif isinstance(result, str):
        current.text += result
    elif isinstance(result, bytes):
        current.body += result
    elif isinstance(result, Iterator):
        current.app_iter = _Encoded(result, current.charset)
    elif result is not None and result is not response:
        # Not looked into: the server may know it for what it is.
        current.app_iter = result


def _completed(answer: Response) -> Response:
    """An answer that takes the response's place, with what was set there: its cookies, and those
    of its headers that the answer does not have itself. As in Pylons; but what describes a body
    stays with that body."""
    for name, value in response.headers.items():
        if name.lower() == "set-cookie":
            answer.headers.add(name, value)
        elif not name.lower().startswith("content-"):
            answer.headers.setdefault(name, value)
    return answer


class _Encoded(Iterator[bytes]):
    """An action's iterator, whose text is encoded: where Pylons was written, text was bytes."""

    def __init__(self, pieces: Iterator[str | bytes], charset: str | None) -> None:
        self._pieces = pieces
        self._charset = charset or "utf-8"

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        return piece.encode(self._charset) if isinstance(piece, str) else piece

    def close(self) -> None:
        if hasattr(self._pieces, "close"):
            self._pieces.close()
