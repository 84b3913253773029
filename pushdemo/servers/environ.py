"""The environment of a WSGI application (PEP 3333), from a parsed request and nothing else.

Names are those of RFC 3875, section 4.1. What an application may rely on:
- PATH_INFO is decoded, and has no `.` or `..` segments and no empty ones but the last.
- A field whose name has an underscore is left out: it would pass for the one with a hyphen, which a
  proxy in front may have checked.
- A field that came several times is joined with `, `; Cookie with `; ` (RFC 9110, section 5.3; RFC
  6265, section 5.4).
- Expect is left out: the server has done what it asks.
"""

from __future__ import annotations

import io
import posixpath
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from pushdemo.servers.request import Request
from pushdemo.servers.target import split_target

# Those with names of their own in RFC 3875, and those that are not the application's concern.
_NOT_HTTP = frozenset({b"content-length", b"content-type", b"expect"})


def make_environ(request: Request, server: tuple[str, int], client: str) -> dict[str, Any]:
    """server: host and port that it listens on.
    client: the address of the other end."""
    target = split_target(request.target)
    fields = _joined(request)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _path(target.path),
        "QUERY_STRING": target.query,
        "CONTENT_TYPE": fields.get(b"content-type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in fields.items():
        if name not in _NOT_HTTP:
            environ["HTTP_" + name.decode("ascii").replace("-", "_").upper()] = value
    if target.authority is not None:
        environ["HTTP_HOST"] = target.authority
    return environ


def _joined(request: Request) -> dict[bytes, str]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in request.fields:
        if b"_" not in name:
            values.setdefault(name, []).append(value)
    return {
        name: (b"; " if name == b"cookie" else b", ").join(several).decode("latin-1")
        for name, several in values.items()
    }


def _path(path: str) -> str:
    """A target's path, decoded: its bytes as latin-1."""
    if not path:  # of `*`
        return ""
    decoded = unquote_to_bytes(path)
    normal = b"/" + posixpath.normpath(decoded).lstrip(b"/")
    if decoded.endswith(b"/") and normal != b"/":
        normal += b"/"
    return normal.decode("latin-1")
