"""The composition root: `make_app` puts the application together. It knows everybody."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paste.registry import RegistryManager

from pushdemo.config.environment import PACKAGE, load_environment
from pushdemo.config.routing import make_map
from pushdemo.lib.application import Application
from pushdemo.lib.static_files import StaticFiles
from pushdemo.library import Push, with_paths
from pushdemo.push.compute.declaration import PUSHED
from pushdemo.push.deliver import sockets
from pushdemo.push.options import ConfigError
from pushdemo.wsgi.formats import STREAM_HEADERS
from pushdemo.wsgi.monitor import Monitor
from pushdemo.wsgi.web import RoutesMiddleware

log = logging.getLogger(__name__)


def make_app(global_conf: Mapping[str, str], **section: str) -> Any:
    """PasteDeploy's `paste.app_factory`: a WSGI application for the options of an [app:…] section.

    Raises pushdemo.push.options.ConfigError.
    """
    # A module beside the ini is found, as one beside a script is; after all that is installed.
    here = global_conf.get("here")
    if here and here not in sys.path:
        sys.path.append(here)
    push = check_section(with_paths(section, here) if here else section)
    push.check()
    return push.application


def check_section(section: Mapping[str, str]) -> Push:
    """The feeds of an [app:…] section, as an application has them. Raises ConfigError."""
    push = Push.from_ini(section)
    pushed = [name for name, feed in push.feeds.items() if feed.is_pushed]
    if pushed and not push.settings.token:
        raise ConfigError(
            f"feed.{pushed[0]} = {PUSHED}: nobody could push to it; set push.token to a secret that"
            " its publishers send"
        )
    return push


def application_for(push: Push) -> Any:
    """A WSGI application that shows the feeds of `push`: pages, scripts and streams."""
    _say_what_is_missing()
    app: Any = Application("pushdemo.controllers", load_environment(push))
    app = RoutesMiddleware(
        app, make_map(PACKAGE / "controllers"), use_method_override=False, singleton=False
    )
    app = RegistryManager(app)
    app = PublicFirst(PACKAGE / "public", Monitor(push, app))
    if push.settings.public:
        app = PublicFirst(Path(push.settings.public), app, index=True)
    return push.middleware(app)


@functools.cache  # once for the process, which may have several applications
def _say_what_is_missing() -> None:
    if missing := sockets.missing_in_c():
        log.warning("%s", missing)


class PublicFirst:
    """The files of a directory, before any route. Paste's Cascade does that for any applications,
    by asking one after another, and has an error page made for each that has nothing.

    index: whether the root is its index.html, if it has one.
    """

    def __init__(self, public: Path, app: Any, *, index: bool = False) -> None:
        self._index = index and (public / "index.html").is_file()
        self._public = StaticFiles(public)
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO") or ""
        # The root is a page; without its slash it is a directory, and is redirected as those are.
        if (path != "/" or self._index) and self._public.has(path or "/"):
            return self._public(environ, start_response)
        return self._app(environ, start_response)

    def pushdemo_collapses(self) -> Sequence[str] | None:
        """By what the streams are made: see pushdemo.servers.collapsing. Only while between here
        and their controller there is nothing but what `make_app` puts there: anything else may have
        to see each request."""
        app = self._app
        if type(app) is PublicFirst:
            return app.pushdemo_collapses()
        app = app.app if type(app) is Monitor else app
        for kind, inner in ((RegistryManager, "application"), (RoutesMiddleware, "app")):
            if type(app) is not kind:
                return None
            app = getattr(app, inner)
        return STREAM_HEADERS if type(app) is Application else None
