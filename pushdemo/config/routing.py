"""The routes."""

from __future__ import annotations

from pathlib import Path

from routes import Mapper


def make_map(controllers: Path) -> Mapper:
    """/{controller}/{action}/{id}, the last two optional, for the modules in `controllers`; and the
    pages."""
    # Routes lets {controller} match only what it knows to be one.
    names = [path.stem for path in controllers.glob("[!_]*.py")]
    routes = Mapper(controller_scan=lambda _: names, directory=str(controllers))
    routes.minimization = False
    routes.connect("/", controller="home", action="index")
    routes.connect("/index.html", controller="home", action="index")
    # Where the application has a page of its own at the root, all feeds are here.
    routes.connect("/feeds.html", controller="home", action="index")
    routes.connect("/seed.html", controller="home", action="seed")
    routes.connect("/{controller}", action="index")
    routes.connect("/{controller}/{action}")
    routes.connect("/{controller}/{action}/{id}")
    return routes
