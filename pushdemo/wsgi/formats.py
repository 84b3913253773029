"""The wire formats' names and media types, and what a request says about waiting."""

from __future__ import annotations

import re

from pushdemo.wsgi.web import Request

# In order of preference: a client that takes anything gets the first, as the seed's did.
FORMATS = {
    "multipart": "multipart/x-mixed-replace",
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "xml": "application/xml",
    "html": "text/html",
    # For another pushdemo: see pushdemo.push.relay. No other client is told of it.
    "relay": "application/vnd.pushdemo.relay",
}
PUBLIC = tuple(name for name in FORMATS if name not in ("relay", "html"))
# What the value's HTML can be had as, where the feed has a template. By the query alone: these
# media types are those of others, too.
HTML = {
    "htmx": "text/event-stream",
    "turbo": "text/event-stream",
    "datastar": "text/event-stream",
    "fragment": "text/html",
}
# The value's bytes as they are, once: their media type is the value's own.
RAW = "raw"
LONGEST_WAIT = 600
# The headers by which a stream is made: its format, where it resumes, who may read it, and a
# WebSocket, of which no two are equal.
STREAM_HEADERS = ("Accept", "Accept-Encoding", "Last-Event-ID", "Origin", "Upgrade",
                  "Sec-WebSocket-Key")  # fmt: skip

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)


def preferred_wait(request: Request) -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most LONGEST_WAIT; None where
    there is no such preference."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), LONGEST_WAIT) if found else None
