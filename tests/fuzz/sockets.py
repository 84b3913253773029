"""Clients that ask for a WebSocket, and what they say on it."""

from __future__ import annotations

from random import Random

from tests.fuzz.steps import Close, Facts, Read, Reset, Script, Send, Wait, attack, request

TARGETS = (b"/server/index/count", b"/server/index/big", b"/server/index/count+other?limit=2")
HANDSHAKE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Extensions: permessage-deflate",
)


def _handshake(rng: Random, lines: tuple[bytes, ...] = HANDSHAKE) -> bytes:
    return request(rng.choice(TARGETS), *lines)


def _frame(rng: Random) -> bytes:
    """A client's frame, mostly in order."""
    opcode = rng.choice((1, 1, 2, 8, 9, 9, 9, 10, 0, rng.randrange(16)))
    first = rng.choice((0x80, 0x80, 0x80, 0, rng.randrange(256) & 0xF0)) | opcode
    payload = rng.randbytes(rng.choice((0, 2, 20, 125)))
    length = rng.choice((len(payload), len(payload), len(payload), rng.randrange(128)))
    mask = rng.choice((0x80, 0x80, 0x80, 0))
    return bytes((first, mask | length)) + (rng.randbytes(4) if mask else b"") + payload


@attack()
def frames(rng: Random, _: Facts) -> Script:
    """Frames of every kind, in order or not, at once or in pieces."""
    yield Send(_handshake(rng))
    yield Read(0.2, 500)
    said = b"".join(_frame(rng) for _ in range(rng.randrange(1, 60)))
    while said:
        cut = rng.choice((len(said), 1 + rng.randrange(100)))
        yield Send(said[:cut])
        said = said[cut:]
    yield Read(0.1)
    yield rng.choice((Reset(), Close()))


@attack()
def handshakes(rng: Random, _: Facts) -> Script:
    """A handshake that is not in order, and one that is followed by frames at once."""
    lines = [line for line in HANDSHAKE if rng.random() < 0.8]
    rng.shuffle(lines)
    if lines and rng.random() < 0.5:
        at = rng.randrange(len(lines))
        lines[at] = lines[at][: rng.randrange(len(lines[at]))] + b"x"
    if not any(b":" not in line for line in lines):
        yield Send(_handshake(rng, tuple(lines)) + (_frame(rng) if rng.random() < 0.3 else b""))
        yield Read(0.1, 500)
    yield Reset()


@attack(50)
def pings_without_reading(rng: Random, _: Facts) -> Script:
    """Who reads nothing, and wants to be answered all the time."""
    yield Send(_handshake(rng))
    ping = b"\x89\xfd" + rng.randbytes(4) + rng.randbytes(125)
    for _turn in range(rng.randrange(40)):
        yield Send(ping * 10)
    yield Wait(rng.random() / 20)
    yield Reset()
