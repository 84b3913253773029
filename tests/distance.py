"""Two network namespaces, and between them a line that delays packets and loses some.

The kernel's netem does this, but not every kernel has it. So a thread passes the frames on from one
to the other, each after its time, and leaves some out. TCP sees what it would see of such a
network: it sends again, and slows down. Needs root and iproute2.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

SIOCETHTOOL = 0x8946
# What a network card would do, and a line like this one does not: checksums, and cutting up.
OFFLOADS = (0x17, 0x15, 0x1F, 0x24, 0x2C)  # ETHTOOL_STXCSUM, SRXCSUM, STSO, SGSO, SGRO
ALL = 0x0003  # ETH_P_ALL
OUTGOING = 4  # PACKET_OUTGOING


_numbers = itertools.count()  # the ends of a namespace that is deleted go a little later


class Distance:
    """See the module. near, far: the names of the namespaces; their addresses are 10.77.0.1 and
    10.77.0.2.

    delay: seconds in each direction. loss: the share of packets that is lost in each.
    """

    near_address, far_address = "10.77.0.1", "10.77.0.2"

    def __init__(self, delay: float, loss: float, seed: int = 1) -> None:
        tag = f"pd{os.getpid() % 100_000}{next(_numbers)}"
        self.near, self.far = f"{tag}near", f"{tag}far"
        self._ends = (f"{tag}a", f"{tag}b")
        self._delay = delay
        self._loss = loss
        self._random = random.Random(seed)
        self.passed = self.lost = 0
        self._running = True
        for name, end, address in (
            (self.near, self._ends[0], self.near_address),
            (self.far, self._ends[1], self.far_address),
        ):
            run("ip", "netns", "add", name)
            run("ip", "link", "add", end, "type", "veth", "peer", "name", "line0", "netns", name)
            for command in (
                ("ip", "address", "add", f"{address}/24", "dev", "line0"),
                ("ip", "link", "set", "line0", "up"),
                ("ip", "link", "set", "lo", "up"),
            ):
                run("ip", "netns", "exec", name, *command)
            run("ip", "link", "set", end, "up")
            inside(name, lambda: no_offloads("line0"))
            no_offloads(end)
        self._thread = threading.Thread(target=self._pass, name="line")
        self._thread.start()

    def __enter__(self) -> Distance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._running = False
        self._thread.join()
        for name in (self.near, self.far):
            run("ip", "netns", "delete", name)

    @staticmethod
    def command(name: str, *words: str) -> list[str]:
        """The command that runs another one in a namespace."""
        return ["ip", "netns", "exec", name, *words]

    def _pass(self) -> None:
        socks = []
        for end in self._ends:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
            sock.bind((end, ALL))
            sock.setblocking(False)
            socks.append(sock)
        other = {socks[0]: socks[1], socks[1]: socks[0]}
        under_way: list[tuple[float, int, socket.socket, bytes]] = []
        numbers = itertools.count()
        while self._running:
            left = under_way[0][0] - time.monotonic() if under_way else 0.1
            ready, _, _ = select.select(socks, [], [], min(0.1, max(0.0, left)))
            for sock in ready:
                for frame in self._frames(sock):
                    due = time.monotonic() + self._delay
                    heapq.heappush(under_way, (due, next(numbers), other[sock], frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, sink, frame = heapq.heappop(under_way)
                with suppress(OSError):
                    sink.send(frame)
        for sock in socks:
            sock.close()

    def _frames(self, sock: socket.socket) -> Iterator[bytes]:
        """Those that have come on one end, but for some that are lost."""
        while True:
            try:
                frame, address = sock.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] == OUTGOING:  # our own
                continue
            if self._random.random() < self._loss:
                self.lost += 1
            else:
                self.passed += 1
                yield frame


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def inside(name: str, do: object) -> None:
    """Call something in a namespace, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            descriptor = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
            if ctypes.CDLL(None).setns(descriptor, 0x40000000):
                os._exit(1)
            do()  # type: ignore[operator]
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(f"nothing can be done in the namespace {name}")


def no_offloads(interface: str, kinds: Sequence[int] = OFFLOADS) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for kind in kinds:
            value = ctypes.create_string_buffer(struct.pack("II", kind, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(sock, SIOCETHTOOL, request)
            except OSError:
                continue  # this kernel knows no such offload
