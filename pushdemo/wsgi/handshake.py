"""The opening handshake of a WebSocket, the server's side (RFC 6455, section 4.2; RFC 7692)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from pushdemo.push.websocket.listener import INSTALLED
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.web import Request

# The headers that are read here. Two requests for a WebSocket are never equal: each has its key.
HANDSHAKE = ("Connection", "Upgrade", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key",
             "Sec-WebSocket-Version")  # fmt: skip

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = ("Sec-WebSocket-Version", "13")
_DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
# What a client may offer and we need not do anything for. `server_max_window_bits` asks for less
# than there is: such an offer is not taken.
_HARMLESS = {"server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Upgrade:
    """A handshake that is in order.

    accept: what proves to the client that it was understood.
    deflate: the client offers permessage-deflate.
    """

    accept: str
    deflate: bool

    def headers(self) -> list[tuple[str, str]]:
        """Those of the response 101, beside Connection."""
        headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", self.accept)]
        if self.deflate:
            headers.append(("Sec-WebSocket-Extensions", _DEFLATE))
        return headers


def upgrade_of(request: Request) -> Upgrade | None:
    """The WebSocket that a request asks for; None if it asks for none. Raises RequestError."""
    headers = request.headers
    if "websocket" not in _tokens(headers.get("Upgrade", "")):
        return None
    if request.method != "GET" or request.environ.get("SERVER_PROTOCOL", "HTTP/1.1") == "HTTP/1.0":
        raise RequestError(400, "A WebSocket begins with a GET of HTTP/1.1.")
    if "upgrade" not in _tokens(headers.get("Connection", "upgrade")):
        raise RequestError(400, "A WebSocket begins with Connection: Upgrade.")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise RequestError(426, "Version 13 of WebSocket is spoken here.", [_VERSION])
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise RequestError(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
    if not INSTALLED:
        raise RequestError(501, "There are no WebSockets here: install pushdemo[websocket].")
    digest = hashlib.sha1(key.encode() + _GUID).digest()
    return Upgrade(
        base64.b64encode(digest).decode(), _offers_deflate(headers.get("Sec-WebSocket-Extensions"))
    )


def check_origin(origin: str | None, host: str | None, allowed: Collection[str]) -> None:
    """Raises RequestError for a page of an origin that may not read the streams. Browsers do not
    keep a WebSocket to the rules of CORS: it is for the server to look (RFC 6455, section 10.2).

    origin: as a browser sends it; None for a client that is none.
    host: the header Host.
    allowed: the origins that may, beside our own.
    """
    if origin is None or origin in allowed or "*" in allowed:
        return
    if host is None or not _is_same(origin, host):
        raise RequestError(403, "Pages of this origin may not read the streams: see push.cors.")


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of that origin was served under this name and port."""
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"{theirs.scheme}://{host}")
        port = _PORTS[theirs.scheme]
        return (theirs.hostname, theirs.port or port) == (ours.hostname, ours.port or port)
    except (ValueError, KeyError):
        return False


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def _offers_deflate(extensions: str | None) -> bool:
    for offer in (extensions or "").split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        names = {parameter.partition("=")[0].strip() for parameter in parameters}
        if name == "permessage-deflate" and names <= _HARMLESS:
            return True
    return False
