"""Formatters for logging: a line with time, level and name, or a JSON object. In an ini,

    [formatter_text]
    class = pushdemo.logs.TextFormatter

What a client sends, and what a feed's exception says, may stand in a log line. Neither can act
there: what would move a cursor is escaped, and no line of it begins at the margin (CWE-117,
CWE-150).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_PLAIN = logging.LogRecord("", 0, "", 0, "", None, None)
_OWN = {*vars(_PLAIN), "message", "asctime", "taskName"}


def harmless(text: str) -> str:
    """The text with an escape for each character that cannot be printed, but for line ends and
    tabs."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text
    )


class TextFormatter(logging.Formatter):
    """`2026-11-30 12:00:00.123 INFO pushdemo.streams: …`, in local time with its offset. What has
    several lines is indented from the second on, so that each line at the margin is a record."""

    def __init__(self, *_: object, **__: object) -> None:
        # What an ini's [formatter_…] section names besides is not looked at.
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802  # logging's names
        local = time.localtime(record.created)
        zone = time.strftime("%z", local)
        milliseconds = min(999, int(record.msecs))
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{milliseconds:03d}{zone}"

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record)).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """An object in one line for each record: time (ISO 8601, UTC), level, name, message; `error`, a
    traceback, where there is one; and what was given as `extra`."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{whole}.{min(999, int(record.msecs)):03d}Z",
            "level": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        said |= {name: value for name, value in vars(record).items() if name not in _OWN}
        return json.dumps(said, default=repr)  # in ASCII: nothing in it can act


def configure(level: int = logging.INFO, *, again: bool = False) -> None:
    """Write what is logged to stderr, as text. Where logging is configured already, it stays so,
    unless it is to be done again."""
    root = logging.getLogger()
    if root.handlers and not again:
        return
    for old in list(root.handlers):
        root.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter())
    root.addHandler(handler)
    root.setLevel(level)
