"""`multipart/x-mixed-replace` for an <img>: images and nothing else.

    opening   --boundary CRLF CRLF
    frame     image CRLF --boundary CRLF CRLF
    last      image CRLF --boundary-- CRLF

Chromium shows an image when the headers of the part after it are complete. So a frame contains
those headers, which are sent before anything is known of the next image: they are empty, and both
browsers find the type in the image itself. The bytes after them must be the next image. A part
without a body, even one that has only a line end, leaves Chromium with a broken image for good. So
there is neither a heartbeat nor a reset. A client that needs lengths, dates and ids asks for
Multipart.
"""

from __future__ import annotations

from dataclasses import dataclass

from pushdemo.push.compute.payload import Blob
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.event import CannotCarry, Event, FeedStatus


@dataclass(frozen=True)
class Images:
    """multipart: the format whose boundary this one uses."""

    multipart: Multipart

    content_encoding = None
    heartbeat = b""
    reset = b""

    @property
    def content_type(self) -> str:
        return self.multipart.content_type

    @property
    def opening(self) -> bytes:
        return self.multipart.delimiter + b"\r\n\r\n"

    def encode(self, event: Event) -> bytes:
        payload = event.value.payload
        # There is no length, and Chromium finds a delimiter in the middle of a line, too.
        if (
            not isinstance(payload, Blob)
            or not payload.is_image
            or self.multipart.delimiter in payload.data
        ):
            raise CannotCarry
        return b"".join((payload.data, b"\r\n", self.opening))

    def encode_status(self, status: FeedStatus) -> bytes:  # noqa: ARG002
        return b""

    def come_back(self, milliseconds: int) -> bytes:  # noqa: ARG002
        return b""

    def last(self, frame: bytes) -> bytes:
        return frame.removesuffix(b"\r\n\r\n") + b"--\r\n"
