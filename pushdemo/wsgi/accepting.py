"""What a request's headers Accept and Accept-Encoding allow (RFC 9110, sections 12.5.1, 12.5.3)."""

from __future__ import annotations

import functools
from typing import NamedTuple

from pushdemo.wsgi.formats import FORMATS
from pushdemo.wsgi.web import create_accept_encoding_header, create_accept_header

_OFFERS = {content_type: name for name, content_type in FORMATS.items()}
_PAGE_OR_IMAGE = ("multipart/x-mixed-replace", "text/html", "image/png")


class Accepting(NamedTuple):
    """formats: the names of the formats that are allowed, best first.
    gzip: whether Accept-Encoding names it.
    images: whether Accept names images, whose bytes are compressed already.
    ranges: the media ranges that are allowed, as they stand there, in lower case.
    prefers_image: whether an image is preferred to a page: among a browser's requests, those of an
        <img> alone have that.
    """

    formats: tuple[str, ...]
    gzip: bool
    images: bool
    ranges: tuple[str, ...]
    prefers_image: bool


# The parser is WebOb's, which is exact, and takes 60 µs for a browser's header. Browsers send the
# same few headers; what is kept is bounded, since the headers are.
@functools.lru_cache(maxsize=128)
def accepting(accept: str | None, accept_encoding: str | None) -> Accepting:
    """The values of both headers, None for no header."""
    header = create_accept_header(accept)
    preferred = [offer for offer, _ in header.acceptable_offers(_PAGE_OR_IMAGE)]
    return Accepting(
        formats=tuple(_OFFERS[offer] for offer, _ in header.acceptable_offers(list(_OFFERS))),
        # No header at all would be read as: any encoding will do.
        gzip=accept_encoding is not None
        and bool(create_accept_encoding_header(accept_encoding).acceptable_offers(["gzip"])),
        images="image/" in (accept or ""),
        ranges=tuple(one.lower() for one, q, _, _ in header.parsed or () if q),
        prefers_image=preferred[:1] == ["image/png"],
    )
