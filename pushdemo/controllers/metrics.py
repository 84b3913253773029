"""/metrics: figures for Prometheus, for whom `push.status` names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pushdemo.lib.base import BaseController
from pushdemo.lib.streaming import stream
from pushdemo.push.exposition import METRICS


class MetricsController(BaseController):
    """One action."""

    def index(self, environ: dict[str, Any]) -> Iterable[bytes] | None:
        """In Prometheus' text format, or OpenMetrics' where the Accept header names it."""
        return stream(environ, METRICS)
