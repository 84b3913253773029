"""/status: how the process is that runs the feeds, and the others that it knows of. A feed like any
other, for whom `push.status` names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pushdemo.lib.base import BaseController
from pushdemo.lib.streaming import stream
from pushdemo.push.status import STATUS


class StatusController(BaseController):
    """One action."""

    def index(self, environ: dict[str, Any]) -> Iterable[bytes] | None:
        """JSON, once, for who takes anything; a page for a browser; and streams of it."""
        if environ.get("HTTP_ACCEPT", "*/*") == "*/*":
            environ["HTTP_ACCEPT"] = "application/json"
        return stream(environ, STATUS)
