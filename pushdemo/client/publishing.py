"""Publishing a value from outside, to a feed that is declared `feed.NAME = push`."""

from __future__ import annotations

import http.client
from urllib.parse import quote, urlsplit

from pushdemo.client.errors import Disconnected, Refused

TIMEOUT = 30.0


def publish(
    url: str, feed: str, value: bytes, *, content_type: str, token: str, timeout: float = TIMEOUT
) -> str:
    """Publish a value, and return the id of its event.

    url: the server's, http or https; what path it has stands before /server/publish.
    content_type: what the value is: `text/plain`, `application/json`, an image's, …
    token: what the server's push.token says.
    timeout: seconds for the connection, and for the answer.

    Raises ValueError for a URL that is none, Refused where the server will not have it, and
    Disconnected where it cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http or https URL")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {token}"}
    target = f"{parts.path.rstrip('/')}/server/publish/{quote(feed, safe='')}"
    try:
        connection.request("POST", target, value, headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise Disconnected(f"{url} cannot be reached: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(answer.status, answer.reason, text)
    return text
