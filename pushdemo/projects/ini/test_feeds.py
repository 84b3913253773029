"""pytest runs this."""

import json
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import feeds

from pushdemo import Push

INI = Path(__file__).with_name("development.ini")


def get(app, path, query=""):
    """The status and the body of a response."""
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "wsgi.multithread": True}
    setup_testing_defaults(environ)
    started = []
    body = b"".join(app(environ, lambda *start: started.append(start)))
    return started[0][0], body


def test_the_function():
    assert feeds.orders()["orders"] >= 0


def test_the_feed_and_the_page():
    push = Push.from_ini(str(INI))
    status, body = get(push.application, "/server/index/orders", "format=json")
    assert status == "200 OK"
    assert json.loads(body).keys() == {"orders", "at"}
    status, body = get(push.application, "/")
    assert status == "200 OK"
    assert b"NAME" in body
    push.close()
