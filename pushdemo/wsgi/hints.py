"""What the log says once in each process about how a server and its streams get along."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


class Hints:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def no_middleware(self) -> None:
        """The application is not wrapped."""
        self._say(
            "streams hold a thread of the server each, at most push.max_threads of them, since the"
            " application is not wrapped: app = push.middleware(app), outside of everything else"
        )

    def no_connection(self, environ: Mapping[str, Any]) -> None:
        """The server keeps its connections."""
        server = environ.get("SERVER_SOFTWARE") or "this server"
        self._say(
            f"streams hold a thread each, at most push.max_threads of them: {server} does not give"
            " its connections away; gunicorn and uWSGI do, if TLS is left to a proxy in front"
        )

    def several_processes(self) -> None:
        """Each worker is alone with its feeds."""
        self._say(
            "the server has several processes, and each computes all feeds by itself; values that"
            " are published in one reach the clients of that one only. Start the server with"
            " pushdemo run, or run pushdemo broadcaster beside it; or set push.broker"
        )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)
