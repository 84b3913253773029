"""aiohttp-sse, on aiohttp and uvloop.

`sse_response`, as its documentation has it, on uvloop, as aiohttp's has it, and without the access
log. What it makes is an aiohttp response, so it can `write` an event that was encoded once. Its own
`send` takes text only, and encodes it for each client: that costs half as much again with 250
bytes, and 14 times as much with 100,000. Its pings cannot be switched off; as the values keep the
connection, they are asked for once a day.

A client that is too slow makes `write` wait, and skips to the newest value.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from benchmarks.contest.broadcast import Feed
from benchmarks.contest.program import BACKLOG, HOST, PATH, Options, begin, listening

DAY = 24 * 3600  # seconds


def _application(options: Options) -> web.Application:
    feed = Feed(options)

    async def stream(request: web.Request) -> EventSourceResponse:
        async with sse_response(request, ping_interval=DAY) as response:
            async for event in feed.events():
                await response.write(event)
        return response

    async def publisher(_application: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(feed.run())
        yield
        task.cancel()

    application = web.Application()
    application.router.add_get(PATH, stream)
    application.cleanup_ctx.append(publisher)
    return application


def main() -> None:
    application = _application(begin())
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        listening(listener.getsockname()[1])
        web.run_app(
            application,
            sock=listener,
            backlog=BACKLOG,
            access_log=None,
            print=None,
            # Else SIGTERM waits a minute for the streams to end by themselves.
            handle_signals=False,
            loop=uvloop.new_event_loop(),
        )


if __name__ == "__main__":
    main()
