"""What who runs an application asks: /status, /metrics, /healthz and /readyz."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pushdemo.lib.addresses import reference
from pushdemo.push.exposition import METRICS
from pushdemo.push.response import Response
from pushdemo.push.status import STATUS
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.responder import WsgiResponse, error_response, whole

if TYPE_CHECKING:
    from pushdemo.library import Push

StartResponse = Callable[..., Any]


class Monitor:
    """A WSGI application, to be mounted anywhere; or around another, which has all other paths.

    status: at /status, how the processes are: JSON once for who takes anything, a page for a
        browser, and streams of it. For whom `push.status` names.
    metrics: the figures for Prometheus, for the same.
    healthz: 200 where the threads that serve all feeds and streams run, or have not been needed
        yet; 503 where one has ended, and the process is to be restarted. What a process does not
        hold, it does not answer for.
    readyz: 200 where a stream can begin; 503, and why not. A broker that is away is no reason: open
        pages keep what they have, and no other machine is better off.
    """

    def __init__(self, push: Push, app: Any = None) -> None:
        self._push = push
        self.app = app
        self._answers: dict[str, Callable[[dict[str, Any]], WsgiResponse]] = {
            "/status": self._status,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._readiness,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answer = self._answers.get(environ.get("PATH_INFO", ""))
        if answer is not None:
            response = answer(environ)
        elif self.app is not None:
            return self.app(environ, start_response)  # type: ignore[no-any-return]
        else:
            there = ", ".join(path[1:] for path in self._answers)
            response = whole(error_response(RequestError(404, f"There is: {there}.")))
        start_response(response.status, response.headers)
        return response.body

    def _status(self, environ: dict[str, Any]) -> WsgiResponse:
        if environ.get("HTTP_ACCEPT", "*/*") == "*/*":
            environ["HTTP_ACCEPT"] = "application/json"
        return self._feed(environ, STATUS)

    def _metrics(self, environ: dict[str, Any]) -> WsgiResponse:
        return self._feed(environ, METRICS)

    def _feed(self, environ: dict[str, Any], name: str) -> WsgiResponse:
        # The files of a page are there where the pages are.
        base = None if self.app is None else reference(environ, "/")
        try:
            return self._push.answer(environ, name, base=base)
        except RequestError as error:
            return whole(error_response(error))

    def _health(self, _: dict[str, Any]) -> WsgiResponse:
        return _said(self._push.ended() if self._push.holds_streams else [])

    def _readiness(self, _: dict[str, Any]) -> WsgiResponse:
        return _said(self._push.readiness())


def _said(complaints: list[str]) -> WsgiResponse:
    status = "503 Service Unavailable" if complaints else "200 OK"
    body = "".join(f"{one}\n" for one in complaints or ["ok"]).encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    return whole(Response(status, headers, body))
