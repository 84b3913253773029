"""Clients that are not ours, as their documentation has them used.

`python -m tests.other_clients NAME URL` prints a line of JSON for each event that the client
yields: its type, its id, its data. For NAME see CLIENTS.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

Printed: TypeAlias = tuple[str | None, str | None, Any]

EVENTS = {"Accept": "text/event-stream"}
LINES = {"Accept": "application/x-ndjson"}
SILENCE = 60.0


def httpx_sse(url: str) -> Iterator[Printed]:
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(timeout=SILENCE) as client, connect_sse(client, "GET", url) as source:
        for event in source.iter_sse():
            yield event.event, event.id, event.data


def requests_sse(url: str) -> Iterator[Printed]:
    from requests_sse import EventSource

    with EventSource(url, timeout=SILENCE) as source:
        for event in source:
            yield event.type, event.last_event_id, event.data


def sseclient_py(url: str) -> Iterator[Printed]:
    import requests
    from sseclient import SSEClient

    response = requests.get(url, stream=True, headers=EVENTS, timeout=SILENCE)
    for event in SSEClient(iter(response)).events():
        yield event.event, event.id, event.data


async def aiohttp_sse_client2(url: str) -> AsyncIterator[Printed]:
    from aiohttp_sse_client2.client import EventSource

    async with EventSource(url) as source:
        async for event in source:
            yield event.type, event.last_event_id, event.data


async def aiosseclient(url: str) -> AsyncIterator[Printed]:
    from aiosseclient import aiosseclient as client

    async for event in client(url):
        yield event.event, event.id, event.data


def _printed(line: str | bytes) -> Printed:
    event = json.loads(line)
    return event.get("event"), event.get("id"), event.get("value")


def json_requests(url: str) -> Iterator[Printed]:
    import requests

    response = requests.get(url, stream=True, headers=LINES, timeout=SILENCE)
    for line in response.iter_lines(chunk_size=1):
        yield _printed(line)


def json_httpx(url: str) -> Iterator[Printed]:
    import httpx

    with httpx.stream("GET", url, headers=LINES, timeout=SILENCE) as response:
        for line in response.iter_lines():
            yield _printed(line)


def json_urllib(url: str) -> Iterator[Printed]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=LINES)) as response:
        for line in response:
            yield _printed(line)


async def json_aiohttp(url: str) -> AsyncIterator[Printed]:
    import aiohttp

    async with aiohttp.ClientSession(headers=LINES) as session, session.get(url) as response:
        async for line in response.content:
            yield _printed(line)


async def multipart_aiohttp(url: str) -> AsyncIterator[Printed]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as response:
        parts = aiohttp.MultipartReader.from_response(response)
        while (part := await parts.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            yield part.headers.get("Event"), part.headers.get("Event-ID"), await part.text()


def multipart_opencv(url: str) -> Iterator[Printed]:
    import cv2

    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while True:
        there_is_one, frame = capture.read()
        if not there_is_one:
            return
        yield None, None, [round(value) for value in frame.mean((0, 1)).tolist()]


CLIENTS: dict[str, Callable[[str], Iterator[Printed] | AsyncIterator[Printed]]] = {
    client.__name__: client
    for client in (
        httpx_sse, requests_sse, sseclient_py, aiohttp_sse_client2, aiosseclient,
        json_requests, json_httpx, json_urllib, json_aiohttp,
        multipart_aiohttp, multipart_opencv,
    )
}  # fmt: skip


def _print(event: Printed) -> None:
    kind, event_id, data = event
    print(json.dumps([kind or "message", event_id or None, data]), flush=True)


async def _print_all(events: AsyncIterator[Printed]) -> None:
    async for event in events:
        _print(event)


def main(name: str, url: str) -> None:
    events = CLIENTS[name](url)
    if isinstance(events, AsyncIterator):
        asyncio.run(_print_all(events))
    else:
        for event in events:
            _print(event)


if __name__ == "__main__":
    main(*sys.argv[1:])
