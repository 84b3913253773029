"""What counting costs: an event to many clients, counted and not counted, side by side.

The broadcaster sends events to clients on loopback that read them. In one half of the rounds the
counters are those of pushdemo.push.counting; in the other half, what stands in their place does
nothing. The figure is the processor time of the process for a delivery, and its ratio.

    python -m benchmarks.counting [--clients 5000] [--events 40] [--rounds 7]
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import threading
import time
from contextlib import ExitStack
from typing import Any

from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Text
from pushdemo.push.counting import Counts, Histogram, StreamCounts
from pushdemo.push.deliver.broadcaster import Broadcaster
from pushdemo.push.deliver.descriptors import raise_limit
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Value
from tests.test_broadcaster import Begins

SIZE = 250  # bytes of an event


class _Nothing(StreamCounts):
    def open(self, streams: int = 1) -> None: ...
    def close(self) -> None: ...
    def deliver(self, size: int, clients: int = 1) -> None: ...


class _NoHistogram(Histogram):
    def observe(self, seconds: float, times: int = 1) -> None: ...


class Uncounted(Counts):
    """Counters that do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.feed("x").latency = _NoHistogram()

    def streams(self, feeds: str, form: str) -> dict[str, StreamCounts]:  # noqa: ARG002
        return {name: _Nothing() for name in feeds.split("+")}


class Readers:
    """Clients that read, in a thread. Its time is not the broadcaster's: see `cpu`."""

    def __init__(self, socks: list[socket.socket]) -> None:
        self._selector = selectors.DefaultSelector()
        for sock in socks:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self.received = 0
        self._ended = False
        self.cpu = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.05):
                self.received += len(key.fileobj.recv(65536))  # type: ignore[union-attr]
            self.cpu = time.thread_time()

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._selector.close()


def measure(clients: int, events: int, counts: Counts) -> float:
    """Microseconds of the processor for a delivery."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(clients)]
        for ours, _ in pairs:
            stack.callback(ours.close)
        readers = Readers([ours for ours, _ in pairs])
        stack.callback(readers.close)
        channel = Channel("x")
        broadcaster = Broadcaster(counts=counts)
        stack.callback(broadcaster.close)
        subscription = Subscription(channel, NdJson())
        broadcaster.attach([theirs for _, theirs in pairs], Begins(b"", 60.0), subscription)
        payload = Text("x" * SIZE)
        sent = clients * len(Begins(b"", 60.0).begin(None).data)

        def publish() -> None:
            nonlocal sent
            event = channel.publish(
                Value(payload, computed=float(channel.reached), fresh_until=2**62)
            )
            sent += clients * len(event.frame(NdJson()))
            while readers.received < sent:
                time.sleep(0.001)

        publish()  # the first is part of the beginning
        before, read = time.process_time(), readers.cpu
        for _ in range(events):
            publish()
        time.sleep(0.1)
        used = time.process_time() - before - (readers.cpu - read)
        return used / events / clients * 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    given: Any = parser.parse_args()
    raise_limit()
    ratios = []
    for number in range(given.rounds):
        kinds = [("counted", Counts), ("not counted", Uncounted)]
        if number % 2:
            kinds.reverse()
        took = {name: measure(given.clients, given.events, kind()) for name, kind in kinds}
        ratios.append(took["counted"] / took["not counted"])
        print(", ".join(f"{name} {value:.2f} us" for name, value in took.items()), flush=True)
    print(f"{given.clients} clients: counted / not counted {statistics.median(ratios):.3f}"
          f" ({min(ratios):.3f} - {max(ratios):.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
