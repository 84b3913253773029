"""`paster serve`, whose errors are for people: one line for what an ini can get wrong."""

from __future__ import annotations

import configparser
import logging.config
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from paste.script import serve

from pushdemo import logs
from pushdemo.handover.guardian import PID_FILE
from pushdemo.handover.reload import VARIABLE, WHOEVER, is_reload
from pushdemo.push.options import ConfigError

# What reads an ini. An error that came through these alone is about the ini, or about what is
# installed, and its message says what. Where anybody else's code took part in it, it may be a bug
# of theirs, and keeps its traceback.
_READERS = (__name__, "paste.script", "paste.deploy", "configparser", "codecs", "logging",
            "pkg_resources", "importlib.metadata")  # fmt: skip


def _configure_logging(config_file: str) -> bool:
    """As an ini says; whether it says anything. Loggers that it does not name go on: those of
    modules that are imported already, for one."""
    path = os.path.abspath(config_file)
    parser = configparser.ConfigParser()
    parser.read(path)
    if not parser.has_section("loggers"):
        return False
    defaults = {"__file__": path, "here": os.path.dirname(path)}
    logging.config.fileConfig(path, defaults, disable_existing_loggers=False)
    return True


class ServeCommand(serve.ServeCommand):  # type: ignore[misc]  # PasteScript has no types
    """PasteScript's command, which it finds in its place by the entry point of the same name."""

    _configured = False  # logging, by the ini

    parser = serve.ServeCommand.parser
    parser.add_option(
        "--take-over",
        dest="take_over",
        action="store_true",
        help="Take over the streams of the server that runs at this host and port, if one does;"
        " SIGHUP has a server start its own successor like that",
    )

    def command(self) -> Any:
        if is_reload():
            self._be_successor()
        elif self.options.take_over:
            os.environ[VARIABLE] = WHOEVER
        return super().command()

    def _be_successor(self) -> None:
        """What the old process has done for this one, too: it goes on as this one's guardian."""
        self.options.daemon = False
        self.options.pid_file = None
        self.args[:] = [
            argument
            for index, argument in enumerate(self.args)
            if index != 1 or argument not in self.possible_subcommands
        ]

    def record_pid(self, pid_file: str) -> None:
        super().record_pid(pid_file)
        os.environ[PID_FILE] = os.path.abspath(pid_file)  # for who removes it in the end

    def daemonize(self) -> None:
        super().daemonize()
        # A daemon has no terminal, so an interrupt is meant for it: --stop-daemon sends one. Where
        # the command was started, interrupts may have been ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def logging_file_config(self, config_file: str) -> None:
        self._configured = self._in_one_line(_configure_logging, config_file)

    def loadserver(self, *args: Any, **kwargs: Any) -> Any:
        # Where the ini does not. Paste gives a log file lines without a time.
        logs.configure(again=bool(self.options.log_file) and not self._configured)
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
