"""Pages that show feeds to a person: all of them, or those of one address.

Everything that a page loads is either beside it, at addresses below `base`, or, where there is no
such place, in the page itself. Its Content-Security-Policy allows that and nothing else: no inline
script but by its hash, and no other host.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mako.lookup import TemplateLookup

from pushdemo.push.compute.declaration import Declaration
from pushdemo.push.status import FEEDS, STATUS, STATUS_FEED
from pushdemo.wsgi.formats import FORMATS, PUBLIC
from pushdemo.wsgi.request import PARAMETERS, StreamRequest
from pushdemo.wsgi.web import Request

PACKAGE = Path(__file__).resolve().parent.parent
# In the order in which they need each other.
SCRIPTS = ("multipart-xhr.js", "stream.js", "watch.js", "words.js", "value.js", "vendor/uplot.js",
           "charts.js", "cards.js")  # fmt: skip
STYLES = ("vendor/uplot.css", "page.css")
MOST_ON_A_STREAM = 50  # feeds; browsers and servers have limits for an address


@dataclass(frozen=True)
class Page:
    """html: the document.
    policy: the value of its header Content-Security-Policy.
    """

    html: str
    policy: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Those that a response with it has."""
        return [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", self.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "same-origin"),
        ]


def dashboard(declared: Sequence[Declaration], base: str) -> Page:
    """All feeds.

    base: a relative reference to the application's root, ending with a slash.
    """
    names = [one.name for one in declared]
    chunks = [
        names[start : start + MOST_ON_A_STREAM] for start in range(0, len(names), MOST_ON_A_STREAM)
    ]
    streams = [f"{base}server/index/{joined([*chunk, FEEDS])}" for chunk in chunks]
    return _page("dashboard.mako", declared, base, streams)


def page_for(
    asked: StreamRequest, request: Request, known: Mapping[str, Declaration], base: str | None
) -> Page | None:
    """The page that a request for feeds asks for; None where it asks for no page, or for a feed
    that is not known.

    base: as for `feed_page`.
    """
    reads = asked.method in ("GET", "HEAD") and asked.upgrade is None
    if not reads or asked.choose(tuple(FORMATS)) != "html":
        return None
    names = asked.feeds or tuple(known)[:1]
    known = {**known, STATUS: STATUS_FEED}
    declared = [known[name] for name in names if name in known]
    if not declared or len(declared) < len(names):
        return None
    # What else the address needs, such as a token, its streams need too.
    query = "".join(
        f"{quote(name, safe='')}={quote(value, safe='')}&"
        for name, value in request.GET.items()
        if name not in PARAMETERS
    )
    if base is None or names == (STATUS,):
        stream = f"?{query}format=multipart"
    else:
        stream = f"{base}server/index/{joined([*names, FEEDS])}?{query}".rstrip("?&")
    # PEP 3333 lets a path that is empty be left out.
    address = Request({"PATH_INFO": "", **request.environ}).path_url
    return feed_page(declared, base, stream, address, query)


def feed_page(
    declared: Sequence[Declaration], base: str | None, stream: str, address: str, query: str = ""
) -> Page:
    """One feed, or those of one address, with the formats that they can be had in.

    base: as for `dashboard`; None where the page's address is the only one there is.
    stream: a relative reference to the stream.
    address: the absolute address of the page, without a query, for people to copy.
    query: what an address must have in its query besides, ending with `&`.
    """
    return _page(
        "feed.mako", declared, base, [stream],
        address=address, query=query, formats={name: FORMATS[name] for name in PUBLIC},
        lines=_lines(address, query, html=all(one.template is not None for one in declared)),
    )  # fmt: skip


class Line(NamedTuple):
    """One to copy. place: where it is of use."""

    name: str
    place: str
    text: str


def _lines(address: str, query: str, *, html: bool) -> list[Line]:
    plain = f"{address}?{query}".rstrip("?&")
    lines = [
        Line("curl", "In a shell", f"curl -N '{address}?{query}format=ndjson'"),
        Line(
            "EventSource",
            "In a script of a page",
            f"new EventSource('{plain}').onmessage = ({{ data }}) => console.log(data);",
        ),
        Line("img", "A picture, without a script", f'<img src="{plain}" alt="">'),
    ]
    if html:
        htmx = f'<div hx-ext="sse" sse-connect="{address}?{query}format=htmx" sse-swap="message">'
        lines.append(Line("htmx", "With htmx", f"{htmx}</div>"))
    return lines


def seed_page(declared: Sequence[Declaration], base: str) -> Page:
    """The first feed, line by line, as in the post of 2009."""
    first = declared[0] if declared else None
    interval = first.interval if first is not None and first.make_executor is not None else None
    scripts = (*SCRIPTS[:4], "page.js")
    return _page(
        "seed.mako", declared[:1], base, [], scripts=scripts, styles=("page.css",),
        interval=interval, beats=interval if first is not None and first.repeat else None,
    )  # fmt: skip


def joined(names: Iterable[str]) -> str:
    """Feeds' names as a segment of a path."""
    return "+".join(quote(name, safe="~") for name in names)


def _page(
    template: str,
    declared: Sequence[Declaration],
    base: str | None,
    streams: Sequence[str],
    *,
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = STYLES,
    **names: Any,
) -> Page:
    inline_scripts = [_content(name) for name in scripts if base is None]
    inline_styles = [_content(name) for name in styles if base is None]
    html: str = (
        lookup()
        .get_template(template)
        .render(
            declared=declared,
            base=base,
            streams=" ".join(streams),
            scripts=scripts,
            styles=styles,
            inline_scripts=inline_scripts,
            inline_styles=inline_styles,
            quote=quote,
            **names,
        )
    )
    return Page(html, policy(inline_scripts, inline_styles))


def policy(scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """The Content-Security-Policy (CSP level 3) of a page with these scripts and styles in it."""
    allowed = {
        "default-src": ["'none'"],
        "script-src": ["'self'", *map(_hash, scripts)],
        "style-src": ["'self'", *map(_hash, styles)],
        "img-src": ["'self'", "blob:", "data:"],
        "connect-src": ["'self'"],
        "worker-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'self'"],
    }
    return "; ".join(" ".join([name, *sources]) for name, sources in allowed.items())


@functools.cache
def lookup() -> TemplateLookup:
    """Finds pushdemo's own templates, which escape what they insert."""
    return TemplateLookup(
        [str(PACKAGE / "templates")],
        input_encoding="utf-8",
        default_filters=["h"],
        strict_undefined=True,
    )


@functools.cache
def _content(name: str) -> str:
    """A file of public/, fit to stand in a page: a comment or a string in it must not end its
    element (HTML, section 4.12.1.3), and line ends are as HTML has them, or a hash would be of
    other bytes."""
    content = (PACKAGE / "public" / name).read_text(encoding="utf-8").replace("\r\n", "\n")
    return re.sub("</(?=script)", r"<\\/", content, flags=re.IGNORECASE)


@functools.lru_cache(maxsize=64)
def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
