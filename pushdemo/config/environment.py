"""What lives as long as the application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mako.lookup import TemplateLookup

from pushdemo.library import Push
from pushdemo.wsgi.page import lookup

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Globals:
    """What controllers reach as `app_globals`.

    push: the feeds.
    mako_lookup: finds the templates for `render`.
    """

    push: Push
    mako_lookup: TemplateLookup


def load_environment(push: Push) -> Globals:
    """The globals of an application that shows the feeds of `push`."""
    return Globals(push, lookup())
