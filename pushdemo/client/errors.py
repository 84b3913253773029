"""What can go wrong with a watch, named by whose fault it is."""

from __future__ import annotations

# Of the bytes that came instead of what was expected, so many are shown.
EXCERPT = 60


class WatchError(Exception):
    """A watch cannot go on. Its message is one line, for people."""


class Refused(WatchError):
    """The server's answer is final: to ask it again would change nothing.

    status: the HTTP status.
    text: what the server says about it, as it said it.
    """

    def __init__(self, status: int, reason: str, text: str = "") -> None:
        self.status = status
        self.text = text
        said = f"{status} {reason}".strip()
        # Our own server's text begins with its status.
        line = " ".join(text.split()).removeprefix(said).strip()
        super().__init__(f"{said}: {line}" if line else said)


class Disconnected(WatchError):
    """There is no connection, or no longer, or the server is in no state to answer now.

    after: seconds that the server asks to wait before the next attempt.
    """

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class BadStream(WatchError):
    """The bytes are not what the format that they claim to be allows."""


class TooLarge(BadStream):
    """An event, or a line, or a part's head, is larger than the reader takes."""


def excerpt(data: bytes) -> str:
    """The beginning of some bytes, for people: one line, in quotes, with escapes as in Python."""
    shown = "".join(map(_escaped, data[:EXCERPT]))
    return f"'{shown}...'" if len(data) > EXCERPT else f"'{shown}'"


def _escaped(byte: int) -> str:
    if (short := _SHORT.get(byte)) is not None:
        return short
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


_SHORT = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r", 0x27: r"\'", 0x5C: r"\\"}
