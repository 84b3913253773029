"""The files of a directory, by Paste's StaticURLParser, which is given only what it can take.

What a client may send and Paste fails on is left out or refused here, at the door:

- a path that no link has: the parser calls itself for each `/` and `.` too many, until it has
  called itself too often;
- an If-Modified-Since that is no date, or lies in the future: it is ignored (RFC 9110, section
  13.1.3);
- a Range: it is ignored (RFC 9110, section 14.2), as the files are small.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from paste.urlparser import StaticURLParser

LONGEST_DATE = 64  # characters


class StaticFiles:
    """A WSGI application, for the paths that it `has`."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._parser = StaticURLParser(self._directory)

    def has(self, path: str) -> bool:
        """Whether there is a file or a directory at that path."""
        return _is_plain(path) and os.path.exists(self._directory + path)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop("HTTP_RANGE", None)
        if not _is_past_date(environ.get("HTTP_IF_MODIFIED_SINCE", "")):
            environ.pop("HTTP_IF_MODIFIED_SINCE", None)
        body: Iterable[bytes] = self._parser(environ, start_response)
        return body


def _is_plain(path: str) -> bool:
    """Whether a path is as a link would have it."""
    directory = "/" if path.endswith("/") and path != "/" else ""
    return "\0" not in path and posixpath.normpath("/" + path.lstrip("/")) + directory == path


def _is_past_date(text: str) -> bool:
    try:
        return parsedate_to_datetime(text[:LONGEST_DATE]).timestamp() <= time.time()
    except (ValueError, OverflowError, TypeError):  # the last one for no date, on Python 3.10
        return False
