"""How the time for what a client sends grows with its length: python -m benchmarks.parsing

For each shape, the milliseconds for n, 2n, 4n bytes and so on, and the factor of the last doubling:
about 2 where it is linear, 4 where it is quadratic. Heads go through the parser of requests, whole
and byte by byte, and through what makes the environment; what is for the application goes through
that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from webob import Request as WebObRequest

from pushdemo.config.middleware import make_app
from pushdemo.servers.environ import make_environ
from pushdemo.servers.refusal import Refused
from pushdemo.servers.request import RequestParser

SIZES = [4_000, 8_000, 16_000, 32_000, 60_000]  # bytes; a head may have 64 KiB
REPEATS = 3

GET = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"

Make = Callable[[int], bytes]

HEADS: dict[str, Make] = {
    "Content-Length: x, spaces, y": lambda n: GET % (b"Content-Length: x" + b" " * n + b"y"),
    "spaces after a value": lambda n: GET % (b"A: b" + b" " * n),
    "a long value": lambda n: GET % (b"A: " + b"b" * n),
    "a long name": lambda n: GET % (b"A" * n + b": b"),
    "many fields": lambda n: GET % b"\r\n".join([b"A: b"] * (n // 6)),
    "one field many times, to the limit": lambda n: (
        GET % b"\r\n".join([b"A: " + b"b" * (n // 95)] * 95)
    ),
    "empty lines before": lambda n: b"\r\n" * (n // 2) + GET % b"A: b",
    "../../..": lambda n: b"GET /" + b"../" * (n // 3) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "%41%41%41": lambda n: b"GET /" + b"%41" * (n // 3) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "http://aaa": lambda n: b"GET http://" + b"a" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "no end": lambda n: b"GET /" + b"a" * n,
}
# For the application: a header and its value, or a target.
HEADERS: dict[str, tuple[str, Callable[[int], str]]] = {
    "Accept: a/b, a/b": ("Accept", lambda n: ", ".join(["a/b"] * (n // 5))),
    "Accept: a/b;c=d;c=d": ("Accept", lambda n: "a/b" + ";c=d" * (n // 4)),
    "Accept: spaces": ("Accept", lambda n: "a/b" + " " * n + "x"),
    'Accept: a/b;c="\\"\\"': ("Accept", lambda n: 'a/b;c="' + '\\"' * (n // 2)),
    "Accept: commas": ("Accept", lambda n: "," * n + "@"),
    "Accept-Encoding: gzip, gzip": ("Accept-Encoding", lambda n: ", ".join(["gzip"] * (n // 6))),
    "Accept-Encoding: spaces": ("Accept-Encoding", lambda n: "gzip" + " " * n + "x"),
    "Accept-Encoding: commas": ("Accept-Encoding", lambda n: "," * n + "@"),
    "Prefer: spaces": ("Prefer", lambda n: "wait=1" + " " * n + "x"),
    "Prefer: ,,,": ("Prefer", lambda n: "," * n),
    "Prefer: , and spaces": ("Prefer", lambda n: ", " * (n // 2)),
    "Prefer: , many spaces": ("Prefer", lambda n: "," + " " * n),
    "If-None-Match: many": ("If-None-Match", lambda n: ", ".join(['"a"'] * (n // 5))),
    "If-None-Match: quotes": ("If-None-Match", lambda n: '"' * n),
    "If-None-Match: spaces": ("If-None-Match", lambda n: "a" + " " * n + "b"),
    "Last-Event-ID: digits": ("Last-Event-ID", lambda n: "a-" + "9" * n),
    "Cookie: a=b; a=b": ("Cookie", lambda n: "; ".join(["a=b"] * (n // 5))),
    "Origin: long": ("Origin", lambda n: "a" * n),
}
TARGETS: dict[str, Callable[[int], str]] = {
    "a long path": lambda n: "/" + "a" * n,
    "many segments": lambda n: "/a" * (n // 2),
    "many feeds": lambda n: "/server/index/" + "clock+" * (n // 6) + "clock?format=json",
    "many keys": lambda n: "/server/index?format=json&" + "&".join(["a=b"] * (n // 4)),
    "many different keys": lambda n: (
        "/server/index?format=json&" + "&".join(f"{number}=" for number in range(n // 6))
    ),
    "format=long": lambda n: "/server/index?format=" + "a" * n,
    "limit=digits": lambda n: "/server/index?limit=" + "9" * n,
    "last_event_id=digits": lambda n: "/server/index?format=json&last_event_id=a-" + "9" * n,
}


def feed(received: bytes) -> None:
    """All at once."""
    try:
        request = RequestParser(0).feed(received)
    except Refused:
        return
    if request is not None:
        make_environ(request, ("localhost", 80), "127.0.0.1")


def trickle(received: bytes) -> None:
    """Byte by byte."""
    parser = RequestParser(0)
    try:
        for index in range(len(received)):
            parser.feed(received[index : index + 1])
    except Refused:
        return


def measure(function: Callable[[Any], object], argument: object) -> float:
    """Milliseconds, the least of several."""
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        function(argument)
        took.append(time.perf_counter() - began)
    return min(took) * 1e3


def show(name: str, function: Callable[[Any], object], make: Callable[[int], object]) -> None:
    """One line of the table."""
    took = [measure(function, make(size)) for size in SIZES]
    exact = SIZES[-1] / SIZES[-2]
    factor = took[-1] / took[-2] * 2 / exact
    print(f"{name:40}" + "".join(f"{one:10.3f}" for one in took) + f"{factor:8.1f}", flush=True)


def show_application() -> None:
    """What the application is asked with; each answer ends."""
    app = make_app({}, **{"feed.clock": "pushdemo.feeds:clock"})

    def ask(request: WebObRequest) -> None:
        _, _, body = request.call_application(app)
        if hasattr(body, "close"):
            body.close()

    ask(WebObRequest.blank("/server/index/clock?format=json"))  # there is a value from now on
    for name, (header, value) in HEADERS.items():

        def with_header(size: int, header: str = header, value: Any = value) -> WebObRequest:
            target = "/server/index/clock?format=json"
            if header.startswith("Accept"):
                target = "/server/index/clock"
            return WebObRequest.blank(target, headers={header: value(size)})

        show(name, ask, with_header)
    for name, target in TARGETS.items():

        def with_target(size: int, target: Any = target) -> WebObRequest:
            return WebObRequest.blank(target(size))

        show(name, ask, with_target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    print(f"{'ms, for so many bytes':40}" + "".join(f"{size:10,}" for size in SIZES) + "  factor")
    for name, make in HEADS.items():
        show(name, feed, make)
        show(f"{name}, byte by byte", trickle, make)
    show_application()


if __name__ == "__main__":
    main()
