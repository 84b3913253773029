"""A response as the object that a framework's view returns. Each imports its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pushdemo.wsgi.responder import WsgiResponse

if TYPE_CHECKING:
    import flask as flask_package


def flask(response: WsgiResponse) -> flask_package.Response:
    """A flask.Response."""
    from flask import Response

    return Response(response.body, status=response.status, headers=response.headers)


def django(response: WsgiResponse) -> Any:
    """A django.http.HttpResponse; for a body that is not complete, a StreamingHttpResponse."""
    from django.http import HttpResponse, StreamingHttpResponse

    code, _, reason = response.status.partition(" ")
    kind: Any = HttpResponse if isinstance(response.body, list) else StreamingHttpResponse
    made = kind(response.body, status=int(code), reason=reason)
    for name, value in response.headers:
        made[name] = value
    return made


def pyramid(response: WsgiResponse) -> Any:
    """A pyramid.response.Response."""
    from pyramid.response import Response

    return Response(status=response.status, headerlist=response.headers, app_iter=response.body)
