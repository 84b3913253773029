"""/: the pages."""

from __future__ import annotations

from pushdemo.lib.addresses import reference
from pushdemo.lib.base import BaseController, app_globals, request, response
from pushdemo.wsgi import page
from pushdemo.wsgi.page import Page


class HomeController(BaseController):
    """A card for each feed, and the page of 2009."""

    def index(self) -> str:
        """All feeds."""
        return _shown(page.dashboard(list(app_globals.push.feeds.values()), _base()))

    def seed(self) -> str:
        """The first feed, line by line."""
        return _shown(page.seed_page(list(app_globals.push.feeds.values()), _base()))


def _base() -> str:
    """The application's root, as the page must name it."""
    return reference(request.environ, "/")


def _shown(shown: Page) -> str:
    response.headers.update(shown.headers)
    return shown.html
