"""The files of a directory, by Paste's StaticURLParser, which is given only what it can take.

What a client may send and Paste fails on is left out or refused here, at the door:

- a path that no link has: the parser calls itself for each `/` and `.` too many, until it has
  called itself too often;
- an If-Modified-Since that is no date, or lies in the future: it is ignored (RFC 9110, section
  13.1.3);
- a Range: it is ignored (RFC 9110, section 14.2), as the files are small.

A directory's address without a slash at its end is redirected to the one with it. Paste redirects
to an absolute address, which is wrong behind a proxy that removes a prefix or adds TLS; here the
Location is a relative reference (RFC 9110, section 10.2.2).
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from paste.fileapp import FileApp
from paste.httpexceptions import HTTPMovedPermanently
from paste.urlparser import StaticURLParser

from pushdemo.lib.addresses import reference

LONGEST_DATE = 64  # characters
LARGE = 4 * 1024 * 1024  # bytes


class StaticFiles:
    """A WSGI application, for the paths that it `has`."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._parser = _Parser(self._directory)

    def has(self, path: str) -> bool:
        """Whether there is a file or a directory at that path."""
        return _is_plain(path) and os.path.exists(self._directory + path)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.pop("HTTP_RANGE", None)
        if not _is_past_date(environ.get("HTTP_IF_MODIFIED_SINCE", "")):
            environ.pop("HTTP_IF_MODIFIED_SINCE", None)
        body: Iterable[bytes] = self._parser(environ, start_response)
        return body


class _File(FileApp):  # type: ignore[misc]  # Paste publishes no types
    """Read whole, up to LARGE. Paste opens any file that is larger than 4 KiB, and leaves it open
    where the answer is that it has not changed."""

    def update(self, force: bool = False) -> None:
        status = os.stat(self.filename)
        if status.st_size > LARGE:
            super().update(force)
        elif force or status.st_mtime != self.last_modified:  # type: ignore[has-type]
            self.last_modified = status.st_mtime
            with open(self.filename, "rb") as file:
                self.set_content(file.read(), status.st_mtime)


class _Parser(StaticURLParser):  # type: ignore[misc]
    def make_app(self, filename: str) -> Any:
        return _File(filename)

    def add_slash(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        location = reference(environ, "/")
        if query := environ.get("QUERY_STRING"):
            location += f"?{query}"
        moved = HTTPMovedPermanently(f"See {location}", headers=[("Location", location)])
        body: Iterable[bytes] = moved.wsgi_application(environ, start_response)
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
