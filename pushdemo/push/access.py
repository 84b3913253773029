"""Who may see status and metrics: by default who asks from this machine, and not through a proxy.

A page of another site can have a browser on this machine ask (DNS rebinding), so that the request's
Host must be this machine's, too. Where networks are configured, the address of the other end counts
and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

LOOPBACK, ANYBODY, NOBODY = "loopback", "*", "none"

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What a proxy says of whom it asks for.
_FORWARDED = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP",
              "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO")  # fmt: skip


class Access:
    """allowed: `loopback`, `none`, `*`, or networks separated by spaces: `10.0.0.0/8 ::1`. Raises
    ValueError for anything else."""

    def __init__(self, allowed: str) -> None:
        self._words = allowed.split()
        special = {LOOPBACK, ANYBODY, NOBODY} & set(self._words)
        if not self._words or (special and len(self._words) > 1):
            raise ValueError
        self._networks: list[_Network] = (
            [] if special else [ipaddress.ip_network(word) for word in self._words]
        )

    def allows(self, environ: Mapping[str, Any]) -> bool:
        """Whether the client of a request may see them."""
        if self._words == [ANYBODY]:
            return True
        address = _address(environ.get("REMOTE_ADDR"))
        if address is None or self._words == [NOBODY]:
            return False
        if self._networks:
            return any(
                address in network
                for network in self._networks
                if network.version == address.version
            )
        return (
            address.is_loopback
            and not any(environ.get(name) for name in _FORWARDED)
            and _is_loopback_host(environ.get("HTTP_HOST", "localhost"))
        )


def _address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(str(text))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback_host(host: str) -> bool:
    """Of a Host header (RFC 9110, section 7.2)."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower().rstrip(".") in ("localhost", "ip6-localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback
