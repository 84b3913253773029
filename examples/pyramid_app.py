"""Pyramid: a feed, and a view that decides who may watch it.

pip install pushdemo pyramid gunicorn
gunicorn pyramid_app:app
pushdemo run pyramid_app:push -- gunicorn -w 4 pyramid_app:app
"""

import time

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPForbidden
from pyramid.response import Response

from pushdemo import Push

push = Push()


@push.feed(interval=2, duration=10)
def orders():
    time.sleep(0.5)  # a slow query; it runs once for all clients
    return {"orders": 42, "at": time.strftime("%H:%M:%S")}


def page(request):
    return Response("""<!doctype html>
<title>Orders</title>
<p id="orders">No value yet.</p>
<script>
  const source = new EventSource("live/orders");
  source.onmessage = (event) => { document.getElementById("orders").textContent = event.data; };
</script>
""")


def live_orders(request):
    return push.pyramid(request, "orders")


def live_report(request):
    if request.headers.get("Authorization") != "Bearer secret":  # Pyramid's policies go here
        raise HTTPForbidden("Send the token.")
    return push.pyramid(request, "orders")


with Configurator() as config:
    for name, pattern, view in [
        ("page", "/", page),
        ("orders", "/live/orders", live_orders),
        ("report", "/live/report", live_report),
    ]:
        config.add_route(name, pattern)
        config.add_view(view, route_name=name)

    # Streams are taken off the server outside of everything that Pyramid does.
    app = push.middleware(config.make_wsgi_app())
