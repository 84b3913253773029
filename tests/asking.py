"""Asks a WSGI application in process, under a checker of PEP 3333.

WebTest's TestApp reads a response to its end, and ours need not have one.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from webob import Request
from webob.headers import ResponseHeaders
from webtest import lint


class Answer:
    """The response to a request that was made just now; close it, as a server does."""

    def __init__(self, app: Any, path: str, method: str = "GET", **headers: str) -> None:
        # As of a server with threads: one that has a single thread is given no stream.
        environ: Any = {"wsgi.multithread": True}
        request = Request.blank(path, environ=environ, method=method, headers=headers)
        status, header_list, self._body = request.call_application(lint.middleware(app))
        self.status = int(status.split()[0])
        self.headers = ResponseHeaders(header_list)

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> bytes:
        """What the application sends next."""
        return next(iter(self._body))

    def close(self) -> None:
        self._body.close()  # type: ignore[attr-defined]  # the checker has it

    def read(self) -> bytes:
        """All there is, after which it is closed."""
        with self:
            return b"".join(self._body)


def ask(app: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """The status and the text of a response that ends."""
    answer = Answer(app, path, method, **headers)
    return answer.status, answer.read().decode()
