"""`pushdemo broadcaster app:push`: the process that holds all streams and runs all feeds."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from pushdemo.handover.address import VARIABLE, socket_path
from pushdemo.handover.succession import OldGoesOn

if TYPE_CHECKING:
    from pushdemo.library import Push

HELP = "Hold the streams and run the feeds of all workers of this machine."


class NoPush(Exception):
    """There is no Push where the command was told to find one. The message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_push_argument(parser)
    parser.add_argument("--socket", metavar="ADDRESS",
        help="unix:/run/NAME/NAME.sock (default: the Push's option broadcaster, then "
        f"${VARIABLE})")  # fmt: skip
    parser.add_argument("--mode", type=permissions, default="660", metavar="MODE",
        help="the socket's permissions: who may write to it may hand over connections and publish "
        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--take-over", action="store_true",
        help="take over the streams of the process that listens there, if there is one; SIGHUP "
        "has a broadcaster start its own successor like that")  # fmt: skip


def add_push_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("push", metavar="PUSH",
        help="module:attribute, found from the current directory too, or an ini file")  # fmt: skip


def permissions(text: str) -> int:
    """For argparse: an octal number."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no mode: 660 is one")
    return mode


def run(arguments: argparse.Namespace) -> int:
    try:
        push = find_push(arguments.push)
        address: str = arguments.socket or push.settings.broadcaster
        if not address:
            arguments.usage_error(
                f"there is no address: give --socket unix:/run/NAME.sock, the Push's option "
                f"broadcaster, or {VARIABLE}"
            )
        socket_path(address)
    except (NoPush, ValueError) as error:
        return _complain(error)
    try:
        push.serve_broadcaster(address, mode=arguments.mode, take_over=arguments.take_over)
    except OldGoesOn as error:
        return _complain(f"it cannot take over, and the old process goes on: {error}")
    except (OSError, ValueError) as error:
        return _complain(error)
    return 0


def _complain(error: Exception | str) -> int:
    print(f"pushdemo: {error}", file=sys.stderr)
    return 1


def find_push(name: str) -> Push:
    """The Push that `module:attribute` or an ini file names.

    Raises NoPush. An error inside the module is raised as it is: its traceback says where.
    """
    # An application expects to be found, and to find its files, as under gunicorn.
    sys.path.insert(0, os.getcwd())
    found = _of_ini(name) if name.endswith(".ini") else _of_module(name)
    if isinstance(found, type) or not callable(getattr(found, "serve_broadcaster", None)):
        what = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise NoPush(f"{name} is no Push: it is {what}")
    return cast("Push", found)


def _of_ini(path: str) -> object:
    if not os.path.isfile(path):
        raise NoPush(f"there is no file {path}")
    # Imported here, because the library imports everything, and the other commands need little.
    library = importlib.import_module("pushdemo")
    return library.Push.from_ini(path)


def _of_module(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise NoPush(f"{name!r} is neither module:attribute nor an ini file")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Another name is one that the module itself wants to import.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise NoPush(
            f"there is no module {error.name} in {os.getcwd()} or on Python's path"
        ) from None
    try:
        return cast(object, attrgetter(attribute)(module))
    except AttributeError:
        raise NoPush(f"the module {module_name} has no attribute {attribute}") from None
