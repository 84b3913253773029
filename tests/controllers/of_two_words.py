from __future__ import annotations

from pushdemo.lib.base import BaseController


class OfTwoWordsController(BaseController):
    def index(self) -> str:
        return "found"
