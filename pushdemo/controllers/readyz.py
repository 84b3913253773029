"""/readyz: whether a proxy is to send clients here."""

from __future__ import annotations

from pushdemo.lib.base import BaseController, app_globals, response


class ReadyzController(BaseController):
    """One action."""

    def index(self) -> str:
        """200 where a stream can begin; 503, and why not. An engine (Redis) that is away is no
        reason: open pages keep what they have, and no other machine is better off."""
        response.content_type = "text/plain"
        why = app_globals.push.readiness()
        if why:
            response.status = 503
        return "".join(f"{one}\n" for one in why) or "ok\n"
