"""A relay: a feed whose events are another pushdemo's, with their ids and their chain unchanged.

So a client may move between the two: what it has seen at one is known to the other. A relay is
connected to its origin while somebody watches, and for a while after. It has the origin's ids, and
numbers nothing.

    resting ── watched ──▶ ask for what came after the newest event ──▶ events ──▶ it breaks ─┐
       ▲                        ▲                                                             │
       └── nobody watches ──────┴────────────── wait, a random time, ever longer ◀────────────┘

While the origin cannot be reached, who watches keeps the last value and is told that the feed
fails, as if its function did.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

from pushdemo.client.connection import Response, get, parse_url
from pushdemo.client.errors import BadStream, Disconnected, WatchError
from pushdemo.client.event import Event as ReceivedEvent
from pushdemo.client.relay import CONTENT_TYPE, RelayedEvent, RelayParser
from pushdemo.push.channel import Channel
from pushdemo.push.compute.feed import SECOND
from pushdemo.push.compute.origin import Origin
from pushdemo.push.compute.payload import Data, Payload, Text, payload_of
from pushdemo.push.event import Value
from pushdemo.push.gate import Gate, Gone
from pushdemo.push.loop import Health, Loop
from pushdemo.push.shorten import shorten
from pushdemo.push.wakeup import Wakeup

log = logging.getLogger(__name__)

TIMEOUT = 45.0  # seconds of silence: three of the origin's heartbeats
LINGER = 10.0  # seconds without watchers after which the connection is given up
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; half of it is random


class Relay:
    """See the module.

    gate: all that it does to the channel goes through it.
    pause: waits for some seconds, or until it is closed. clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        origin: Origin,
        channel: Channel,
        gate: Gate,
        *,
        random: Callable[[], float] = random.random,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._url = parse_url(origin.url)
        self._headers = {name: value.encode("ascii") for name, value in origin.headers.items()}
        self._channel = channel
        self._gate = gate
        self._random = random
        self._clock = clock
        self._wakeup = Wakeup()
        self._closing = threading.Event()
        self._begun = False
        self._sock: socket.socket | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._watched_at = 0
        self._loop = Loop(f"pushdemo-relay-{channel.name}", self._turn)
        channel.on_watched = self._wake

    @property
    def name(self) -> str:
        """The feed's."""
        return self._channel.name

    @property
    def health(self) -> Health:
        """How its thread is. Any thread."""
        return self._loop.health

    def begin(self) -> None:
        """Follow the origin whenever somebody watches, from now on."""
        self._begun = True
        if self._channel.watched:
            self._wake()

    def close(self) -> None:
        """End the connection and the thread."""
        thread = self._loop.stop()
        self._closing.set()
        self._wakeup.set()
        if (sock := self._sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        if thread is not None:
            thread.join(1)

    def _wake(self) -> None:
        if self._begun and not self._closing.is_set():
            self._wakeup.set()
            self._loop.ensure()

    # In its own thread

    def _turn(self) -> None:
        if not self._is_wanted():
            self._failures, self._failing_since = 0, None
            self._wakeup.wait(None)
            return
        began = time.time()
        try:
            self._follow()
        except Gone:
            self._closing.set()
        except WatchError as error:
            if not self._closing.is_set():
                self._wait(error, began)
        finally:
            self._channel.expire()

    def _is_wanted(self) -> bool:
        """Whether somebody watches, or did a moment ago."""
        now = self._clock()
        if self._channel.watched:
            self._watched_at = now
        return not self._closing.is_set() and now < self._watched_at + LINGER * SECOND

    def _follow(self) -> None:
        """Ask for the events, and take them, until they end. Raises WatchError, and Gone."""
        headers = {**self._headers, "Accept": CONTENT_TYPE.encode()}
        if last_id := str(self._channel.place):
            headers["Last-Event-ID"] = last_id.encode("ascii", "replace")
        with get(self._url, headers, timeout=TIMEOUT, opened=self._opened) as response:
            if response.status != HTTPStatus.OK:
                raise response.refusal()
            content_type = response.header("Content-Type") or "no Content-Type"
            if content_type.partition(";")[0].strip() != CONTENT_TYPE:
                raise BadStream(
                    f"{response.url} answers with {shorten(content_type)}, which cannot be relayed:"
                    " it must be a feed of a pushdemo that is no older than this"
                )
            self._go_on()
            self._read(response)
        if self._is_wanted():
            raise Disconnected("the origin ended the stream")

    def _read(self, response: Response) -> None:
        parser = RelayParser()
        for data in response.chunks():
            for event in parser.feed(data):
                self._take(event)
            if parser.error is not None:
                raise parser.error
            if not self._is_wanted():
                return

    def _opened(self, sock: socket.socket) -> None:
        self._sock = sock
        if self._closing.is_set():
            raise Disconnected("closed")

    def _go_on(self) -> None:
        """There is a connection: what the newest event has is good again."""
        if self._failing_since is not None:
            log.info("feed %s works again: its origin answers", self._channel.name)
        self._failures, self._failing_since = 0, None
        with self._gate:
            if self._channel.failing:
                self._channel.recover()
            self._channel.renew(sys.maxsize)

    def _take(self, event: ReceivedEvent) -> None:
        now = self._clock()
        with self._gate:
            if event.type == "error":
                since = event.value.get("since") if isinstance(event.value, Mapping) else None
                failing_since = float(since) if isinstance(since, int | float) else time.time()
                self._channel.fail(failing_since, now + round(TIMEOUT * SECOND))
            elif event.type == "recovered":
                self._channel.recover()
            elif isinstance(event, RelayedEvent):
                assert event.id is not None  # the parser saw to it
                self._channel.take(event.id, event.after, _value(event))

    def _wait(self, error: WatchError, began: float) -> None:
        """It broke, or could not be had: tell who watches, from the second time on, and wait."""
        self._failures += 1
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 16))
        pause = longest * (1 + self._random()) / 2
        if isinstance(error, Disconnected):
            pause = max(pause, min(error.after, LONGEST_PAUSE))
        if self._failures > 1:
            if self._failing_since is None:
                self._failing_since = began
                log.error("feed %s: its origin does not answer, and its last value is sent"
                          " meanwhile: %s", self._channel.name, error)  # fmt: skip
            with suppress(Gone), self._gate:
                self._channel.fail(self._failing_since, self._clock() + round(pause * SECOND))
        self._closing.wait(pause)


def _value(event: RelayedEvent) -> Value:
    """Raises BadStream for a value that cannot be sent."""
    try:
        payload = _payload(event)
    except (TypeError, ValueError) as error:
        raise BadStream(f"an event's value cannot be sent: {error}") from None
    assert event.computed is not None  # the parser saw to it
    return Value(payload, event.computed, fresh_until=sys.maxsize, took=event.took)


def _payload(event: RelayedEvent) -> Payload:
    if isinstance(event.value, bytes):
        return payload_of((event.value, event.content_type))
    payload = payload_of(event.value)
    if isinstance(payload, Text) and not event.is_text:  # data that is a string
        return Data(json.dumps(payload.text, ensure_ascii=False))
    return payload
