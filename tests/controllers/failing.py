from __future__ import annotations

from collections.abc import Iterator

from pushdemo.lib.base import BaseController, response


class FailingController(BaseController):
    def index(self) -> None:
        response.set_cookie("half", "done")
        raise RuntimeError("as it should")

    def late(self) -> Iterator[str]:
        yield "so far, so good"
        raise RuntimeError("too late for an error page")
