"""The application behind the routes: finds the controller that a route names, and calls it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from pushdemo.lib import base
from pushdemo.push.shorten import shorten
from pushdemo.wsgi.web import (
    HTTPException,
    HTTPInternalServerError,
    HTTPNotFound,
    Request,
    Response,
)

log = logging.getLogger(__name__)

LOGGED = 200  # characters of a path that are worth a log line


class Application:
    """A WSGI application, to stand behind Paste's RegistryManager and Routes' middleware.

    controllers: the package with a module for each controller: `server`, with a ServerController.
    app_globals: what controllers get under this name.
    """

    def __init__(self, controllers: str, app_globals: object) -> None:
        self._controllers = controllers
        self._app_globals = app_globals

    def __call__(
        self, environ: dict[str, Any], start_response: base.StartResponse
    ) -> Iterable[bytes]:
        register = environ["paste.registry"].register
        register(base.app_globals, self._app_globals)
        register(base.request, Request(environ))
        # Pylons' defaults: no answer is kept, unless its action says so.
        register(base.response, Response(cache_control="no-cache", pragma="no-cache"))
        register(base.url, environ["routes.url"])
        try:
            controller = self._find(environ["wsgiorg.routing_args"][1])
            return controller()(environ, start_response)  # type: ignore[no-any-return]
        except HTTPException as error:
            page = base.explain(error)
        except Exception:
            path = shorten(environ.get("PATH_INFO", ""), LOGGED)
            log.exception("error in the application, serving %s", path)
            page = base.explain(HTTPInternalServerError("The server's log says what went wrong."))
        return page(environ, start_response)

    def _find(self, variables: dict[str, str]) -> Any:
        name = variables.get("controller")
        if name is None:
            raise HTTPNotFound("There is nothing at this address.")
        module = self._module(name.replace("-", "_"))
        class_name = (
            name.replace("-", " ").replace("_", " ").title().replace(" ", "") + "Controller"
        )
        return getattr(module, class_name)

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self._controllers}.{name}")
