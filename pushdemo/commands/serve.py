"""`paster serve`, whose errors are for people: one line for what an ini can get wrong."""

from __future__ import annotations

import configparser
import signal
import traceback
from collections.abc import Callable
from typing import Any

from paste.script import serve

from pushdemo.push.options import ConfigError

# What reads an ini. An error that came through these alone is about the ini, or about what is
# installed, and its message says what. Where anybody else's code took part in it, it may be a bug
# of theirs, and keeps its traceback.
_READERS = ("paste.script", "paste.deploy", "configparser", "codecs", "logging", "pkg_resources",
            "importlib.metadata")  # fmt: skip


class ServeCommand(serve.ServeCommand):  # type: ignore[misc]  # PasteScript has no types
    """PasteScript's command, which it finds in its place by the entry point of the same name."""

    def daemonize(self) -> None:
        super().daemonize()
        # A daemon has no terminal, so an interrupt is meant for it: --stop-daemon sends one. Where
        # the command was started, interrupts may have been ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def logging_file_config(self, config_file: str) -> None:
        self._in_one_line(super().logging_file_config, config_file)

    def loadserver(self, *args: Any, **kwargs: Any) -> Any:
        return self._in_one_line(super().loadserver, *args, **kwargs)

    def loadapp(self, *args: Any, **kwargs: Any) -> Any:
        return self._in_one_line(super().loadapp, *args, **kwargs)

    def _in_one_line(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (OSError, LookupError, ImportError, ValueError, configparser.Error) as error:
            _, *frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
            names = [frame.f_globals.get("__name__", "") for frame in frames]
            if not all(name.startswith(_READERS) for name in names):
                raise
            if isinstance(error, OSError) and error.filename:
                raise ConfigError(f"{error.filename}: {error.strerror}") from None
            # configparser's KeyError, for a section that [loggers] and the like name, is just that.
            missing = "there is no section " if isinstance(error, KeyError) else ""
            raise ConfigError(f"{self.args[0]}: {missing}{error}") from None
