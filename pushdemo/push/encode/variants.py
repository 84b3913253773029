"""The variants of a format for some requests."""

from __future__ import annotations

from dataclasses import replace

from pushdemo.push.encode.document import AS_IT_IS, FRAGMENT, Document, DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.html_stream import HtmlStream
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.relay import Relay
from pushdemo.push.encode.websocket import WebSocket

_NAMES: dict[type, str] = {
    Multipart: "multipart",
    Images: "multipart",
    EventStream: "sse",
    NdJson: "ndjson",
    Relay: "relay",
    WebSocket: "websocket",
}


def named(framing: Framing) -> Framing:
    """The format with the feed's name in each event, for a stream of several feeds."""
    if isinstance(framing, Multipart | EventStream):
        return replace(framing, named=True)
    return framing  # NdJson always names the feed


def images(framing: Framing) -> Framing:
    """The format as an <img> reads it."""
    return Images(framing) if isinstance(framing, Multipart) else framing


def name_of(framing: Framing) -> str:
    """The name of the format, for people and for counters: compressed, it is the same one."""
    if isinstance(framing, Gzip):
        return name_of(framing.inner)
    if isinstance(framing, DocumentFraming):
        return form_of(framing.document)
    if isinstance(framing, HtmlStream):
        return framing.kind
    return _NAMES.get(type(framing), "other")


def form_of(document: Document) -> str:
    """The same for a single value."""
    names = {AS_IT_IS: "raw", FRAGMENT: "fragment"}
    return names.get(document.content_type) or document.content_type.rpartition("/")[2]
