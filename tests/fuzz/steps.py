"""What a hostile client can do, step by step, and the register of the kinds of such clients."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of `data`; a byte every `pause` seconds, where that is not 0."""

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Read:
    """Read until the end, or `most` bytes, or for so long; whatever comes."""

    seconds: float = 1.0
    most: int = 65536


@dataclass(frozen=True, slots=True)
class Answer:
    """Read an answer: one must come, or the client was forgotten. Of a stream, its head.

    body: whether one may follow; none does after HEAD.
    due: False where it may also hang up.
    """

    seconds: float = 20.0
    body: bool = True
    due: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Read nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Send no more (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close with a reset (RST)."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close, from another local address, for it waits there (TIME_WAIT)."""


@dataclass(frozen=True, slots=True)
class Flood:
    """So many connections more, at once, each with `data`; closed `seconds` later."""

    count: int
    data: bytes
    seconds: float


Step = Send | Read | Answer | Wait | HalfClose | Reset | Close | Flood
# Is sent what was read by its last step.
Script = Generator[Step, bytes, None]


@dataclass(frozen=True)
class Facts:
    """What an attacker may know.

    ids: the newest id of each feed.
    token: the right one, for publishing.
    """

    token: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)

    def id_of(self, feeds: str) -> str:
        """The id of the newest events of one feed, or of several, `a+b`."""
        return ".".join(self.ids.get(feed, "0-0") for feed in feeds.split("+"))


@dataclass(frozen=True)
class Attack:
    """A kind of hostile client.

    weight: how often its turn comes, beside the others.
    slow: it takes seconds, so only few run at a time.
    """

    name: str
    make: Callable[[Random, Facts], Script]
    weight: int
    slow: bool


ATTACKS: dict[str, Attack] = {}


def attack(
    weight: int = 100, *, slow: bool = False
) -> Callable[[Callable[[Random, Facts], Script]], Callable[[Random, Facts], Script]]:
    """Registers a generator of steps as the kind of its name."""

    def register(make: Callable[[Random, Facts], Script]) -> Callable[[Random, Facts], Script]:
        ATTACKS[make.__name__] = Attack(make.__name__, make, weight, slow)
        return make

    return register


# What is common to the kinds

FEEDS = ("count", "other", "count+other", "slow", "failing", "never", "big", "pushed", "nothing")
FORMATS = ("multipart", "sse", "ndjson", "json", "xml")
HOST = b"Host: test\r\n"


def request(
    target: bytes = b"/server/index", *headers: bytes, method: bytes = b"GET", body: bytes = b""
) -> bytes:
    """A request as it should be, but for what its parts are."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"%b %b HTTP/1.1\r\n%b%b\r\n%b" % (method, target, HOST, lines, body)


def some_target(rng: Random) -> bytes:
    """A target that there is."""
    if rng.random() < 0.3:
        return rng.choice([b"/", b"/page.js", b"/seed.html", b"/server/feeds", b"/page.css"])
    return b"/server/index/%b?format=%b" % (
        rng.choice(("count", "other", "count+other")).encode(),
        rng.choice(FORMATS[:3]).encode(),
    )


def junk(rng: Random, size: int) -> bytes:
    """Bytes of any value."""
    return rng.randbytes(size)


def length(rng: Random, most: int) -> int:
    """A length up to `most`; most are short."""
    return min(most, int(2 ** rng.uniform(0, most.bit_length())))
