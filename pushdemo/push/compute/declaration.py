"""A feed as it is declared: its options and its function, checked; nothing runs yet.

A declaration may be made in a process that forks afterwards. What runs the function is made by
`feed`, in the process that needs it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pushdemo.lib.memoize import Memorized
from pushdemo.push.compute import template as templates
from pushdemo.push.compute.executor import Executor, InProcess, InThread
from pushdemo.push.compute.feed import Feed
from pushdemo.push.compute.origin import Origin
from pushdemo.push.compute.template import Template
from pushdemo.push.options import ConfigError, Options

# A stream's address names several feeds as a+b, and in an event stream an event's type is its
# feed's name, where some have a meaning already. Names with a tilde are pushdemo's own: see
# pushdemo.push.status.
_NAME = re.compile(r"(?!~)[^\s+/?#]+")
_RESERVED = ("error", "message", "open", "reset")

# What a feed is declared as whose values come from outside.
PUSHED = "push"

# What the address of a relay's origin begins with.
ORIGINS = ("http://", "https://")

_MOST_LAYERS = 20  # of partials, caches and the like around a function


@dataclass(frozen=True)
class Declaration:
    """See the module. For the units, see Feed.

    make_executor: makes what runs the function; None for a feed whose values come from elsewhere.
    origin: where the events of a relay come from; None for other feeds.
    history: how many events are kept for clients that come back.
    template: makes HTML of a value; None where there is none.
    """

    name: str
    make_executor: Callable[[], Executor] | None
    history: int = 1
    interval: float = 5.0
    duration: float = 5.0
    repeat: bool = True
    timeout: float = 300.0
    origin: Origin | None = None
    template: Template | None = None

    @property
    def is_pushed(self) -> bool:
        """Whether its values are published here, from outside."""
        return self.make_executor is None and self.origin is None

    def feed(self) -> Feed | None:
        """What computes its values; None for a feed whose values come from elsewhere."""
        if self.make_executor is None:
            return None
        return Feed(
            self.name,
            self.make_executor(),
            interval=self.interval,
            duration=self.duration,
            repeat=self.repeat,
            timeout=self.timeout,
            template=self.template,
        )


def names_in(section: Mapping[str, str]) -> list[str]:
    """The names of the feeds that an ini's section declares, in its order. Raises ConfigError."""
    keys = [key for key in section if key.startswith("feed.")]
    names = [key.removeprefix("feed.") for key in keys if key.count(".") == 1]
    for key in keys:
        if (name := key.split(".")[1]) not in names:
            raise ConfigError(
                f"{key}: there is no feed {name}; declare it with"
                f" feed.{name} = package.module:function"
            )
    return names


def declared_in(section: Mapping[str, str], name: str) -> Declaration:
    """The feed called `name`, as an ini's section declares it. Raises ConfigError."""
    check_name(name)
    options = Options(section, f"feed.{name}.")
    path = section[f"feed.{name}"].strip()
    if path == PUSHED:
        return pushed(name, options)
    if path.startswith(ORIGINS):
        headers = options.below("header")
        return relayed(name, path, options, headers)
    arguments = options.below("arg")
    function = find(f"feed.{name}", path)
    return computed(name, function, options, path=path, arguments=arguments)


def pushed(name: str, options: Options, template: Template | None = None) -> Declaration:
    """A feed whose values are published. Raises ConfigError."""
    check_name(name)
    history = options.whole("history", 1, least=1)
    template = template or _template(name, options)
    options.finish()
    return Declaration(name, None, history=history, template=template)


def relayed(name: str, url: str, options: Options, headers: Mapping[str, str]) -> Declaration:
    """A feed whose events are another pushdemo's. Raises ConfigError."""
    check_name(name)
    history = options.whole("history", 1, least=1)
    options.finish()
    try:
        return Declaration(name, None, history=history, origin=Origin(url, headers))
    except ValueError as error:
        raise ConfigError(f"feed.{name} = {url}: {error}") from None


def computed(
    name: str,
    function: Callable[..., object],
    options: Options,
    *,
    path: str,
    arguments: Mapping[str, str],
    template: Template | None = None,
) -> Declaration:
    """A feed whose values a function computes. Raises ConfigError.

    path: `package.module:function`, by which another process finds the function.
    arguments: what it is called with.
    template: of its values, where that is no file that an option names.
    """
    check_name(name)
    history = options.whole("history", 1, least=1)
    interval = options.seconds("interval", 5)
    duration = options.seconds("duration", interval, zero=True)
    repeat = options.flag("repeat", True)
    timeout = options.seconds("timeout", 300)
    # In a thread, a function sees what the rest of the application sees, and most functions wait
    # for something else for most of their time: that is what somebody who reads no documentation
    # expects. Where it is wrong, the log says so (see InThread).
    where = options.choice("executor", "thread", ("thread", "process"))
    template = template or _template(name, options)
    options.finish()
    return Declaration(
        name,
        _executor(name, function, path, arguments, where == "process"),
        history=history,
        interval=interval,
        duration=duration,
        repeat=repeat,
        timeout=timeout,
        template=template,
    )


def decorated(
    name: str,
    function: Callable[..., object],
    options: Options,
    template: Template | None = None,
) -> Declaration:
    """A feed whose values a function computes that is at hand, and takes no arguments. Raises
    ConfigError."""
    called = getattr(function, "__qualname__", type(function).__qualname__)
    check_function(f"feed.{name}:", called, function)
    module = getattr(function, "__module__", type(function).__module__)
    path = f"{module}:{called}"
    return computed(name, function, options, path=path, arguments={}, template=template)


def _template(name: str, options: Options) -> Template | None:
    path = options.text("template", "")
    return templates.of_file(f"feed.{name}.template", path) if path else None


def check_name(name: str) -> None:
    """Raises ConfigError for what cannot be a feed's name."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise ConfigError(
            f"feed.{name}: a feed cannot have this name; one without spaces, + and /, that is none"
            f" of {', '.join(_RESERVED)} and begins without ~, can"
        )


def _executor(
    name: str,
    function: Callable[..., object],
    path: str,
    arguments: Mapping[str, str],
    in_process: bool,
) -> Callable[[], Executor]:
    key = f"feed.{name}"
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{key} = {path}: {error}; {key}.arg.NAME gives it an argument") from None
    except ValueError:  # it has no signature to look at: the first call will tell
        pass
    if in_process and "<" in path:  # of a function in a function: <locals>, or a <lambda>
        raise ConfigError(
            f"{key}.executor = process: {path} cannot be imported by another process; define it at"
            " the top level of a module"
        )
    if in_process:
        return functools.partial(InProcess, name, path, arguments)
    return functools.partial(InThread, name, functools.partial(function, **arguments))


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
    check_function(wanted, name, function)
    return function  # type: ignore[no-any-return]


def check_function(wanted: str, name: str, function: Callable[..., Any]) -> None:
    """Raises ConfigError for a function that returns no value when it is called."""
    if (complaint := _no_value(function)) is not None:
        raise ConfigError(f"{wanted} {name} {complaint}")


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
