"""Clients that leave, stand still or are slow, at every phase of a connection."""

from __future__ import annotations

from random import Random

from tests.fuzz.steps import (
    Answer,
    Close,
    Facts,
    Flood,
    HalfClose,
    Read,
    Reset,
    Script,
    Send,
    Step,
    Wait,
    attack,
    request,
    some_target,
)

POST = request(b"/server/publish/pushed", b"Content-Length: 5000", method=b"POST")
BIG = request(b"/server/index/big?format=ndjson")


def _one_of(rng: Random, *steps: Step) -> Step:
    return rng.choice(steps)


def _phase(rng: Random) -> Script:
    """Go as far as a random point."""
    whole = request(some_target(rng))
    match rng.randrange(7):
        case 0:
            pass  # connected
        case 1:
            yield Send(whole[: rng.randrange(1, len(whole))])
        case 2:
            yield Send(POST + b"x" * rng.randrange(5000))
        case 3:
            yield Send(whole)
        case 4:
            yield Send(whole)
            yield Answer()
        case 5:
            yield Send(whole)
            yield Read(0.2, rng.randrange(1, 1000))
        case 6:
            yield Send(BIG)
            yield Read(0.2, rng.choice([1, 300, 10_000]))


@attack(150)
def resets(rng: Random, _: Facts) -> Script:
    """A reset at every phase."""
    yield from _phase(rng)
    if rng.random() < 0.2:
        yield Wait(rng.random() / 50)
    yield Reset()


@attack()
def half_closes(rng: Random, _: Facts) -> Script:
    """No more from the client, at every phase; it goes on to read."""
    yield from _phase(rng)
    yield HalfClose()
    yield Read(rng.random() / 5)


@attack(50)
def closes(rng: Random, _: Facts) -> Script:
    """An end without a reset, at every phase."""
    yield from _phase(rng)
    yield Close()


@attack()
def expectations(rng: Random, _: Facts) -> Script:
    """`Expect: 100-continue`, and then a reset, a body, or neither."""
    expected = rng.choice([b"100-continue", b"100-Continue", b"100-continue, x", b"200-ok", b""])
    head = request(
        rng.choice([b"/", b"/server/index/count", b"/server/publish/pushed"]),
        b"Content-Length: " + rng.choice([b"9", b"0", b"1048576"]),
        b"Expect: " + expected,
        method=b"POST",
    )
    yield Send(head)
    match rng.randrange(5):
        case 0 | 1:
            yield Reset()
        case 2:
            yield Read(0.2)
            yield Reset()
        case 3:
            yield HalfClose()
            yield Read(0.5)
        case 4:
            yield Read(0.2, 10)
            yield Send(b"x" * 9)
            yield Read(0.5)


@attack(3, slow=True)
def byte_a_second(rng: Random, _: Facts) -> Script:
    """A request, or its body, in single bytes."""
    data = request(some_target(rng)) if rng.random() < 0.7 else b"x" * 20
    if data.startswith(b"x"):
        yield Send(POST)
    yield Send(data[: rng.randint(2, 40)], pause=rng.choice([0.1, 0.25, 1.0]))
    yield Read(5.0)


@attack(3, slow=True)
def silence(rng: Random, _: Facts) -> Script:
    """Nothing, or half a request and then nothing, until the server has had enough."""
    yield Send(rng.choice([b"", b"G", b"GET / HTTP/1.1\r\n", POST, b"\r\n"]))
    yield Read(6.0)


@attack(3, slow=True)
def stopped_readers(rng: Random, _: Facts) -> Script:
    """A stream of large events, of which the client reads some bytes and then none."""
    form = rng.choice([b"ndjson", b"sse", b"multipart"])
    coding = [b"Accept-Encoding: gzip"] if rng.random() < 0.3 else []
    yield Send(request(b"/server/index/big?format=" + form, *coding))
    yield Read(2.0, rng.choice([1, 1000, 200_000]))
    yield Wait(rng.choice([1.0, 3.0, 6.0]))
    yield _one_of(rng, Reset(), Close(), Read(1.0, 3_000_000), HalfClose())


@attack(5, slow=True)
def slow_readers(rng: Random, _: Facts) -> Script:
    """An ordinary response, read in small pieces."""
    yield Send(request(rng.choice([b"/multipart-xhr.js", b"/", b"/server/feeds", b"/stream.js"])))
    for _pieces in range(rng.randint(3, 12)):
        yield Read(0.3, rng.randint(1, 400))
        yield Wait(0.3)


@attack(50)
def cut_gzip(rng: Random, _: Facts) -> Script:
    """A compressed stream, cut off at any byte."""
    target = rng.choice([b"/server/index/big?format=sse", b"/server/index/count+other?format=sse",
                         b"/server/index/count"])  # fmt: skip
    yield Send(request(target, b"Accept-Encoding: gzip", b"X: %d" % rng.randrange(1000)))
    yield Read(1.0, rng.randrange(1, 2000))
    yield _one_of(rng, Reset(), HalfClose(), Close())


@attack(10)
def floods(rng: Random, _: Facts) -> Script:
    """Hundreds of connections in the same moment."""
    data = rng.choice([b"", b"", b"GET", request(some_target(rng)), POST])
    yield Flood(rng.choice([50, 200, 400]), data, rng.choice([0.0, 0.01, 0.2]))


@attack(10)
def blocked(rng: Random, _: Facts) -> Script:
    """Who waits for a value that does not come, and leaves."""
    feed = rng.choice([b"never", b"pushed", b"failing", b"slow"])
    form = rng.choice([b"json", b"xml", b"ndjson", b"sse", b"multipart"])
    yield Send(
        request(
            b"/server/index/%b?format=%b" % (feed, form), b"Prefer: wait=%d" % rng.randrange(60)
        )
    )
    yield Read(rng.random())
    yield _one_of(rng, Reset(), HalfClose(), Close())
