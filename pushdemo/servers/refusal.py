"""Requests that are not served, and what their clients are told."""

from __future__ import annotations


class Refused(Exception):
    """A request that will not be served: the status line's end, and what to do about it."""

    def __init__(self, status: str, advice: str, *headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.advice = advice
        self.headers = headers

    @property
    def response(self) -> bytes:
        """The whole response, which ends its connection."""
        body = f"{self.status}\n\n{self.advice}\n".encode()
        head = (
            f"HTTP/1.0 {self.status}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *self.headers,
        )
        return "\r\n".join((*head, "", "")).encode() + body


class Busy(Refused):
    """Refused for want of something that the server will have again soon."""

    def __init__(self) -> None:
        super().__init__("503 Service Unavailable", "Try again in a few seconds.", "Retry-After: 5")
