"""From the options of [app:main] to the objects they stand for."""

from __future__ import annotations

import importlib
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mako.lookup import TemplateLookup

from pushdemo.lib.cors import Cors
from pushdemo.lib.options import ConfigError, Options
from pushdemo.push.broadcaster import Broadcaster
from pushdemo.push.channel import Channel
from pushdemo.push.feed import Feed
from pushdemo.push.framing import EventStream, Framing, Multipart, NdJson
from pushdemo.push.mix import Mixes
from pushdemo.push.publisher import Publisher
from pushdemo.push.stream import Streams
from pushdemo.servers import descriptors

# A stream's address names several feeds as a+b, and in an event stream an event's type is its
# feed's name, where some have a meaning already.
_FEED_NAME = re.compile(r"[^\s+/?#]+")
_RESERVED = ("error", "message", "open", "reset")

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Globals:
    """What lives as long as the application; controllers reach it as `app_globals`.

    mako_lookup: finds the templates for `render`.
    channels: the feeds' channels by name, in the order of the ini.
    mixes: several of them as one.
    framings: the streams' wire formats, by the names of pushdemo.lib.negotiation.
    streams: opens streams.
    cors: who else may read them.
    close: ends the application's threads and streams, which otherwise end with the process.
    """

    mako_lookup: TemplateLookup
    channels: Mapping[str, Channel]
    mixes: Mixes
    framings: Mapping[str, Framing]
    streams: Streams
    cors: Cors
    close: Callable[[], None]


def load_environment(section: Mapping[str, str]) -> Globals:
    """What `section`, an [app:…] of PasteDeploy, asks for. Raises ConfigError.

    `feed.NAME = package.module:function` declares a feed; `feed.NAME.interval` and
    `feed.NAME.duration` are its options. `push.…` are those of all streams. Other keys are not
    looked at: they are those of whoever builds on this application.
    """
    push = Options(section, "push.")
    boundary = push.text("boundary", secrets.token_hex(16))
    retry = round(push.seconds("retry", 2) * 1000)
    try:
        multipart = Multipart(boundary, retry)
    except ValueError as error:
        raise ConfigError(f"push.boundary: {error}") from None
    framings: dict[str, Framing] = {
        "multipart": multipart,
        "sse": EventStream(retry),
        "ndjson": NdJson(),
    }
    heartbeat = push.seconds("heartbeat", 15)
    broadcaster = Broadcaster(send_timeout=push.seconds("send_timeout", 30), heartbeat=heartbeat)
    streams = Streams(broadcaster, push.whole("max_streams", most_streams(), least=1), heartbeat)
    cors = Cors(push.text("cors", "").split())
    push.finish()

    publisher = Publisher()
    channels: dict[str, Channel] = {}
    for feed, history in load_feeds(section):
        channel = Channel(feed.name, history=history, on_watched=publisher.wake)
        channels[feed.name] = channel
        publisher.add(feed, channel)

    def close() -> None:
        publisher.close()
        broadcaster.close()

    lookup = TemplateLookup(
        [str(PACKAGE / "templates")], input_encoding="utf-8", default_filters=["h"]
    )
    return Globals(lookup, channels, Mixes(), framings, streams, cors, close)


def most_streams() -> int:
    """As many streams as there are descriptors for."""
    return max(1, descriptors.limit() - 2 * descriptors.RESERVE)


def load_feeds(section: Mapping[str, str]) -> list[tuple[Feed, int]]:
    """The feeds that `section` declares, in its order, each with the length of its channel's
    history. Raises ConfigError."""
    keys = [key for key in section if key.startswith("feed.")]
    names = [key.removeprefix("feed.") for key in keys if key.count(".") == 1]
    for key in keys:
        if (name := key.split(".")[1]) not in names:
            raise ConfigError(
                f"{key}: there is no feed {name}; declare it with"
                f" feed.{name} = package.module:function"
            )
    return [load_feed(section, name) for name in names]


def load_feed(section: Mapping[str, str], name: str) -> tuple[Feed, int]:
    """The feed called `name`, and its history. Raises ConfigError."""
    if not _FEED_NAME.fullmatch(name) or name in _RESERVED:
        raise ConfigError(
            f"feed.{name}: a feed cannot have this name; one without spaces, + and /, that is none"
            f" of {', '.join(_RESERVED)}, can"
        )
    options = Options(section, f"feed.{name}.")
    interval = options.seconds("interval", 5)
    duration = options.seconds("duration", interval, zero=True)
    repeat = options.flag("repeat", True)
    history = options.whole("history", 1, least=1)
    options.finish()
    key = f"feed.{name}"
    function = find(key, section[key].strip())
    feed = Feed(name, function, interval=interval, duration=duration, repeat=repeat)
    return feed, history


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
