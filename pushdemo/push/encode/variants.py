"""The variants of a format for some requests."""

from __future__ import annotations

from dataclasses import replace

from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart


def named(framing: Framing) -> Framing:
    """The format with the feed's name in each event, for a stream of several feeds."""
    if isinstance(framing, Multipart | EventStream):
        return replace(framing, named=True)
    return framing  # NdJson always names the feed


def images(framing: Framing) -> Framing:
    """The format as an <img> reads it."""
    return Images(framing) if isinstance(framing, Multipart) else framing
