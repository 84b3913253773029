"""What a controller's action does to answer with feeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pushdemo.lib.addresses import reference
from pushdemo.lib.base import abort, app_globals, response
from pushdemo.wsgi.errors import RequestError


def stream(
    environ: dict[str, Any], feeds: str | None, *, shareable: bool = False
) -> Iterable[bytes] | None:
    """Make `response` the answer to a request for feeds; returns what the action is to return.

    feeds: their names, `a+b`; None for the first.
    shareable: whether equal requests have the same response.
    """
    base = reference(environ, "/")
    try:
        answer = app_globals.push.answer(environ, feeds, shareable=shareable, base=base)
    except RequestError as error:
        abort(error.status, error.detail, error.headers)
    response.status = answer.status
    for name in ("Content-Type", "Content-Length", "Pragma"):  # Pylons' defaults
        response.headers.pop(name, None)
    response.headers.update(answer.headers)
    if not isinstance(answer.body, list):
        return answer.body  # type: ignore[no-any-return]
    if answer.body:
        response.body = b"".join(answer.body)
    return None
