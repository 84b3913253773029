"""Publishing a value from outside, to a feed that is declared `feed.NAME = push`."""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import SplitResult, quote, urlsplit

from pushdemo.client.errors import Disconnected, Refused

TIMEOUT = 30.0
TRIES = 3
PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two of them


def publish(
    url: str,
    feed: str,
    value: bytes,
    *,
    content_type: str,
    token: str,
    key: str | None = None,
    tries: int = TRIES,
    timeout: float = TIMEOUT,
) -> str:
    """Publish a value, and return the id of its event.

    url: the server's, http or https; what path it has stands before /server/publish.
    content_type: what the value is: `text/plain`, `application/json`, an image's, …
    token: what the server's push.token says.
    key: names this value: sent again with the same, it is one event. By default a random one, for
        this call.
    tries: how often it is sent, where the connection fails or the server cannot pass it on now.
    timeout: seconds for the connection, and for the answer.

    Raises ValueError for a URL that is none, Refused where the server will not have it, and
    Disconnected where it cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http or https URL")
    headers = {
        "Content-Type": content_type,
        "Authorization": f"Bearer {token}",
        "Idempotency-Key": secrets.token_hex(16) if key is None else key,
    }
    target = f"{parts.path.rstrip('/')}/server/publish/{quote(feed, safe='')}"
    for left in reversed(range(tries)):
        try:
            return _publish(parts, target, value, headers, timeout)
        except Disconnected as error:
            if not left:
                raise
            time.sleep(min(max(PAUSE, error.after), LONGEST_PAUSE))
    raise ValueError(f"tries={tries}: this must be at least 1")


def _publish(
    url: SplitResult, target: str, value: bytes, headers: Mapping[str, str], timeout: float
) -> str:
    assert url.hostname is not None
    secure = url.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(url.hostname, url.port, timeout=timeout)
    try:
        connection.request("POST", target, value, dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise Disconnected(f"{url.geturl()} cannot be reached: {error}") from error
    finally:
        connection.close()
    if answer.status == HTTPStatus.OK:
        return text
    refused = Refused(answer.status, answer.reason, text)
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        after = answer.getheader("Retry-After", "")
        raise Disconnected(str(refused), float(after) if after.isascii() and after.isdigit() else 0)
    raise refused
