"""A feed's template: HTML of a value, made once for everybody.

A Mako template, in a file, is given `value` (as JSON has it; text; or bytes), `feed` (its name) and
`computed` (a datetime, in UTC). What it inserts is escaped for HTML, unless it says otherwise
(`${value | n}`). A function is given the value, and returns the HTML: it may use any other
templates, and escapes by itself.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pushdemo.push.compute.convert import without_surrogates
from pushdemo.push.compute.payload import Blob, Data, Payload, Text
from pushdemo.push.options import ConfigError

Render = Callable[[Any, str, datetime.datetime], str]


class Template:
    """render: makes it of a value, the feed's name, and when the value was computed."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def html(self, payload: Payload, feed: str, computed: float) -> str:
        """The HTML of a value. computed: seconds since the epoch. Raises what the template raises,
        and TypeError where it makes no text."""
        when = datetime.datetime.fromtimestamp(computed, datetime.timezone.utc)
        made = self._render(_value_of(payload), feed, when)
        if not isinstance(made, str):
            raise TypeError(f"the template made a {type(made).__name__}, and no text")
        return without_surrogates(str(made))


def of_function(function: Callable[[Any], str]) -> Template:
    """A function is given the value alone."""
    return Template(lambda value, _feed, _computed: function(value))


def of_file(key: str, path: str) -> Template:
    """A Mako template in a file: beside the ini or the module, in the current directory, or
    anywhere on Python's path. Raises ConfigError, which names the option `key`."""
    file = _find(path)
    if file is None:
        raise ConfigError(
            f"{key} = {path}: there is no such file here, beside the ini or on Python's path"
        )
    from mako import exceptions, template
    from mako.lookup import TemplateLookup

    lookup = TemplateLookup([str(file.parent)], input_encoding="utf-8", default_filters=["h"])
    try:
        made = template.Template(
            filename=str(file), lookup=lookup, input_encoding="utf-8", default_filters=["h"],
            strict_undefined=True,
        )  # fmt: skip
    except (exceptions.MakoException, SyntaxError, UnicodeDecodeError, OSError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{key} = {path}: {said}") from None

    def render(value: Any, feed: str, computed: datetime.datetime) -> str:
        rendered: str = made.render(value=value, feed=feed, computed=computed)
        return rendered

    return Template(render)


def _find(path: str) -> Path | None:
    for directory in (os.getcwd(), *sys.path):
        file = Path(directory) / path
        if file.is_file():
            return file
    return None


def _value_of(payload: Payload) -> Any:
    match payload:
        case Text(text):
            return text
        case Data():
            return payload.value
        case Blob(data):
            return data
