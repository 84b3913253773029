"""Django, in one file: a feed, and a login that decides who may watch it.

pip install pushdemo django gunicorn
gunicorn django_app:application
pushdemo run django_app:push -- gunicorn -w 4 django_app:application
"""

import os
import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, HttpResponseForbidden
from django.urls import path

from pushdemo import Push

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={},
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.gzip.GZipMiddleware",
            "django.middleware.common.CommonMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("SECRET_KEY", "for trying it only"),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )

push = Push()


@push.feed(interval=2, duration=10)
def orders():
    time.sleep(0.5)  # a slow query; it runs once for all clients
    return {"orders": 42, "at": time.strftime("%H:%M:%S")}


def page(request):
    return HttpResponse("""<!doctype html>
<title>Orders</title>
<p id="orders">No value yet.</p>
<script>
  const source = new EventSource("live/orders");
  source.onmessage = (event) => { document.getElementById("orders").textContent = event.data; };
</script>
""")


def live_orders(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return push.django(request, "orders")


def live_report(request):
    if "user" not in request.session:
        return HttpResponseForbidden("Log in first.")
    return push.django(request, "orders")


def login(request, user):
    request.session["user"] = user  # check a password here
    return HttpResponse("Welcome.")


urlpatterns = [
    path("", page),
    path("live/orders", live_orders),
    path("live/report", live_report),
    path("login/<user>", login),
]

# Streams are taken off the server outside of everything that Django does.
application = push.middleware(get_wsgi_application())
