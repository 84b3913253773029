"""The head of a response that pushdemo sends by itself (RFC 9112, section 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate

from pushdemo.push.response import Headers


@dataclass(frozen=True)
class Head:
    """Makes the heads of responses that end with their connection. Equal ones make equal heads.

    headers: those of the application's response, such as cookies, or of its server. They go before
        others of the same name.
    version: of HTTP.
    """

    headers: tuple[tuple[str, str], ...] = ()
    version: str = "HTTP/1.1"

    def __call__(self, status: str, headers: Headers) -> bytes:
        """The head up to and with the empty line. Raises ValueError for what would end a line
        before its end, or cannot be sent."""
        given = {name.lower() for name, _ in self.headers}
        others = [header for header in headers if header[0].lower() not in given]
        # 101 is HTTP/1.1's (RFC 9110, section 15.2.2).
        switches = status.startswith("101")
        lines = [
            f"{'HTTP/1.1' if switches else self.version} {status}",
            *(f"{name}: {value}" for name, value in self.headers),
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in others),
            f"Connection: {'Upgrade' if switches else 'close'}",
        ]
        check_lines(lines)
        return "\r\n".join((*lines, "", "")).encode("latin-1")


def check_lines(lines: Iterable[str]) -> None:
    """Raises ValueError where one of them is more than one line, or cannot be sent."""
    for line in lines:
        if any(character in line for character in "\r\n\0"):
            raise ValueError(f"no header can have a line's end or NUL in it: {line!r}")
        line.encode("latin-1")
