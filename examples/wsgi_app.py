"""Plain WSGI (PEP 3333): a feed, and the page with all feeds below /feeds/.

pip install pushdemo gunicorn
gunicorn wsgi_app:app
pushdemo run wsgi_app:push -- gunicorn -w 4 wsgi_app:app
"""

import time
from wsgiref.util import shift_path_info

from pushdemo import Push

push = Push()


@push.feed(interval=2, duration=10)
def orders():
    time.sleep(0.5)  # a slow query; it runs once for all clients
    return {"orders": 42, "at": time.strftime("%H:%M:%S")}


PAGE = b"""<!doctype html>
<title>Orders</title>
<p id="orders">No value yet.</p>
<script>
  const source = new EventSource("live/orders");
  source.onmessage = (event) => { document.getElementById("orders").textContent = event.data; };
</script>
"""


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/live/orders":
        status, headers, body = push.respond(environ, "orders")
    elif path == "/live/report" and environ.get("HTTP_AUTHORIZATION") != "Bearer secret":
        status, headers, body = "403 Forbidden", [("Content-Length", "0")], []
    elif path == "/live/report":
        status, headers, body = push.respond(environ, "orders")
    elif path.startswith("/feeds/"):
        shift_path_info(environ)
        return push.application(environ, start_response)
    else:
        headers = [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))]
        status, body = "200 OK", [PAGE]
    start_response(status, headers)
    return body


# Streams are taken off the server outside of everything else.
app = push.middleware(application)
