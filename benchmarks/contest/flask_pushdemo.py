"""A Flask view whose streams pushdemo holds, for gunicorn: five lines of it are pushdemo's."""

from __future__ import annotations

from flask import Flask, Response, request

from benchmarks import feed
from benchmarks.contest.program import PATH, of_environment
from pushdemo import Push

BUSY_PATH = "/busy"

options = of_environment()
push = Push()


@push.feed(interval=options.interval, duration=options.interval)
def stamp() -> str:
    return feed.stamp(options.size)


@push.feed(interval=0.1, executor="thread")
def busy() -> str:
    """Runs while somebody watches it: beside others, in the same process."""
    return feed.busy()


app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)  # type: ignore[method-assign]


@app.get(PATH)
def stream() -> Response:
    return push.flask(request, "stamp")


@app.get(BUSY_PATH)
def busy_stream() -> Response:
    return push.flask(request, "busy")
