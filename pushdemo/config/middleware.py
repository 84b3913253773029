"""The composition root: `make_app` puts the application together. It knows everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paste.cascade import Cascade
from paste.registry import RegistryManager
from paste.urlparser import StaticURLParser
from routes.middleware import RoutesMiddleware

from pushdemo.config.environment import PACKAGE, load_environment
from pushdemo.config.routing import make_map
from pushdemo.lib.application import Application


def make_app(
    global_conf: Mapping[str, str],  # noqa: ARG001  # PasteDeploy's signature
    **section: str,
) -> Any:
    """PasteDeploy's `paste.app_factory`: a WSGI application for the options of an [app:…] section.

    Raises pushdemo.lib.options.ConfigError.
    """
    app: Any = Application("pushdemo.controllers", load_environment(section))
    app = RoutesMiddleware(
        app, make_map(PACKAGE / "controllers"), use_method_override=False, singleton=False
    )
    app = RegistryManager(app)
    # A file of public/ comes before any route.
    return Cascade([StaticURLParser(str(PACKAGE / "public")), app])
