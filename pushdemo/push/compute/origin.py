"""Where the events of a relay come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pushdemo.client.connection import parse_url
from pushdemo.push.shorten import shorten


@dataclass(frozen=True)
class Origin:
    """Where the events come from.

    url: of one feed of another pushdemo, `https://HOST/server/index/NAME`. Raises ValueError for
        what is no such URL.
    headers: of the requests, such as Authorization. They are not shown in a log.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = parse_url(self.url)
        if "+" in parts.path.rsplit("/", 1)[-1]:
            raise ValueError("a relay is of one feed: declare one for each")
        for name, value in self.headers.items():
            if not f"{name}{value}".isprintable() or not value.isascii():
                raise ValueError(f"the header {shorten(name)} is not printable ASCII")
