"""What is wrong with a request, as its response says it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus


class RequestError(Exception):
    """A request that cannot be given what it asks for.

    status: of the response, such as 404.
    detail: what is wrong and what would be right, in one or two sentences for a person.
    headers: what the response has besides.
    """

    def __init__(self, status: int, detail: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.headers = list(headers)
