"""A value's HTML as an event stream, for what puts HTML into pages by itself.

    htmx      the HTML is the event's data: htmx's SSE extension, with `sse-swap="message"`
    turbo     a <turbo-stream> that updates the element whose id is the feed's name: Turbo
    datastar  a <div> whose id is the feed's name, for the one in the page, as events of Datastar:
              datastar-merge-fragments up to 1.0.0-beta.11, and datastar-patch-elements from
              1.0.0-RC.1 on; each release knows one, and passes over the other

The HTML is made where the value is: see pushdemo.push.compute.template.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import ClassVar

from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.event import CannotCarry, Event


@dataclass(frozen=True)
class HtmlStream(EventStream):
    """kind: htmx, turbo or datastar."""

    kind: str = "htmx"

    KINDS: ClassVar[tuple[str, ...]] = ("htmx", "turbo", "datastar")

    def encode(self, event: Event) -> bytes:
        html = event.value.html
        if html is None:
            raise CannotCarry
        head = (
            f"id: {event.id}\n: computed={event.value.computed:.6f} took={event.value.took:.6f}\n"
        )
        return (head + _FIELDS[self.kind](event, html, self.named) + "\n").encode()


def _lines(name: str, text: str) -> str:
    """A field for each line (WHATWG HTML, section 9.2.5: a line ends at CR, LF or both)."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join(f"data: {name}{line}\n" for line in lines)


def _htmx(event: Event, html: str, named: bool) -> str:
    return (f"event: {event.feed}\n" if named else "") + _lines("", html)


def _turbo(event: Event, html: str, named: bool) -> str:  # noqa: ARG001  # the target names it
    target = escape(event.feed)
    return _lines(
        "",
        f'<turbo-stream action="update" target="{target}"><template>{html}</template>'
        "</turbo-stream>",
    )


def _datastar(event: Event, html: str, named: bool) -> str:  # noqa: ARG001
    # With the default mode, which alone is the same in all releases: the element is made like this.
    element = f'<div id="{escape(event.feed)}">{html}</div>'
    return (
        "event: datastar-merge-fragments\n"
        + _lines("fragments ", element)
        + f"\nid: {event.id}\nevent: datastar-patch-elements\n"
        + _lines("elements ", element)
    )


_FIELDS: dict[str, Callable[[Event, str, bool], str]] = {
    "htmx": _htmx,
    "turbo": _turbo,
    "datastar": _datastar,
}
