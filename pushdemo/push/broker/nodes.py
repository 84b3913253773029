"""The nodes of a cluster tell each other how they are, through the broker."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from pushdemo.push.broker.protocol import Broker, BrokerError, Entry, Notice
from pushdemo.push.every import Every
from pushdemo.push.status import STATUS, TABLES, VERSION

log = logging.getLogger(__name__)

LOG = STATUS  # the name of the reports' log, which no feed can have
INTERVAL = 5.0  # seconds between two reports of a node
OLD = 3.5 * INTERVAL  # from when on a node that says nothing is gone
KEPT = 64  # reports, for nodes that come
MOST_NODES = 1000
MOST = 4 * 1024 * 1024  # bytes of a report


class Nodes:
    """What the others have said last. A Follower.

    report: makes this node's.
    clock: monotonic seconds.
    """

    def __init__(
        self,
        broker: Broker,
        report: Callable[[], dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._report = report
        self._clock = clock
        self._own = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._follows = False
        self._heard: dict[str, tuple[float, dict[str, Any]]] = {}
        self._every = Every("pushdemo-nodes", INTERVAL, self.post)

    def begin(self) -> None:
        """Hear of the others, and tell them. More than once is no error."""
        if not self._follows:
            self._follows = True
            self._broker.follow(LOG, self)
        self._every.begin()

    def close(self) -> None:
        self._every.stop()

    def post(self) -> None:
        """Tell the others once. An engine that is away is told of elsewhere."""
        said = {"from": self._own, "at": time.time(), "report": self._report()}
        body = json.dumps(said, separators=(",", ":")).encode()
        with suppress(BrokerError):
            self._broker.publish(LOG, body, once=secrets.token_hex(12), keep=KEPT)

    def others(self) -> Iterator[dict[str, Any]]:
        """What each of the other nodes has said last, of those that still say something."""
        now = self._clock()
        with self._lock:
            heard = list(self._heard.values())
        return (report for at, report in heard if now - at < OLD)

    def hear(self, said: Entry | Notice) -> None:
        if isinstance(said, Notice) or len(said.body) > MOST:
            return
        try:
            body = json.loads(said.body)
            node, report = body["from"], body["report"]
            late = max(0.0, time.time() - body["at"])
        except (ValueError, TypeError, KeyError, RecursionError):
            log.debug("a node's report is left out: it cannot be read")
            return
        if not isinstance(node, str) or node == self._own or not _is_report(report):
            return
        now = self._clock()
        with self._lock:
            if len(self._heard) >= MOST_NODES:
                self._heard = {name: one for name, one in self._heard.items() if now - one[0] < OLD}
            # What the log has kept is old when it is heard.
            self._heard[node] = (now - late, report)

    def caught_up(self) -> None:
        """Nothing depends on that here."""

    def cut_off(self, why: str) -> None:
        """The channels' follower says so."""


def _is_report(report: object) -> bool:
    """Whether it is what pushdemo.push.status.readable makes: who can write to the engine need not
    be one of us."""
    if not isinstance(report, dict) or report.get("version") != VERSION:
        return False
    return all(
        isinstance(rows := report.get(name), list) and all(isinstance(row, dict) for row in rows)
        for name in TABLES
    )
