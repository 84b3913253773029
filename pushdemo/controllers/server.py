"""/server/index: the feeds, in whatever format a client wants them."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pushdemo.handover.client import BroadcasterAway, HandoverLost
from pushdemo.lib.addresses import reference
from pushdemo.lib.base import BaseController, abort, app_globals, request, response
from pushdemo.push.broker.protocol import BrokerError
from pushdemo.push.compute.payload import UnknownType
from pushdemo.push.shorten import shorten
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.request import check_lengths

log = logging.getLogger(__name__)

RETRY_AFTER = ("Retry-After", "1")
_CHALLENGE = ("WWW-Authenticate", "Bearer")


class ServerController(BaseController):
    """The seed's controller: one action, which streams."""

    def index(
        self,
        environ: dict[str, Any],
        id: str | None = None,  # noqa: A002  # the route's name for it
    ) -> Iterable[bytes] | None:
        """The feed called `id`, or several, `a+b`, or the first that is declared."""
        base = reference(environ, "/")
        try:
            answer = app_globals.push.answer(environ, id, shareable=self._is_plain(), base=base)
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

    def feeds(self) -> str:
        """The feeds there are, as JSON, for pages that show them: a list of objects with `name`,
        `url` and `type`.

        url: a reference (RFC 3986, section 4.1), which the client resolves against the address of
            this list. It is relative, because the application may be behind a prefix that it does
            not know.
        type: the media type of the newest value; null where there is none yet.
        """
        response.content_type = "application/json"
        response.headers.update(self._headers())
        return json.dumps(
            [
                {
                    "name": name,
                    "url": reference(request.environ, f"/server/index/{quote(name)}"),
                    "type": content_type,
                }
                for name, content_type in app_globals.push.types().items()
            ],
            ensure_ascii=False,
        )

    def publish(self, id: str) -> str:  # noqa: A002  # the route's name for it
        """A value from outside, for a feed that is declared `feed.NAME = push`."""
        self._check_publisher()
        pushed = [name for name, feed in app_globals.push.feeds.items() if feed.is_pushed]
        if id not in pushed:
            there = ", ".join(sorted(pushed)) or "none"
            abort(404, f"There is no feed '{shorten(id)}' to publish to. There is: {there}.")
        most = app_globals.push.settings.max_body
        if request.content_length is None:
            abort(411, "Send the value whole, with a Content-Length.")
        if request.content_length > most:
            abort(413, f"Send at most {most} bytes: see push.max_body.")
        try:
            event_id = app_globals.push.publish_body(
                id,
                request.headers.get("Content-Type", ""),
                request.body,
                key=request.headers.get("Idempotency-Key"),
            )
        except (BrokerError, BroadcasterAway, HandoverLost) as error:
            log.error("a value for feed %s is refused: %s", id, error)
            abort(503, "The value cannot be passed on at the moment.", [RETRY_AFTER])
        except OSError:  # the client left, and the server passes that on
            abort(400, "The value ended before its Content-Length.")
        except ValueError as error:
            abort(415 if isinstance(error, UnknownType) else 400, str(error))
        response.content_type = "text/plain"
        return f"{event_id}\n"

    @staticmethod
    def _check_publisher() -> None:
        settings = app_globals.push.settings
        if not settings.token:
            abort(404, "Nothing can be published here: push.token is not set.")
        if request.method != "POST":
            abort(405, "Publish with POST.", [("Allow", "POST")])
        try:
            check_lengths(request)
        except RequestError as error:
            abort(error.status, error.detail)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # In constant time, or the time it takes would tell how much of a guess is right.
        right = hmac.compare_digest(token.strip().encode(), settings.token.encode())
        if scheme.lower() != "bearer" or not right:
            abort(401, "Send Authorization: Bearer and the token.", [_CHALLENGE])

    def _is_plain(self) -> bool:
        """Whether nothing was added that may look at more of a request than is looked at here, or
        say more to its client."""
        return type(self) is ServerController and not (
            hasattr(self, "__before__") or hasattr(self, "__after__")
        )

    @staticmethod
    def _headers() -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = app_globals.push.headers(request.headers.get("Origin"))
        return headers
