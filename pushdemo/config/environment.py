"""From the options of [app:main] to the objects they stand for."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mako.lookup import TemplateLookup

from pushdemo.lib.options import ConfigError, Options
from pushdemo.push.broadcaster import Broadcaster
from pushdemo.push.channel import Channel
from pushdemo.push.feed import Feed
from pushdemo.push.framing import Framing, Multipart
from pushdemo.push.publisher import Publisher
from pushdemo.push.stream import Streams
from pushdemo.servers import descriptors

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Globals:
    """What lives as long as the application; controllers reach it as `app_globals`.

    mako_lookup: finds the templates for `render`.
    channels: the feeds' channels by name, in the order of the ini.
    framing: the streams' wire format.
    streams: opens streams.
    close: ends the application's threads and streams, which otherwise end with the process.
    """

    mako_lookup: TemplateLookup
    channels: Mapping[str, Channel]
    framing: Framing
    streams: Streams
    close: Callable[[], None]


def load_environment(section: Mapping[str, str]) -> Globals:
    """What `section`, an [app:…] of PasteDeploy, asks for. Raises ConfigError.

    `feed.NAME = package.module:function` declares a feed; `feed.NAME.interval` and
    `feed.NAME.duration` are its options. `push.…` are those of all streams. Other keys are not
    looked at: they are those of whoever builds on this application.
    """
    push = Options(section, "push.")
    boundary = push.text("boundary", secrets.token_hex(16))
    try:
        framing = Multipart(boundary)
    except ValueError as error:
        raise ConfigError(f"push.boundary: {error}") from None
    broadcaster = Broadcaster(send_timeout=push.seconds("send_timeout", 30))
    streams = Streams(broadcaster, push.whole("max_streams", most_streams(), least=1))
    push.finish()

    publisher = Publisher()
    channels: dict[str, Channel] = {}
    for feed in load_feeds(section):
        channels[feed.name] = Channel(feed.name, on_watched=publisher.wake)
        publisher.add(feed, channels[feed.name])

    def close() -> None:
        publisher.close()
        broadcaster.close()

    lookup = TemplateLookup(
        [str(PACKAGE / "templates")], input_encoding="utf-8", default_filters=["h"]
    )
    return Globals(lookup, channels, framing, streams, close)


def most_streams() -> int:
    """As many streams as there are descriptors for."""
    return max(1, descriptors.limit() - 2 * descriptors.RESERVE)


def load_feeds(section: Mapping[str, str]) -> list[Feed]:
    """The feeds that `section` declares, in its order. Raises ConfigError."""
    keys = [key for key in section if key.startswith("feed.")]
    names = [key.removeprefix("feed.") for key in keys if key.count(".") == 1]
    for key in keys:
        if (name := key.split(".")[1]) not in names:
            raise ConfigError(
                f"{key}: there is no feed {name}; declare it with"
                f" feed.{name} = package.module:function"
            )
    return [load_feed(section, name) for name in names]


def load_feed(section: Mapping[str, str], name: str) -> Feed:
    """The feed called `name`. Raises ConfigError."""
    options = Options(section, f"feed.{name}.")
    interval = options.seconds("interval", 5)
    duration = options.seconds("duration", interval, zero=True)
    options.finish()
    key = f"feed.{name}"
    return Feed(name, find(key, section[key].strip()), interval=interval, duration=duration)


def find(key: str, path: str) -> Callable[..., Any]:
    """The function at `package.module:name`, which option `key` asks for. Raises ConfigError, and
    whatever importing the module raises that is the module's own mistake."""
    wanted = f"{key} = {path}:"
    module_name, colon, name = path.partition(":")
    if not (colon and module_name and name):
        raise ConfigError(f"{wanted} write it as package.module:function")
    try:
        function: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another
        raise ConfigError(
            f"{wanted} there is no module {error.name}; is it installed, or its directory on"
            " PYTHONPATH?"
        ) from None
    for attribute in name.split("."):
        try:
            function = getattr(function, attribute)
        except AttributeError:
            raise ConfigError(f"{wanted} {module_name} has no {name}") from None
    if not callable(function):
        raise ConfigError(f"{wanted} {name} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]
