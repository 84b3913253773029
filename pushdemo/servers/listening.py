"""The server's listening socket, made or inherited."""

from __future__ import annotations

import socket

from pushdemo.push.options import ConfigError


def listen(address: tuple[str, int], backlog: int) -> socket.socket:
    """A socket that listens at a host and port. Raises ConfigError where it cannot.

    backlog: connections that the system keeps until they are accepted.
    """
    host, port = address
    listener = None
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        # Without it the address is taken for a minute after the server has ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(name)
        listener.listen(backlog)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror or error};"
            " set host and port in the server's section"
        ) from None
    return listener
