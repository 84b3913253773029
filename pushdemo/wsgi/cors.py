"""Which other origins' pages may read the streams (Fetch Standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

# What a page of another origin could not read otherwise.
_EXPOSED = "Age, Date, ETag, Feed-Failing-Since, Last-Modified, Preference-Applied, Retry-After"


class Cors:
    """Allows `origins`, each as a browser writes it (`https://example.org`), or any, for `*`.
    Without one it allows none, and says nothing."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """The headers of a response to a request from `origin`."""
        if "*" in self._origins:
            allowed = [("Access-Control-Allow-Origin", "*")]
        elif origin in self._origins:
            allowed = [("Access-Control-Allow-Origin", str(origin))]
        else:
            return []
        return [*allowed, ("Access-Control-Expose-Headers", _EXPOSED)]
