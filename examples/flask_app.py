"""Flask: two feeds, and a login that decides who may watch one of them.

pip install pushdemo flask gunicorn
gunicorn flask_app:app
pushdemo run flask_app:push -- gunicorn -w 4 flask_app:app
"""

import functools
import os
import time

from flask import Flask, abort, redirect, request, session, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from pushdemo import Push

push = Push()


@push.feed(interval=2, duration=10)
def orders():
    time.sleep(0.5)  # a slow query; it runs once for all clients
    return {"orders": 42, "at": time.strftime("%H:%M:%S")}


push.pushed_feed("alerts", history=100)

app = Flask(__name__)
# For who runs it: /pushdemo/status, /pushdemo/metrics, /pushdemo/healthz and /pushdemo/readyz.
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/pushdemo": push.monitor})
# Streams are taken off the server outside of everything that Flask does.
app.wsgi_app = push.middleware(app.wsgi_app)
# Each worker must know the key of the others' sessions.
app.secret_key = os.environ.get("SECRET_KEY", "for trying it only")


def login_required(view):
    @functools.wraps(view)
    def checked(*args, **kwargs):
        if "user" not in session:
            abort(401)
        return view(*args, **kwargs)

    return checked


@app.get("/")
def page():
    return """<!doctype html>
<title>Orders</title>
<p id="orders">No value yet.</p>
<script>
  const source = new EventSource("live/orders");
  source.onmessage = (event) => { document.getElementById("orders").textContent = event.data; };
</script>
"""


@app.get("/live/orders")
def live_orders():
    return push.flask(request, "orders")


@app.get("/live/alerts")
@login_required
def live_alerts():
    return push.flask(request, "alerts")


@app.post("/alerts")
@login_required
def alert():
    return {"id": push.publish("alerts", request.get_json())}


@app.post("/login")
def login():
    session["user"] = request.form["user"]  # check a password here
    return redirect(url_for("page"))
