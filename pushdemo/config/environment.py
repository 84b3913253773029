"""What lives as long as the application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mako.lookup import TemplateLookup

from pushdemo.library import Push

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
    lookup = TemplateLookup(
        [str(PACKAGE / "templates")], input_encoding="utf-8", default_filters=["h"]
    )
    return Globals(push, lookup)
