"""The options of all streams, `push.…`, as values."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from pushdemo.handover.address import VARIABLE
from pushdemo.push.access import ANYBODY, LOOPBACK, NOBODY, Access
from pushdemo.push.broker import MEMORY
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.html_stream import HtmlStream
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.relay import Relay
from pushdemo.push.options import ConfigError, Options

# Waitress, the smallest of the servers that are threads and nothing else, has four.
MAX_THREADS = 3
BROKER_VARIABLE = "PUSHDEMO_BROKER"
STATUS_VARIABLE = "PUSHDEMO_STATUS"
MOST_SENDERS = 8  # more would wait for each other in the kernel


def cores() -> int:
    """How many this process may use, and MOST_SENDERS at most."""
    usable = getattr(os, "sched_getaffinity", None)
    return min(len(usable(0)) if usable else os.cpu_count() or 1, MOST_SENDERS)


@dataclass(frozen=True)
class Settings:
    """One attribute for each option; see `read` for their names, units and defaults."""

    multipart: Multipart
    retry: float
    heartbeat: float
    send_timeout: float
    drain: float
    senders: int
    max_streams: int | None
    max_threads: int
    cors: tuple[str, ...]
    token: str
    max_body: int
    broadcaster: str
    broker: str
    pages: bool
    public: str
    status: Access

    @classmethod
    def read(cls, options: Options) -> Settings:
        """Raises ConfigError.

        boundary: what separates the parts of a multipart stream; by default random, one for each
            process.
        retry: seconds after which a client should come back when its stream breaks; 2.
        heartbeat: seconds of silence after which a heartbeat is sent; 15.
        send_timeout: seconds after which a client that takes nothing is dropped; 30.
        drain: seconds over which the streams end when the process is stopped: clients are told when
            to come back, so that they do not come all at once; 0, all end at once.
        senders: how many threads send an event that goes to many clients; as many as there are
            cores that this process may use, and 8 at most.
        max_streams: how many streams are open at a time; by default as many as there are
            descriptors for.
        max_threads: how many of them may hold a thread of the server, where their connections
            cannot be taken off it; 3, or none where the server has a single thread.
        cors: the origins whose pages may read the streams, separated by spaces; `*` for any.
        token: the secret that a client must send to publish by HTTP; without it no client can
            publish.
        max_body: bytes of a value that is published by HTTP; 1 MiB.
        broadcaster: where the process listens that holds the streams of all workers of a machine
            (`unix:/run/pushdemo.sock`); by default the environment variable PUSHDEMO_BROADCASTER,
            or no such process.
        broker: what carries events between processes and machines, each of which hears all:
            `redis://[user:password@]host[:port][/database][?prefix=NAME]`, or the same with
            rediss, valkey or valkeys, or `unix:///path`; by default the environment variable
            PUSHDEMO_BROKER, or `memory`: this process is the only one.
        pages: whether a browser that is sent to a feed's address is shown a page of it; true.
        public: a directory whose files the application serves before its own pages; its index.html
            is the first page then.
        status: who may see status and metrics: `loopback`, who asks from this machine and not
            through a proxy; networks, separated by spaces, such as `10.0.0.0/8`; `*` for
            everybody, `none` for nobody; by default the environment variable PUSHDEMO_STATUS,
            or `loopback`.
        """
        retry = options.seconds("retry", 2)
        boundary = options.text("boundary", secrets.token_hex(16))
        try:
            multipart = Multipart(boundary, round(retry * 1000))
        except ValueError as error:
            raise ConfigError(f"push.boundary: {error}") from None
        settings = cls(
            multipart=multipart,
            retry=retry,
            heartbeat=options.seconds("heartbeat", 15),
            send_timeout=options.seconds("send_timeout", 30),
            drain=options.seconds("drain", 0, zero=True),
            senders=options.whole("senders", 0, least=1, most=MOST_SENDERS) or cores(),
            max_streams=options.whole("max_streams", 0, least=1) or None,
            max_threads=options.whole("max_threads", -1, least=0),
            cors=tuple(options.text("cors", "").split()),
            token=options.text("token", ""),
            max_body=options.whole("max_body", 1024 * 1024, least=1),
            broadcaster=options.text("broadcaster", os.environ.get(VARIABLE, "")),
            broker=options.text("broker", os.environ.get(BROKER_VARIABLE, MEMORY)) or MEMORY,
            pages=options.flag("pages", True),
            public=_directory(options, options.text("public", "")),
            status=_access(options),
        )
        options.finish()
        return settings

    @property
    def framings(self) -> dict[str, Framing]:
        """The streams' wire formats, by the names of pushdemo.wsgi.formats."""
        retry = round(self.retry * 1000)
        return {
            "multipart": self.multipart,
            "sse": EventStream(retry),
            **{kind: HtmlStream(retry, kind=kind) for kind in HtmlStream.KINDS},
            "ndjson": NdJson(),
            "relay": Relay(),
        }

    def threads(self, *, multithread: bool) -> int:
        """How many streams may hold a thread of a server that has several, or only one."""
        if self.max_threads >= 0:
            return self.max_threads
        return MAX_THREADS if multithread else 0


def _directory(options: Options, given: str) -> str:
    if given and not os.path.isdir(given):
        raise options.wrong("public", given, "a directory")
    return given


def _access(options: Options) -> Access:
    given = options.text("status", os.environ.get(STATUS_VARIABLE, LOOPBACK))
    try:
        return Access(given)
    except ValueError:
        wanted = f"{LOOPBACK}, {ANYBODY}, {NOBODY}, or networks such as 10.0.0.0/8"
        raise options.wrong("status", given, wanted) from None
