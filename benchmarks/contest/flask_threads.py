"""A thread for each stream, the way of Flask's documentation: a view that returns a generator,
under gunicorn's threads. See threads.py, whose feed it has.

gunicorn makes as many threads as it has been told, and no more. One that holds a stream answers
nothing else, and so `--threads` is how many streams there can be. In a worker that is recycled or
reloaded they end.
"""

from __future__ import annotations

import threading

from flask import Flask, Response

from benchmarks.clients import raise_descriptor_limit
from benchmarks.contest.program import HEADERS, PATH, of_environment
from benchmarks.contest.threads import STACK, Feed
from benchmarks.feed import keep_busy, stamp

options = of_environment()
raise_descriptor_limit()
threading.stack_size(STACK)
feed = Feed()
feed.publish(stamp(options.size))
threading.Thread(target=feed.run, args=(options,), daemon=True).start()
if options.busy:
    keep_busy()

app = Flask(__name__)


@app.get(PATH)
def stream() -> Response:
    return Response(feed.events(), headers=HEADERS)
