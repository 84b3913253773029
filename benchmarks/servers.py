"""Streams on the servers and frameworks of others: python -m benchmarks.servers, or make servers

Each server is started as its users start it, with one worker, once for each framework. Clients open
streams of a feed; meanwhile another page is asked for, again and again; then the clients leave. For
each there is a line: how many streams are open, how many clients were told to come back later, how
long the other page takes, and what remains when the clients have left: descriptors, threads and
places above what there was before. The checker of tests/judging.py judges what each client saw.

It ends with an error where a client saw something wrong, or something remains.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.clients import raise_descriptor_limit
from tests.history import witnessed
from tests.judging import judge
from tests.servers import until
from tests.watching import Watching
from tests.wsgi_servers import FLASK_RUN, KINDS, WAITRESS, Kind, Used, WsgiServer, write_application

ASKED = 50  # times that the other page is asked for

FEED = """
import itertools
from pushdemo import Push

push = Push()
numbers = itertools.count(1)

@push.feed(interval=0.25, history=100)
def count():
    return f"number {next(numbers)}"
"""

FLASK = """
from flask import Flask, request

app = Flask(__name__)

@app.get("/live")
def live():
    return push.flask(request, "count")

@app.get("/open")
def open_now():
    return str(push.engine.open_now)

app.wsgi_app = push.middleware(app.wsgi_app)
"""

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def live(request):
    return push.django(request, "count")

def open_now(request):
    return HttpResponse(str(push.engine.open_now))

urlpatterns = [path("live", live), path("open", open_now)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="benchmark", MIDDLEWARE=[
    "django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware",
])
app = push.middleware(get_wsgi_application())
"""

PYRAMID = """
from pyramid.config import Configurator
from pyramid.response import Response

def live(request):
    return push.pyramid(request, "count")

def open_now(request):
    return Response(str(push.engine.open_now))

with Configurator() as config:
    config.add_route("live", "/live")
    config.add_view(live, route_name="live")
    config.add_route("open", "/open")
    config.add_view(open_now, route_name="open")
app = push.middleware(config.make_wsgi_app())
"""

FRAMEWORKS = {"Flask": FLASK, "Django": DJANGO, "Pyramid": PYRAMID}


class Line(NamedTuple):
    """What was seen of one server and framework.

    answers: how long the other page took, in seconds.
    remain: descriptors, threads and places.
    faults: what the clients saw that was wrong, and what the server logged of an error.
    """

    server: str
    framework: str
    streams: int
    refused: int
    answers: list[float]
    remain: tuple[int, int, int]
    faults: str

    def __str__(self) -> str:
        descriptors, threads, places = self.remain
        answers = [seconds * 1000 for seconds in self.answers]
        return (
            f"| {self.server} | {self.framework} | {self.streams:,} | {self.refused:,}"
            f" | {statistics.median(answers):.1f} ({min(answers):.1f} - {max(answers):.1f})"
            f" | {descriptors}, {threads}, {places} |"
        )


HEADINGS = """\
| server | framework | streams | answered 503 | another page, ms | remain: descriptors, threads, places |
|-|-|-:|-:|-:|-:|"""  # noqa: E501


def measure(kind: Kind, framework: str, clients: int) -> Line:
    """Start a server, and hold streams on it."""
    version = "1.0" if kind is WAITRESS else "1.1"
    with TemporaryDirectory(prefix="servers-") as name:
        directory = Path(name)
        write_application(directory, FEED + FRAMEWORKS[framework])
        with WsgiServer(directory, *kind.command) as server:
            with Watching(server.address, version) as first:  # which starts threads that stay
                first.connect(0)
                until(lambda: first.all_have(1), "a first event")
            until(lambda: server.ask("/open")[2] == "0", "the first one's end")
            before = server.used()
            with Watching(server.address, version) as watching:
                for number in range(clients):
                    watching.connect(number)
                until(lambda: watching.answered == clients, "all are answered")
                streams = watching.connected
                answers = [_ask(server) for _ in range(ASKED)]
                until(lambda: watching.all_have(3), "three events each")
                watching.stop()
                seen = [client for client in watching.clients if client.seen]
                verdict = judge(witnessed(seen), seen)
            remain = _remain(server, lambda: server.used().beyond(before, kind))
            faults = str(verdict) if verdict.faults else ""
            if "Traceback" in server.log:
                faults += server.log
    return Line(kind.name, framework, streams, clients - streams, answers, remain, faults)


def _ask(server: WsgiServer) -> float:
    """Seconds for another page."""
    began = time.monotonic()
    status, _, _ = server.ask("/open")
    assert status == 200
    return time.monotonic() - began


def _remain(server: WsgiServer, beyond: Callable[[], Used]) -> tuple[int, int, int]:
    """What there is when the clients have left: descriptors, threads, places. It may take some
    seconds until there is nothing."""
    deadline = time.monotonic() + 10
    while (places := int(server.ask("/open")[2])) and time.monotonic() < deadline:
        time.sleep(0.1)
    # Without asking, which is a connection more.
    while (remain := beyond()) != (0, 0) and time.monotonic() < deadline:
        time.sleep(0.1)
    return *remain, places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000, help="for each (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="those of these names")
    options = parser.parse_args()
    raise_descriptor_limit()
    failed = False
    print(HEADINGS)
    runs = [(kind, framework) for kind in (*KINDS, WAITRESS) for framework in FRAMEWORKS]
    for kind, framework in [*runs, (FLASK_RUN, "Flask")]:
        if options.only and kind.name not in options.only:
            continue
        line = measure(kind, framework, options.streams)
        print(line, flush=True)
        if line.faults:
            print(line.faults, file=sys.stderr)
        failed |= bool(line.faults) or max(line.remain) > 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
