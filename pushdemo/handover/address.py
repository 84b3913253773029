"""The broadcaster's address: `unix:` and the absolute path of a socket.

The path is absolute, because workers and broadcaster may have different working directories.
Linux's abstract sockets (`unix:@name`) are not supported: they have no permissions, and it is the
permissions of the file that decide who may hand over connections and publish.
"""

from __future__ import annotations

import os

VARIABLE = "PUSHDEMO_BROADCASTER"  # the environment variable that names the address
SCHEME = "unix:"
LONGEST_PATH = 107  # bytes: Linux's sun_path, without the NUL at its end


def socket_path(address: str) -> str:
    """The path in an address. Raises ValueError, with a message of one line that names it."""
    path = address.removeprefix(SCHEME)
    if path == address or not path.startswith("/") or "\0" in path:
        raise ValueError(f"{address!r} is no address of a broadcaster: unix:/run/name.sock is one")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ValueError(
            f"{address!r} is too long: the path of a Unix socket has at most {LONGEST_PATH} bytes"
        )
    return path
