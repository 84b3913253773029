from __future__ import annotations

from pushdemo.lib.base import BaseController


class PrivateController(BaseController):
    def index(self) -> str:
        return "secret"
