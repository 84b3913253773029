"""Tell the process that has started this one that it is ready: the protocol of sd_notify(3).

NOTIFY_SOCKET names a datagram socket. systemd sets it for services of Type=notify, and `pushdemo
run` for its broadcaster.
"""

from __future__ import annotations

import os
import socket

from pushdemo.handover.guardian import NOT_RELOADED

__all__ = ["NOT_RELOADED", "READY", "VARIABLE", "say_not_reloaded", "say_ready"]

VARIABLE = "NOTIFY_SOCKET"
READY = b"READY=1"


def say_ready() -> None:
    """Send the notice where the environment asks for it. Raises OSError where nothing listens
    there."""
    _say(READY)


def say_not_reloaded() -> None:
    """The same for a reload that has come to nothing."""
    _say(NOT_RELOADED)


def _say(what: bytes) -> None:
    address = os.environ.get(VARIABLE)
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # An @ stands for the NUL of Linux's abstract sockets.
            sock.sendto(what, "\0" + address[1:] if address.startswith("@") else address)
