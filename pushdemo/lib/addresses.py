"""Addresses of this application, as a client has to write them.

The application does not know its own address. A server that mounts it says where, in SCRIPT_NAME;
but a proxy that removes a prefix from each path does not, and both can come together. A relative
reference is right in all these cases, because the client resolves it against the address that it
has used itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def reference(environ: Mapping[str, Any], target: str) -> str:
    """The relative reference (RFC 3986, section 4.2) from the address of a request to `target`.

    environ: the request's WSGI environment.
    target: a path of this application, percent-encoded, that begins with a slash.
    """
    path = environ.get("PATH_INFO", "")
    if not path:
        # The application's own address, without the slash at its end: the last segment of that
        # address is a directory for `target`, and is part of the reference.
        return _quoted(environ.get("SCRIPT_NAME", "").rpartition("/")[2]) + target
    directories = [_quoted(directory) for directory in path.split("/")[1:-1]]
    segments = target.split("/")[1:]
    while directories and len(segments) > 1 and directories[0] == segments[0]:
        del directories[0], segments[0]
    steps = "/".join([".."] * len(directories) + segments)
    # Without the dot, nothing would mean the request's own address, and a colon would end a scheme.
    return steps if directories or (segments[0] and ":" not in segments[0]) else f"./{steps}"


def _quoted(segment: str) -> str:
    """A segment of a WSGI path, whose characters stand for bytes (PEP 3333), percent-encoded."""
    return quote(segment.encode("latin-1"), safe="")
