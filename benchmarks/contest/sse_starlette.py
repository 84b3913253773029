"""sse-starlette on uvicorn.

uvicorn with both of the parts that make it fast, uvloop and httptools, and without its access log.
The response is given an async generator, the library's first way to stream; it yields bytes, which
the library passes on as they are, so that an event is encoded once for all.
`ping=0`, because the values keep the connection, and a pinging task for each client costs.

A client that is too slow makes uvicorn's `send` wait, and skips to the newest value.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from benchmarks.contest.broadcast import Feed
from benchmarks.contest.program import BACKLOG, HOST, PATH, Options, begin, listening


def _application(options: Options) -> Starlette:
    feed = Feed(options)

    async def stream(_request: Request) -> EventSourceResponse:
        return EventSourceResponse(feed.events(), ping=0)

    @contextlib.asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncIterator[None]:
        publisher = asyncio.create_task(feed.run())
        yield
        publisher.cancel()

    return Starlette(routes=[Route(PATH, stream)], lifespan=lifespan)


def main() -> None:
    config = uvicorn.Config(
        _application(begin()),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        listening(listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
