"""The control socket of a server: where its successor takes over from it.

It is a Unix socket in a directory that belongs to the server's user alone. After another process
has taken over, what still comes to the old one (a value that is published, a client whose request
was under way) is given to the new one there.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import socket
from typing import Any

from pushdemo.handover.address import socket_path
from pushdemo.handover.listening import Listener
from pushdemo.handover.messages import Refused
from pushdemo.handover.server import Handler, Receiver
from pushdemo.handover.succession import Inheritance
from pushdemo.library import Push
from pushdemo.push.options import ConfigError
from pushdemo.push.private import make_private, users_directory
from pushdemo.wsgi.incoming import Incoming
from pushdemo.wsgi.outgoing import Outgoing

log = logging.getLogger(__name__)

MODE = 0o600  # of the socket: for this user alone


def default_address(host: str, port: int) -> str:
    """Where the server of a host and port has its control socket. The same for each process of a
    user that serves there."""
    name = re.sub(r"[^0-9A-Za-z.-]", "_", f"{host or 'any'}-{port}")[:60]
    return f"unix:{users_directory()}/{name}.sock"


def make_directory(address: str) -> None:
    """Make the directory of a default address. Raises OSError, and ConfigError where it could be
    another user's: that one would get the clients' connections."""
    try:
        make_private(Path(socket_path(address)).parent)
    except PermissionError as error:
        raise ConfigError(
            f"{error}: remove it, or set control = unix:PATH in the server's section"
        ) from None


def _refuse(*_: Any) -> Any:
    raise Refused("this process has no feeds")


class Nothing:
    """What is asked of a process without a Push. See pushdemo.handover.server.Handler."""

    take = adopt = publish = staticmethod(_refuse)

    def health(self) -> Mapping[str, Any]:
        return {}


class Control:
    """Listens in a thread.

    push: that of the application; None where it has none.
    listener: of the server, which a successor is given.
    left: called when one has taken over.
    end: stops the server.
    """

    def __init__(
        self,
        address: str,
        push: Push | None,
        listener: socket,
        *,
        inherited: Inheritance | None = None,
        left: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        if inherited is None:
            control = Listener(address, MODE)
        else:
            control = Listener.inherited(address, inherited.listeners[0])
        handler: Handler = Nothing() if push is None else Incoming(push)
        estate = Outgoing(push, address, listeners=[listener], left=left, end=end)
        self._receiver = Receiver(control, handler, estate=estate)
        self._thread = threading.Thread(
            target=self._receiver.run, name="pushdemo-control", daemon=True
        )

    @property
    def successor(self) -> int | None:
        """The process that has taken over, if one has."""
        return self._receiver.successor

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float) -> None:
        """End it, or, where another process has taken over, wait until it has ended."""
        if self.successor is None:
            self._receiver.stop()
        self._thread.join(seconds)
