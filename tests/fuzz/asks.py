"""Good heads that ask for what nobody should: each must be answered."""

from __future__ import annotations

from random import Random

from tests.fuzz.steps import (
    FEEDS,
    FORMATS,
    Answer,
    Facts,
    HalfClose,
    Read,
    Script,
    Send,
    attack,
    length,
    request,
    some_target,
)

MOST = 60_000  # bytes of a value; just within the server's limit


def address(rng: Random, feeds: str = "", **query: object) -> bytes:
    """A stream's or a document's target."""
    feeds = feeds or rng.choice(("count", "other", "count+other"))
    query.setdefault("format", rng.choice(FORMATS[:3]))
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/server/index/{feeds}?{parameters}".encode()


@attack(50)
def ordinary(rng: Random, _: Facts) -> Script:
    """What is not hostile at all, so that the others have somebody to disturb."""
    yield Send(request(some_target(rng), b"Accept-Encoding: gzip", b"X: %d" % rng.randrange(99)))
    yield Answer()


@attack()
def last_event_ids(rng: Random, facts: Facts) -> Script:
    """Ids of no event, of monstrous ones, and of no number."""
    feeds = rng.choice(("count", "other", "count+other", "big"))
    known = facts.id_of(feeds)
    epoch, _, number = known.rpartition("-")
    value = rng.choice(
        [
            known,
            f"{epoch}-{'1' * 5000}",
            f"{epoch}-{'9' * rng.randint(18, 60_000)}",
            f"{epoch}--1",
            f"{epoch}-+1",
            f"{epoch}-0",
            f"{epoch}-{int(number or 0) + 10**6}",
            f"{epoch}-1_0",
            f"{epoch}-\u0661\u0662",
            f"{epoch}-1 ",
            f"{epoch}-",
            f"{epoch}-1e9",
            f"00000000-{number}",
            f"-{number}",
            "-",
            ".",
            known + "." + known,
            ".".join([known] * rng.randint(2, 400)),
            "." * 10_000,
            "-" * 10_000,
            "x" * MOST,
            "\u00b2" * 100,
            f"{epoch}-{number}\x0b",
            f"{epoch}-{2**63}",
            f"{epoch}-{2**64}",
        ]
    )
    encoded = value.encode("utf-8")
    if rng.random() < 0.6:
        data = request(address(rng, feeds), b"Last-Event-ID: " + encoded)
    else:
        quoted = "".join(
            c if c.isascii() and c.isalnum() else f"%{ord(c) & 255:02x}" for c in value
        )
        data = request(address(rng, feeds, last_event_id=quoted))
    yield Send(data[:64_000] + b"\r\n\r\n" * (len(data) > 64_000))
    yield Answer()
    yield Read(rng.random() / 20)


@attack()
def preferences(rng: Random, facts: Facts) -> Script:
    """Limits, waits and formats of every size."""
    number = rng.choice(
        ["0", "-1", "1", "2", "1.5", "1e9", "9" * 18, "9" * 19, "9" * 5000, "x", "", "%31", "1%00",
         "\u0661", "%D9%A1", "0x1", "1_0", "NaN", "inf", " 1", "+1", "00001"]
    )  # fmt: skip
    wait = rng.choice(["0", "1", "-1", "999999999", "9" * 5000, "x", "1.5", '"1"', "1;", ""])
    form = rng.choice(
        [*FORMATS, "nothing", "", "SSE", "json,xml", "%00", "x" * 10_000, "j" * 50_000]
    )
    target = address(rng, rng.choice(FEEDS[:4]), format=form)
    if rng.random() < 0.5:
        target += b"&limit=" + number.encode()
    headers = [f"Prefer: {rng.choice(['wait', 'WAIT', 'respond-async, wait'])}={wait}".encode()]
    if rng.random() < 0.3:
        headers.append(f'If-None-Match: "{facts.id_of("count")}"'.encode())
    if rng.random() < 0.1:
        headers.append(b"Prefer: " + b"wait=1," * rng.randint(1, 8000))
    yield Send(request(target, *headers))
    yield Read(0.5) if b"format=json" in target or b"format=xml" in target else Answer()


@attack(60)
def queries(rng: Random, _: Facts) -> Script:
    """Query strings of as many keys as there is room for, and of bad escapes."""
    count = rng.choice([1, 10, 1000, 10_000, 20_000])
    key = rng.choice([b"a", b"limit", b"format", b"%", b"%zz", b"%ff", b"a=", b"=", b"a[]", b"a;b",
                      b"last_event_id", b"%00", b"+", b"\xff"])  # fmt: skip
    joint = rng.choice([b"&", b"&", b";", b"&&", b"?", b"=&"])
    query = joint.join([key] * count)[:MOST]
    if rng.random() < 0.3:
        query = joint.join(b"%x" % n for n in range(count))[:MOST]
    where = rng.choice([b"/server/index/count", b"/", b"/server/feeds", b"/page.js"])
    yield Send(request(where + b"?" + query))
    yield Answer()


@attack(60)
def paths_of_feeds(rng: Random, _: Facts) -> Script:
    """Feeds by the ten thousand in one path."""
    count = rng.choice([2, 100, 1000, 10_000])
    names = rng.choice(
        [["count"], ["count", "other"], ["nothing"], [""], ["count", "nothing"], ["%00"], ["%2B"],
         ["count%2Bother"], ["\u00e9"], ["%ff"], ["__class__"], ["big", "count", "pushed"]]
    )  # fmt: skip
    path = "+".join(names[n % len(names)] for n in range(count))[:MOST]
    target = f"/server/index/{path}?format={rng.choice(FORMATS)}"
    yield Send(request(target.encode(), b"Accept: */*"))
    yield Answer()


@attack()
def targets(rng: Random, _: Facts) -> Script:
    """Targets that are no path, or one of no file."""
    target = rng.choice(
        [b"//[", b"\\[", b"[", b"a:[", b"//[::1", b"//]", b"*", b"", b"http://[", b"http://test/server/index/count",
         b"http://x:y@z:99999/", b"https://test/", b"test:80", b"/%00", b"/%ff", b"/%", b"/%zz",
         b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/..%2f..%2fetc%2fpasswd", b"/.",
         b"/..", b"//etc/passwd", b"/page.js/", b"/page.js/x", b"/page.js%00", b"/page.js%0d%0aX:y",
         b"/server", b"/server/", b"/server//", b"/server/index/", b"/server/__call__",
         b"/server/_stream", b"/server/__init__", b"/server/__class__", b"/server/publish",
         b"/server/publish/", b"/server/%5f_call__", b"/__init__", b"/server/index/a/b/c",
         b"/server/index/count%00", b"/server/index/%c3%a9", b"/server/index/%e9",
         b"/" + b"a/" * 20_000,
         b"/" * 30_000, b"/" + b"../" * 10_000, b"/" + b"%2f" * 10_000, b"/" + b"x" * 300,
         b"/" + b"x" * 5000, b"#", b"/#", b"/?#", b"?", b"/\\..\\..", b"/server/index/count;x=y",
         b"//", b"///", b"//server/index", b"/./server/./index", b"/server/index/..", b"/con",
         b"http://[v1.x]/", b"//[v]/", b"//a]b", b"/\xff\xfe", b"/\xc3\xa9", b"http:///", b"://",
         b"/server/index/count?%", b"/server/index/count?format=%ff", b"/~", b"/%7e", b"/a:b",
         b"file:///etc/passwd", b"javascript:x", b"//\xe2\x84\x80/", b"http://\xe2\x84\x80/"]
    )  # fmt: skip
    method = rng.choice([b"GET", b"GET", b"GET", b"HEAD", b"POST"])
    yield Send(request(target, method=method))
    yield Answer(body=method != b"HEAD")


@attack()
def negotiations(rng: Random, _: Facts) -> Script:
    """Accept and its like, of fragments that mean nothing together."""
    fragments = (b"*/*", b"text/html", b"application/json", b";q=", b"0.5", b"1.0001", b",", b";",
                 b'"', b"\\", b" ", b"\t", b"image/*", b"multipart/x-mixed-replace", b"=", b"gzip",
                 b"*", b"identity", b"q", b"/", b"\xff", b"text/event-stream", b"-1", b"x" * 50,
                 b";charset=", b'";', b"level=1")  # fmt: skip
    name = rng.choice([b"Accept", b"Accept", b"Accept-Encoding", b"Accept-Language",
                       b"Accept-Charset"])  # fmt: skip
    if rng.random() < 0.1:
        fragment = b"".join(rng.choices(fragments, k=rng.randint(1, 4))) + b","
        value = (fragment * MOST)[: length(rng, MOST)]
    else:
        value = b"".join(rng.choices(fragments, k=rng.randint(0, 30)))
    target = rng.choice([b"/server/index/count", b"/server/index/other", b"/nothing", b"/"])
    yield Send(request(target, name + b": " + value))
    yield Answer()


@attack()
def conditions(rng: Random, facts: Facts) -> Script:
    """Conditional requests and ranges, of files and of values."""
    values = (
        b"bytes=0-", b"bytes=5-1", b"bytes=-", b"bytes=0-0,1-1", b"bytes=" + b"0-1," * 5000, b"x",
        b"bytes=-99999999999999999999", b"bytes=" + b"9" * 5000 + b"-", b"lines=1-2", b"bytes 0-1",
        b"bytes=a-b", b"bytes=0-1" + b"0" * 400, b'"a"', b"W/", b"*", b'"' * 5000,
        b'W/"a", ' * 5000,
        b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 99 Jan 99999 99:99:99 GMT", b"0", b"-1",
        b"Thu, 01 Jan 0000 00:00:00 GMT", b"\xff", b"", b"Mon, 31 Feb 2020 00:00:00 +9999",
        b"Thu, 01 Jan 9999 23:59:59 -9999", b"1" * 5000,
        b"Thu, 01 Jan 1970 00:00:00 " + b"A" * 5000,
        facts.id_of("count").encode(), b"bytes=\xd9\xa1-",
    )  # fmt: skip
    names = (b"Range", b"If-Modified-Since", b"If-None-Match", b"If-Range", b"If-Match",
             b"If-Unmodified-Since")  # fmt: skip
    headers = [
        rng.choice(names) + b": " + rng.choice(values) for _ in range(rng.choice([1, 1, 2, 3]))
    ]
    target = rng.choice([b"/page.js", b"/", b"/page.css", b"/server/index/other?format=json",
                         b"/server/feeds"])  # fmt: skip
    method = rng.choice([b"GET", b"HEAD"])
    yield Send(request(target, *headers, method=method))
    if b"format=json" in target and method == b"GET":
        yield Read(0.5)  # it may wait for what is newer
    else:
        yield Answer(body=method == b"GET")


@attack()
def methods(rng: Random, _: Facts) -> Script:
    """Other methods than GET."""
    method = rng.choice(
        [b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"PATCH", b"PRI", b"get",
         b"G\xc3\x89T", b"PROPFIND", b"M" * 300, b"GET\x00", b"__init__", b"*", b"HEAD"]
    )  # fmt: skip
    headers = rng.choice(
        [[], [b"Origin: null"], [b"Origin: https://a.example",
          b"Access-Control-Request-Method: GET"],
         [b"Origin: " + b"x" * 10_000], [b"Content-Length: 0"], [b"Upgrade: h2c"]]
    )  # fmt: skip
    target = rng.choice([some_target(rng), b"/server/publish/pushed", b"*", b"/nothing"])
    yield Send(request(target, *headers, method=method))
    yield HalfClose()
    yield Answer(body=method != b"HEAD", due=False)


@attack(60)
def bodies(rng: Random, _: Facts) -> Script:
    """Bodies where none is wanted, of lengths that are not theirs."""
    size = rng.choice([0, 1, 100, 70_000, 1024 * 1024, 1024 * 1024 + 1, 5_000_000])
    said = max(0, size + rng.choice([0, 0, 0, -1, 1, 100_000, -50]))
    sent = min(size, 1024 * 1024 + 100)
    method = rng.choice([b"POST", b"PUT", b"GET", b"DELETE"])
    kind = rng.choice([b"text/plain", b"application/json", b"multipart/form-data; boundary=x", b"x",
                       b"application/x-www-form-urlencoded"])  # fmt: skip
    head = request(
        some_target(rng), b"Content-Length: %d" % said, b"Content-Type: " + kind, method=method
    )
    yield Send(head)
    yield Send(rng.choice([b"\0", b"a", b"a=b&", b"--x\r\n"]) * sent if sent < 200 else b"a" * sent)
    yield HalfClose()
    yield Read(3.0)


JSON = (
    b"1", b"{}", b"[" * 50_000, b'{"a":' * 20_000, b"NaN", b"1e999", b'"\\ud800"', b"\xff", b"",
    b"9" * 10_000, b"[" + b"1," * 30_000 + b"1]", b'{"a":1,"a":2}', b"{1:2}", b"\x00", b"-", b"nul",
    b"[Infinity]", b'"' + b"\\u0000" * 5000 + b'"', b"1" + b"0" * 4400,
)  # fmt: skip
TYPES = (
    b"application/json", b"text/plain", b"text/plain; charset=utf-16", b"text/plain; charset=idna",
    b"text/plain; charset=punycode", b"text/plain; charset=hex", b"text/plain; charset=zlib",
    b"text/plain; charset=unicode_escape", b"text/plain; charset=utf-7",
    b"text/plain; charset=\xff",
    b"text/plain; charset=" + b"x" * 5000, b"image/png", b"text/html", b"x", b"/", b"",
    b"application/json; charset=latin-1", b"image/png\x0b", b"text/plain; charset=undefined",
    b"text/plain; charset=raw_unicode_escape", b"text/plain; charset=..",
    b"text/plain; charset=mbcs",
)  # fmt: skip


@attack(60)
def publications(rng: Random, facts: Facts) -> Script:
    """Values from outside, with and without the token; where it is right, of all sorts."""
    token = facts.token.encode()
    scheme = rng.choice(
        [b"Bearer ", b"Bearer ", b"Bearer ", b"bearer  ", b"Basic ", b"", b"Bearer\t"]
    )
    shown = rng.choice([token, token, token, b"", b"wrong", b"\xff", token + b"x", token[:-1]])
    feed = rng.choice([b"pushed", b"pushed", b"pushed", b"count", b"nothing", b"%00", b""])
    body = rng.choice(JSON) if rng.random() < 0.7 else rng.randbytes(length(rng, 300_000))
    data = request(
        b"/server/publish/" + feed,
        b"Authorization: " + scheme + shown,
        b"Content-Type: " + rng.choice(TYPES),
        b"Content-Length: %d" % len(body),
        method=b"POST",
        body=body,
    )
    yield Send(data)
    yield Answer()


@attack(60)
def more_than_a_request(rng: Random, _: Facts) -> Script:
    """Requests one after another, and chatter on a connection that is a stream."""
    first = request(some_target(rng))
    more = rng.choice(
        [first * 20, b"\0" * 65536, b"x" * 65536, b"GET ", b"\r\n" * 1000, rng.randbytes(2000)]
    )
    if rng.random() < 0.5:
        yield Send(first + more)
    else:
        yield Send(first)
        yield Answer()
        yield Send(more)
    yield Read(rng.random() / 10)


@attack(40)
def hosts(rng: Random, _: Facts) -> Script:
    """Hosts that are none, and none at all."""
    host = rng.choice(
        [b"", b"Host:\r\n", b"Host: [\r\n", b"Host: a:b\r\n", b"Host: \xff\r\n",
         b"Host: a\r\nHost: b\r\n",
         b"Host: " + b"x" * 20_000 + b"\r\n", b"Host: a:99999999999\r\n", b"Host: a/b?c\r\n",
         b"Host: :\r\n", b"Host: [::1]:\r\n", b"Host: a@b\r\n"]
    )  # fmt: skip
    target = rng.choice([b"/server/feeds", b"/", b"/page.js/", b"/server/index/count", b"/nothing"])
    yield Send(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, host))
    yield Answer()
