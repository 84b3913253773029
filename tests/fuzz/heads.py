"""Heads of requests that are no heads, or are two, or take long to look at."""

from __future__ import annotations

from random import Random

from tests.fuzz.steps import (
    HOST,
    Answer,
    Facts,
    HalfClose,
    Read,
    Script,
    Send,
    attack,
    junk,
    length,
    request,
    some_target,
)

# All that the server looks at, or may.
HEADERS = (
    b"Content-Length", b"Transfer-Encoding", b"Expect", b"Accept", b"Accept-Encoding", b"Prefer",
    b"If-None-Match", b"Last-Event-ID", b"Origin", b"Authorization", b"Cookie", b"Content-Type",
    b"Host", b"Connection", b"Range", b"If-Modified-Since", b"If-Range", b"Accept-Language",
    b"User-Agent", b"Referer", b"X-Forwarded-For", b"Upgrade", b"Te", b"Trailer",
)  # fmt: skip
CHANCE = b'\x00\x01\x07\x0b\x0c\x1f\x7f\x80\xff\xe9\t\r\n :;,"\\%&=?#<>|'
MOST = 60_000  # just within the server's limit


@attack()
def random_bytes(rng: Random, _: Facts) -> Script:
    """No HTTP at all."""
    data = junk(rng, length(rng, 4096))
    yield Send(data + rng.choice([b"", b"\r\n", b"\r\n\r\n", b"\n\n"]))
    yield HalfClose()
    yield Read()


@attack()
def truncated_head(rng: Random, _: Facts) -> Script:
    """A good head that ends early."""
    whole = request(some_target(rng), b"Accept: */*", b"Cookie: a=b")
    yield Send(whole[: rng.randrange(len(whole))])
    if rng.random() < 0.8:
        yield HalfClose()
        yield Read()


@attack()
def control_characters(rng: Random, _: Facts) -> Script:
    """NULs, control characters and what is not ASCII, anywhere in a good head."""
    head = bytearray(request(some_target(rng), b"Accept: */*", b"Cookie: a=b"))
    for _place in range(rng.randint(1, 4)):
        place = rng.randrange(len(head) - 4)
        if rng.random() < 0.5:
            head[place] = rng.choice(CHANCE)
        else:
            head.insert(place, rng.choice(CHANCE))
    yield Send(bytes(head))
    yield HalfClose()
    yield Read()


@attack()
def versions(rng: Random, _: Facts) -> Script:
    """Versions that there are not, and request lines without one."""
    version = rng.choice(
        [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.", b"HTTP/11", b"http/1.1", b"HTTP/1.1 x",
         b"HTTP/-1.1", b"HTTP/1.999999999999", b"HTTP/\xd9\xa1.1", b"", b"HTTP", b"RTSP/1.0",
         b"HTTP/01.1", b"HTTP/1.1\t", b"HTTP/%d.%d" % (rng.randrange(99), rng.randrange(99))]
    )  # fmt: skip
    yield Send(b"GET %b %b\r\n%b\r\n" % (some_target(rng), version, HOST))
    yield HalfClose()
    yield Answer(due=False)


@attack(40)
def long_parts(rng: Random, _: Facts) -> Script:
    """A method, a target, a name or a value that is very long."""
    size = rng.choice([1000, 8000, 40_000, MOST, 70_000, 300_000])
    part = rng.choice([b"A", b"a", b"%41", b"/", b"\xff", b"-"]) * size
    part = part[:size]
    shape = rng.randrange(5)
    if shape == 0:
        data = request(method=part)
    elif shape == 1:
        data = request(b"/" + part)
    elif shape == 2:
        data = request(b"/server/index", part + b": x")
    elif shape == 3:
        data = request(b"/server/index", rng.choice(HEADERS) + b": " + part)
    else:
        data = part
    yield Send(data)
    yield HalfClose()
    yield Read()


@attack(40)
def many_headers(rng: Random, _: Facts) -> Script:
    """Headers by the thousand: the same, others, short ones."""
    count = rng.choice([20, 50, 97, 100, 101, 1000, 5000, 12_000])
    name = rng.choice([b"X", b"Cookie", b"Accept", b"Last-Event-ID", b"Host", b"Prefer", b""])
    numbered = rng.random() < 0.5
    lines = [
        b"%b%b: %d" % (name, str(n).encode() if numbered else b"", n % 10) for n in range(count)
    ]
    yield Send(request(b"/server/index/count?format=json", *lines))
    yield Answer(due=False)


LENGTHS = (
    b"+5", b"-5", b"5 5", b"5, 5", b"5,6", b"0x5", b"5.0", b"5e0", b"", b" ", b"\xd9\xa5", b"1_0",
    b"99999999999999999999", b"9" * 5000, b"18446744073709551616", b"4294967296", b"005", b"5\x00",
    b"\t5", b"5;a", b"5\x0b", b'"5"', b"0" * 10_000 + b"5", b"NaN", b"1048577", b"\xb2",
)  # fmt: skip


@attack()
def content_lengths(rng: Random, _: Facts) -> Script:
    """Lengths that are none, or two, or of a name that is nearly theirs."""
    name = rng.choice([b"Content-Length", b"Content_Length", b"content-length", b"Content-Length "])
    lines = [name + b": " + rng.choice((*LENGTHS, b"5"))]
    if rng.random() < 0.5:
        lines.append(b"Content-Length: " + rng.choice((*LENGTHS, b"5", b"6", b"0")))
    method = rng.choice([b"GET", b"POST", b"HEAD"])
    yield Send(request(some_target(rng), *lines, method=method, body=b"hello" + smuggled(rng)))
    yield HalfClose()
    yield Answer(due=False, body=method != b"HEAD")


CODINGS = (
    b"chunked", b"Chunked", b" chunked ", b"identity", b"chunked, chunked", b"gzip, chunked",
    b"chunked, identity", b"\x0bchunked", b"xchunked", b"chunked;a=b", b"cow", b"", b"chunked\x00",
)  # fmt: skip
BODIES = (
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n", b"-5\r\n",
    b"ffffffffffffffff\r\n", b"0x5\r\nhello\r\n", b"5\nhello\n0\n\n", b"\r\n", b"1\r\n", b"g\r\n",
    b"0" * 20_000 + b"\r\n\r\n", b"1;" + b"a" * 30_000 + b"\r\nx\r\n0\r\n\r\n",
)  # fmt: skip


@attack()
def transfer_codings(rng: Random, _: Facts) -> Script:
    """Chunks, and what is called so, with and without a length."""
    name = rng.choice(
        [b"Transfer-Encoding", b"transfer-encoding", b"Transfer_Encoding", b"Transfer-Encoding "]
    )
    lines = [name + b": " + rng.choice(CODINGS)]
    if rng.random() < 0.6:
        lines.insert(rng.randrange(2), b"Content-Length: " + rng.choice([b"5", b"0", b"100"]))
    body = rng.choice(BODIES) + smuggled(rng)
    yield Send(request(some_target(rng), *lines, method=rng.choice([b"GET", b"POST"]), body=body))
    yield HalfClose()
    yield Answer(due=False)


def smuggled(rng: Random) -> bytes:
    """Another request, perhaps, where a body ends."""
    return rng.choice([b"", request(b"/smuggled"), b"GET /smuggled HTTP/1.1\r\nX: "])


@attack()
def lines_that_are_not(rng: Random, _: Facts) -> Script:
    """Folded lines, bare line ends, spaces where none may be, lines without a name."""
    odd = rng.choice(
        [b"X: a\r\n b", b"X: a\r\n\tb", b" X: a", b"X : a", b"X\t: a", b": a", b"X", b"X: a\rY: b",
         b"X: a\nY: b", b"\r", b"X: a\r\r", b"Content-Length: 5\r\n 5", b"X: a\r\n \r\n b",
         b"Content-Length: 0\rContent-Length: 9", b"Host: other", b"\x00: a", b"X: \x00",
         b"X\x00: a", b"(X): a", b"X: a\n\nGET /smuggled HTTP/1.1"]
    )  # fmt: skip
    data = request(some_target(rng), b"A: b", odd, b"C: d")
    if rng.random() < 0.3:
        data = data.replace(b"\r\n", rng.choice([b"\n", b"\r", b"\n\r", b"\r\r\n"]))
    yield Send(rng.choice([b"", b"", b"\r\n", b"\n\n", b"\r\n" * 1000]) + data)
    yield HalfClose()
    yield Answer(due=False)


@attack(30)
def much_of_one_character(rng: Random, _: Facts) -> Script:
    """What a regular expression may be quadratic in: tens of thousands of the same character, in
    each of the headers the server looks at."""
    fill = rng.choice([b" ", b" ", b" ", b"\t", b",", b";", b'"', b"\\", b"=", b"a", b"0",
                       b"-", b" ,", b';"', b"a,", b"a=", b"a;", b'\\"', b"/", b"*", b"q=0",
                       b". "])  # fmt: skip
    start, end = rng.choice(
        [(b"x", b"y"), (b"", b""), (b"", b"y"), (b"5", b"y"), (b"wait=", b"x"), (b"a/b;q", b"!"),
         (b'"', b""), (b"gzip;q=", b"y"), (b"Bearer", b"y"), (b"a=", b"!"), (b"bytes=", b"x"),
         (b"100-continue", b"y"), (b'a/b;x="', b"\x01"), (b"x-0", b"y")]
    )  # fmt: skip
    name = rng.choice(HEADERS)
    value = start + (fill * MOST)[: MOST + rng.randrange(4000)] + end
    target = rng.choice(
        [b"/server/index/count", b"/server/index/count?format=json", b"/page.js", b"/nothing"]
    )
    yield Send(request(target, name + b": " + value))
    yield Answer(due=False)


@attack()
def mutations(rng: Random, facts: Facts) -> Script:
    """A good request with bits flipped, or pieces doubled, dropped, or put elsewhere."""
    data = bytearray(
        request(
            some_target(rng),
            b"Accept: text/event-stream, */*;q=0.1",
            b"Last-Event-ID: " + facts.id_of("count").encode(),
            b"Prefer: wait=1",
            b"Accept-Encoding: gzip",
            b"Content-Length: 4",
            method=rng.choice([b"GET", b"POST"]),
            body=b"body",
        )
    )
    for _change in range(rng.randint(1, 6)):
        place, size = rng.randrange(len(data)), length(rng, 64)
        piece = bytes(data[place : place + size])
        match rng.randrange(5):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + size]
            case 2:
                data[place:place] = piece * rng.randint(1, 20)
            case 3:
                where = rng.randrange(len(data))
                data[where:where] = piece
            case 4:
                lines = data.split(b"\r\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                data = bytearray(b"\r\n".join(lines))
        if not data:
            data = bytearray(b"\r\n")
    yield Send(bytes(data))
    yield HalfClose()
    yield Answer(due=False)
