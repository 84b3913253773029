"""`pushdemo check INI`: what would run, and what would keep it from running."""

from __future__ import annotations

import argparse
import configparser
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pushdemo.commands.status import table

if TYPE_CHECKING:
    from pushdemo.library import Push
    from pushdemo.push.compute.declaration import Declaration

HELP = "Say what an ini would run; with exit code 1, what is wrong with it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ini", metavar="INI", help="such as development.ini")


def run(arguments: argparse.Namespace) -> int:
    path = arguments.ini
    if not os.path.isfile(path):
        print(f"pushdemo: there is no file {path}", file=sys.stderr)
        return 1
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    warnings.filterwarnings("ignore", "Deprecated call to")
    try:
        lines = list(_lines(path))
    except (
        OSError, LookupError, ImportError, ValueError, SyntaxError, configparser.Error
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())
        print(f"pushdemo: {path}: {type(error).__name__}: {said}", file=sys.stderr)
        return 1
    # A ConfigError is a SystemExit, whose message is the line to say.
    print("\n".join(lines))
    return 0


def _lines(path: str) -> Iterator[str]:
    from pushdemo.config.middleware import check_section
    from pushdemo.library import section_of
    from pushdemo.push.deliver import sockets

    section = section_of(path)
    push = check_section(section)
    yield table([_row(section, name, one) for name, one in push.feeds.items()]) or "no feed"
    yield ""
    yield from _options(push)
    yield _server(path)
    yield sockets.missing_in_c() or "events are sent in C"


def _row(section: Any, name: str, declared: Declaration) -> dict[str, Any]:
    computed = declared.make_executor is not None
    return {
        "feed": name,
        "from": section[f"feed.{name}"],
        "interval": declared.interval if computed else None,
        "duration": declared.duration if computed else None,
        "executor": section.get(f"feed.{name}.executor", "thread") if computed else None,
        "history": declared.history,
        "template": section.get(f"feed.{name}.template"),
    }


def _options(push: Push) -> Iterator[str]:
    settings = push.settings
    yield f"streams: {settings.max_streams or 'as many as there are descriptors'}"
    yield f"published from outside: {'with a token' if settings.token else 'no'}"
    if push.broker_address is None:
        yield "broker: none, this process is the only one"
    else:
        yield f"broker: {push.broker_address}"  # without its password
    if settings.broadcaster:
        yield f"broadcaster: {settings.broadcaster}"


def _server(path: str) -> str:
    from paste.deploy import loadwsgi

    try:
        context = loadwsgi.loadcontext(loadwsgi.SERVER, f"config:{os.path.abspath(path)}")
    except LookupError:
        return "server: none in this ini; another one serves it"
    config = context.config()
    named = context.entry_point_name or "main"
    place = f"{config.get('host', '127.0.0.1')}:{config.get('port', 8080)}"
    package = getattr(context.distribution, "metadata", {})["Name"]
    return f"server: egg:{package}#{named} at {place}"
