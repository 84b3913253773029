"""Which line separates the parts of a multipart stream, and what a server that is not exact means.

RFC 2046, section 5.1.1: a server that declares the boundary `x` sends the line `--x` before each
part, and the line `--x--` at the end. Not all servers do. For `boundary=VALUE` these lines are
possible, and the first of them that the stream shows is the one that counts from then on:

    --VALUE     exact
    VALUE       the hyphens are in the value already, or are missing in the stream
    --WORD      where VALUE is in single quotes, or goes on after a space or a comma
    WORD

If the stream shows none of them, the line can still be known: see `name`.
"""

from __future__ import annotations

import re
from enum import Enum, auto

# `name=token` or `name="quoted string"` in a Content-Type (RFC 2045, section 5.1). A token here may
# hold spaces, which the standard does not allow: one camera declares `boundary=video boundary--`.
_PARAMETER = re.compile(r';\s*([^\s;=]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))')
# Two hyphens and at most 70 characters (RFC 2046, section 5.1.1).
_LONGEST = 72


class Kind(Enum):
    """What a line of the stream is."""

    TEXT = auto()
    DELIMITER = auto()
    CLOSING = auto()


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type declares; "" where it declares none."""
    for name, quoted, token in _PARAMETER.findall(content_type):
        if name.lower() == "boundary":
            return re.sub(r"\\(.)", r"\1", quoted) or token.rstrip()
    return ""


class Delimiter:
    """The line that separates the parts.

    expected: the line that the standard asks for, for people to read.
    possible: what a delimiter begins with. A cheap first test: most lines begin with none of these.
    """

    def __init__(self, boundary: str) -> None:
        word = re.split(r"[ \t,]", boundary.strip("\"' \t"))[0]
        values = [value.encode("latin-1", "replace") for value in (boundary, word) if value]
        lines = [line for value in values for line in (b"--" + value, value)]
        self.possible = tuple(lines)
        self._kinds: dict[bytes, Kind] = {}  # of the lines that count
        self._found = False
        if lines:
            self._kinds[lines[0] + b"--"] = Kind.CLOSING
            self._kinds |= dict.fromkeys(lines, Kind.DELIMITER)
        self.expected = f"the line '--{boundary}'" if boundary else "a line that begins with '--'"

    def kind(self, line: bytes) -> Kind:
        """What the line is. The first delimiter decides which one the stream uses.

        A closing delimiter cannot decide, unless it is the exact one: in front of all parts, a line
        such as `x--` is more probably text.
        """
        line = line.rstrip(b" \t\r")
        kind = self._kinds.get(line, Kind.TEXT)
        if kind is Kind.DELIMITER:
            self._use(line)
        return kind

    def name(self, first: bytes, *, before_head: bool) -> bool:
        """Whether the stream's first line is the delimiter, although the boundary is another.

        It is if it begins with two hyphens, and either no boundary is declared, or the next line is
        a header of a part (`before_head`). Otherwise it may be text before the first part, which
        the standard allows.
        """
        line = first.rstrip(b" \t\r")
        if not (line.startswith(b"--") and 2 < len(line) <= _LONGEST):
            return False
        if self.possible and not before_head:
            return False
        self._use(line)
        return True

    def may_begin(self, begun: bytes) -> bool:
        """Whether an unfinished line may yet become a delimiter."""
        return any(line.startswith(begun[: len(line)]) for line in [b"--", *self.possible])

    def _use(self, line: bytes) -> None:
        if not self._found:
            self._found, self.possible = True, (line,)
            self._kinds = {line: Kind.DELIMITER, line + b"--": Kind.CLOSING}
