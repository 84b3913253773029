"""What a request is for: its target (RFC 9112, section 3.2), and its Host."""

from __future__ import annotations

import socket
from typing import NamedTuple

from pushdemo.servers.refusal import Refused

# Of a registered name or an IPv4 address (RFC 3986, section 3.2.2).
_NAME_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%"
_DIGITS = b"0123456789"


class Target(NamedTuple):
    """A target's parts as they were sent: ASCII, percent-encoded.

    authority: host and port, where the target is a whole URL; they count in place of the Host.
    path: empty for `*`.
    """

    authority: str | None
    path: str
    query: str


def check_host(host: bytes | None, version: str) -> None:
    """Raises Refused for a Host that is no host, and where HTTP/1.1 has none. It may be empty: then
    the URL that the client has in mind has no host."""
    if host is None and version == "1.1":
        raise Refused("400 Bad Request", "Send a Host.")
    if host and not _is_authority(host):
        raise Refused("400 Bad Request", "Send the host of this server's address as Host.")


def check_target(target: str, method: str) -> None:
    """Raises Refused for one that is neither a path, nor an http URL, nor `*` with OPTIONS."""
    if "#" in target:
        raise Refused("400 Bad Request", "Send the target without its fragment.")
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return
    authority, _ = _split_url(target)
    if authority is None or not _is_authority(authority.encode("ascii")):
        raise Refused("400 Bad Request", "Send the path of an address, or its whole http URL.")


def split_target(target: str) -> Target:
    """The parts of one that was checked."""
    authority = None
    if not target.startswith("/"):
        authority, target = _split_url(target)
    path, _, query = target.partition("?")
    return Target(authority, path, query)


def _split_url(target: str) -> tuple[str | None, str]:
    """Authority, and path with query, of an http URL; None and nothing for anything else."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None, ""
    end = min(index for index in (rest.find("/"), rest.find("?"), len(rest)) if index >= 0)
    path = rest[end:]
    return rest[:end], path if path.startswith("/") else "/" + path


def _is_authority(text: bytes) -> bool:
    """Whether it is a host, maybe with a port (RFC 3986, section 3.2), and nothing else: RFC 9110,
    section 4.2.4, has no user information in http URLs."""
    if text.startswith(b"["):
        host, end, rest = text[1:].partition(b"]")
        is_host = end != b"" and _is_ipv6(host)
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(b":")
        is_host = host != b"" and not host.translate(None, _NAME_CHARACTERS)
    return is_host and colon in (b"", b":") and not port.translate(None, _DIGITS)


def _is_ipv6(text: bytes) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.decode("ascii"))
    except (OSError, ValueError):
        return False
    return True
