"""The head of a response that pushdemo sends by itself (RFC 9112, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Head:
    """Makes the heads of responses that end with their connection. Equal ones make equal heads.

    headers: those of the application's response, such as cookies. They go before others of the
        same name.
    """

    headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, status: str, headers: Headers) -> bytes:
        """The head up to and with the empty line. Raises ValueError for what would end a line
        before its end, or cannot be sent."""
        lines = [
            f"HTTP/1.1 {status}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in self._merged(headers)),
            "Connection: close",
        ]
        check_lines(lines)
        return "\r\n".join((*lines, "", "")).encode("latin-1")

    def _merged(self, headers: Headers) -> Headers:
        given = {name.lower() for name, _ in self.headers}
        return [*self.headers, *(header for header in headers if header[0].lower() not in given)]


def check_lines(lines: Iterable[str]) -> None:
    """Raises ValueError where one of them is more than one line, or cannot be sent."""
    for line in lines:
        if any(character in line for character in "\r\n\0"):
            raise ValueError(f"no header can have a line's end or NUL in it: {line!r}")
        line.encode("latin-1")
