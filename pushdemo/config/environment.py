"""From the options of [app:main] to the objects they stand for."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mako.lookup import TemplateLookup

from pushdemo.lib.cors import Cors
from pushdemo.lib.memoize import Memorized
from pushdemo.push.channel import Channel
from pushdemo.push.combined import CombinedChannels
from pushdemo.push.compute.executor import Executor, InProcess, InThread
from pushdemo.push.compute.feed import Feed
from pushdemo.push.compute.publisher import Publisher
from pushdemo.push.deliver import descriptors
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.loop import Health
from pushdemo.push.options import ConfigError, Options
from pushdemo.push.stream import Streams

# A stream's address names several feeds as a+b, and in an event stream an event's type is its
# feed's name, where some have a meaning already.
_FEED_NAME = re.compile(r"[^\s+/?#]+")
_RESERVED = ("error", "message", "open", "reset")

# What a feed is declared as whose values come from outside.
PUSHED = "push"

_MOST_LAYERS = 20  # of partials, caches and the like around a function

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Globals:
    """What lives as long as the application; controllers reach it as `app_globals`.

    mako_lookup: finds the templates for `render`.
    channels: the feeds' channels by name, in the order of the ini.
    combined: several of them as one.
    framings: the streams' wire formats, by the names of pushdemo.lib.negotiation.
    streams: opens streams.
    cors: who else may read them.
    token: what who publishes from outside must show; empty for nobody.
    pushed: the feeds that are published from outside.
    max_body: bytes that a value from outside may have.
    health: how the threads are that serve all feeds and all streams, by name.
    close: ends the application's threads and streams, which otherwise end with the process.
    """

    mako_lookup: TemplateLookup
    channels: Mapping[str, Channel]
    combined: CombinedChannels
    framings: Mapping[str, Framing]
    streams: Streams
    cors: Cors
    token: str
    pushed: frozenset[str]
    max_body: int
    health: Callable[[], Mapping[str, Health]]
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
    token = push.text("token", "")
    max_body = push.whole("max_body", 1024 * 1024, least=1)
    push.finish()

    pushed: list[str] = []
    publisher = Publisher()
    channels: dict[str, Channel] = {}
    for name in feed_names(section):
        feed, history = load_feed(section, name)
        channel = Channel(name, history=history, on_watched=publisher.wake)
        channels[name] = channel
        if feed is not None:
            publisher.add(feed, channel)
        elif not token:
            raise ConfigError(
                f"feed.{name} = {PUSHED}: nobody could push to it; set push.token to a secret that"
                " who may push to it knows"
            )
        else:
            pushed.append(name)

    def health() -> Mapping[str, Health]:
        return {"publisher": publisher.health, "broadcaster": broadcaster.health}

    def close() -> None:
        publisher.close()
        broadcaster.close()

    lookup = TemplateLookup(
        [str(PACKAGE / "templates")], input_encoding="utf-8", default_filters=["h"]
    )
    return Globals(
        mako_lookup=lookup,
        channels=channels,
        combined=CombinedChannels(),
        framings=framings,
        streams=streams,
        cors=cors,
        token=token,
        pushed=frozenset(pushed),
        max_body=max_body,
        health=health,
        close=close,
    )


def most_streams() -> int:
    """As many streams as there are descriptors for."""
    return max(1, descriptors.limit() - 2 * descriptors.RESERVE)


def feed_names(section: Mapping[str, str]) -> list[str]:
    """The names of the feeds that `section` declares, in its order. Raises ConfigError."""
    keys = [key for key in section if key.startswith("feed.")]
    names = [key.removeprefix("feed.") for key in keys if key.count(".") == 1]
    for key in keys:
        if (name := key.split(".")[1]) not in names:
            raise ConfigError(
                f"{key}: there is no feed {name}; declare it with"
                f" feed.{name} = package.module:function"
            )
    return names


def load_feed(section: Mapping[str, str], name: str) -> tuple[Feed | None, int]:
    """The feed called `name`, or None for one that is pushed, and its channel's history. Raises
    ConfigError."""
    if not _FEED_NAME.fullmatch(name) or name in _RESERVED:
        raise ConfigError(
            f"feed.{name}: a feed cannot have this name; one without spaces, + and /, that is none"
            f" of {', '.join(_RESERVED)}, can"
        )
    options = Options(section, f"feed.{name}.")
    history = options.whole("history", 1, least=1)
    path = section[f"feed.{name}"].strip()
    if path == PUSHED:
        options.finish()
        return None, history
    interval = options.seconds("interval", 5)
    duration = options.seconds("duration", interval, zero=True)
    repeat = options.flag("repeat", True)
    timeout = options.seconds("timeout", 300)
    # In a thread, a function sees what the rest of the application sees, and most functions wait
    # for something else for most of their time: that is what somebody who reads no documentation
    # expects. Where it is wrong, the log says so (see InThread).
    where = options.choice("executor", "thread", ("thread", "process"))
    arguments = options.below("arg")
    options.finish()
    feed = Feed(
        name,
        executor(f"feed.{name}", path, arguments, where == "process"),
        interval=interval,
        duration=duration,
        repeat=repeat,
        timeout=timeout,
    )
    return feed, history


def executor(key: str, path: str, arguments: Mapping[str, str], in_process: bool) -> Executor:
    """What runs the function at `path` with `arguments`. Raises ConfigError."""
    function = find(key, path)
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{key} = {path}: {error}; {key}.arg.NAME gives it an argument") from None
    except ValueError:  # it has no signature to look at: the first call will tell
        pass
    name = key.removeprefix("feed.")
    if in_process:
        return InProcess(name, path, arguments)
    return InThread(name, functools.partial(function, **arguments))


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
    if (complaint := _no_value(function)) is not None:
        raise ConfigError(f"{wanted} {name} {complaint}")
    return function  # type: ignore[no-any-return]


def _no_value(function: Any) -> str | None:
    """What is wrong with a function that returns no value when it is called, but something that
    would have to be awaited or iterated."""
    function = _called(function)
    if inspect.iscoroutinefunction(function):
        return (
            "is an async function, and a feed's function is called without an event loop; write a"
            " function that returns asyncio.run(...) of it"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "is a generator function; a feed's function must return one value, such as a list"
    return None


def _called(function: Any) -> Any:
    """The function that runs when this is called: below partials, methods, caches, and objects that
    can be called. Other wrappers are not looked into: one may run the event loop itself."""
    for _ in range(_MOST_LAYERS):
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif isinstance(function, Memorized | functools._lru_cache_wrapper):
            function = function.__wrapped__
        elif inspect.isroutine(function) or isinstance(function, type):
            break
        else:
            function = type(function).__call__
    return function
