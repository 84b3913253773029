"""/server/index: the feeds as endless responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pushdemo.lib.base import BaseController, abort, app_globals, request, response
from pushdemo.push.channel import Channel
from pushdemo.push.stream import Stream, TooManyStreams


class ServerController(BaseController):
    """The seed's controller: one action that streams."""

    def index(self, id: str | None = None) -> Iterable[bytes]:  # noqa: A002  # the route's name
        """The feed called `id`, or the first of the ini: its newest value, then one every beat."""
        if request.method not in ("GET", "HEAD"):
            abort(405, "Read this address with GET.", [("Allow", "GET, HEAD")])
        channel = self._channel(id)
        limit = self._limit()
        framing = app_globals.framing
        try:
            stream: Stream = app_globals.streams.open(channel, framing, limit=limit)
        except TooManyStreams:
            abort(503, "All streams are taken. Try again in a few seconds.", [("Retry-After", "5")])
        response.headers["Content-Type"] = framing.content_type
        response.headers["Cache-Control"] = "no-store"
        # A proxy that collects a response before it passes it on would hold events back.
        response.headers["X-Accel-Buffering"] = "no"
        return stream

    def _channel(self, name: str | None) -> Channel:
        channels: Mapping[str, Channel] = app_globals.channels
        if not channels:
            abort(404, "No feed is declared: add feed.NAME = package.module:function to the ini.")
        name = next(iter(channels)) if name is None else name
        if name not in channels:
            abort(404, f"There is no feed {name!r}. There is: {', '.join(channels)}.")
        return channels[name]

    def _limit(self) -> int | None:
        given = request.GET.get("limit")
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) < 19 and int(given) > 0):
            abort(400, f"limit={given}: give a whole number of at least 1, or leave it out.")
        return int(given)
