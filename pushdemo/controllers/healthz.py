"""/healthz: whether this process is to be left alone, or restarted."""

from __future__ import annotations

from pushdemo.lib.base import BaseController, app_globals, response


class HealthzController(BaseController):
    """One action."""

    def index(self) -> str:
        """200 where the threads that serve all feeds and streams run, or have not been needed yet;
        503 where one has ended. What this process does not hold, it does not answer for."""
        response.content_type = "text/plain"
        push = app_globals.push
        ended = []
        if push.holds_streams:
            ended = [name for name, one in push.health().items() if not one.alive]
        if ended:
            response.status = 503
        return "".join(f"the thread {name} has ended\n" for name in ended) or "ok\n"
