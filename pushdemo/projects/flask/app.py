"""NAME: a page on which one slow function is live."""

import datetime
import random
import time

from flask import Flask, request

from pushdemo import Push

push = Push()


@push.feed(interval=2)
def orders():
    """Slow, and computed once for all pages: put your query here."""
    time.sleep(0.5)
    return {"orders": random.randint(1, 100), "at": datetime.datetime.now().isoformat()}


app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)


@app.get("/")
def page():
    return app.send_static_file("index.html")


@app.get("/live/orders")
def live():
    return push.flask(request, "orders")
