"""Which of the formats a client gets: what it asks for by name, or else what it accepts."""

from __future__ import annotations

import re
from collections.abc import Collection

from pushdemo.lib.web import Request

# In order of preference: a client that takes anything gets the first, as the seed's did.
FORMATS = {
    "multipart": "multipart/x-mixed-replace",
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "xml": "application/xml",
}
LONGEST_WAIT = 600
# The headers by which a stream is made: its format, where it resumes, and who may read it.
STREAM_HEADERS = ("Accept", "Accept-Encoding", "Last-Event-ID", "Origin")

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', re.IGNORECASE)


def choose(request: Request, names: Collection[str]) -> str | None:
    """The name, out of `names`, of the format for a request: its `format` in the query, which is
    for people and for scripts that cannot set headers, or the best of its Accept (RFC 9110, section
    12.5.1). None if there is none that it would take."""
    name = request.GET.get("format")
    if name is not None:
        return name if name in names else None
    offers = {FORMATS[name]: name for name in names}
    acceptable = request.accept.acceptable_offers(list(offers))
    return offers[acceptable[0][0]] if acceptable else None


def preferred_wait(request: Request) -> int | None:
    """The seconds of `Prefer: wait=N` (RFC 7240, section 4.3), at most LONGEST_WAIT; None where
    there is no such preference."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(found[1]), LONGEST_WAIT) if found else None
