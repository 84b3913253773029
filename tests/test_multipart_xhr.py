"""pushdemo/public/multipart-xhr.js, in the browsers.

The parser is given every document below cut at every place and at every two places; the loops run
inside the page, the expected parts are written here.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.browsers import Browser
from tests.scripted_server import MULTIPART, Exchange, ScriptedServer, ours, seeds


@dataclass(frozen=True)
class Document:
    stream: bytes
    parts: list[tuple[dict[str, str], bytes]]
    boundary: str = "test"

    def script(self) -> str:
        """The document as a JavaScript object."""
        return json.dumps(
            {
                "boundary": self.boundary,
                "stream": self.stream.decode("latin-1"),
                "parts": [
                    [
                        sorted([name.lower(), value] for name, value in headers.items()),
                        body.decode("latin-1"),
                    ]
                    for headers, body in self.parts
                ],
            }
        )


XML = {"Content-Type": "application/xml"}

DOCUMENTS = {
    "ours": Document(
        b"--test\r\n" + ours("one") + ours("tv\u00e5")[:-2] + b"--\r\n",
        [
            (
                XML | {"Content-Length": "61"},
                b'<?xml version="1.0" encoding="UTF-8"?>\n<message>one</message>',
            ),
            (
                XML | {"Content-Length": "62"},
                b'<?xml version="1.0" encoding="UTF-8"?>\n<message>tv\xc3\xa5</message>',
            ),
        ],
    ),
    "the seed's": Document(
        seeds("1") + seeds("2"),
        [
            (XML, b"<?xml version='1.0' encoding='ISO-8859-1'?>\n<message>1</message>"),
            (XML, b"<?xml version='1.0' encoding='ISO-8859-1'?>\n<message>2</message>"),
        ],
    ),
    "mixed line ends": Document(
        b"--test\nA: 1\r\n\none\r\n--test\r\nA: 2\n\r\ntwo\r\n\n--test\nA: 3\n\n\r\nx\n--test--",
        [({"A": "1"}, b"one"), ({"A": "2"}, b"two\r\n"), ({"A": "3"}, b"\r\nx")],
    ),
    "empty bodies": Document(
        b"--test\r\nA: 1\r\n\r\n--test\r\nA: 2\r\n\r\n\r\n--test\r\nA: 3\r\n--test\r\n"
        b"Content-Length: 0\r\n\r\n\r\n--test\r\nContent-Length: 0\r\n\r\n--test\r\n"
        b"\r\n\r\n--test\r\n\r\n--test\r\n--test\r\n\r\nlast\r\n--test--\r\n",
        [
            ({"A": "1"}, b""),
            ({"A": "2"}, b""),
            ({"A": "3"}, b""),
            ({"Content-Length": "0"}, b""),
            ({"Content-Length": "0"}, b""),
            ({}, b"last"),
        ],
    ),
    "false boundaries": Document(
        b"--test\n\nx--test\n--testing\n --test\n--tes\n-test\n--test-\n--test--x\n--test \t.\n"
        b"--test\r \n\r--test\n--TEST\n--test\n",
        [
            (
                {},
                b"x--test\n--testing\n --test\n--tes\n-test\n--test-\n--test--x\n--test \t.\n"
                b"--test\r \n\r--test\n--TEST",
            )
        ],
    ),
    "a delimiter inside a counted body": Document(
        b"--test\r\nContent-Length: 19\r\n\r\na\r\n--test\r\n--test--\r\n--test\r\n"
        b"Content-Length: 2\n\nb\n--test\nContent-Length: 3\n\nab\n\n--test\n\nz\n--test--\n",
        [
            ({"Content-Length": "19"}, b"a\r\n--test\r\n--test--"),
            ({"Content-Length": "2"}, b"b\n"),
            ({"Content-Length": "3"}, b"ab\n"),
            ({}, b"z"),
        ],
    ),
    "lengths that mean nothing": Document(
        b"--test \n--test\nContent-Length: x\n\ny\n--test\n"
        b"Content-Length: 1\nContent-Length: 2\n\nabc\n--test\n"
        b"Content-Length: 2\n\nab--test\nA: 1\n\na part\n--test\n"
        b"Content-Length: 99\n\ncut\n--test--\n",
        [
            ({"Content-Length": "x"}, b"y"),
            ({"Content-Length": "1, 2"}, b"abc"),
            ({"Content-Length": "2"}, b"ab"),
            ({"A": "1"}, b"a part"),
        ],
    ),
    "preamble and epilogue": Document(
        b"pre --test\n--testing\r\n\n--test\t \r\nA: 1\r\n\r\none\n--test-- \t\r\n"
        b"epi\n--test\n\nx\n--test\n",
        [({"A": "1"}, b"one")],
    ),
    "header lines": Document(
        b"--test\nHTTP/1.0 200 OK\n: none\nA:  1 \nB: 2\n\t3\na: 4\nC:\nD: \xe9\nE\x00: 5\n\nx\n"
        b"--test\n",
        [({"A": "1, 4", "B": "2\t3", "C": "", "D": "\u00e9"}, b"x")],
    ),
    "UTF-8": Document(
        "--test\n\n\u00e5\u20ac\U0001f600\n--test\n".encode(),
        [({}, "\u00e5\u20ac\U0001f600".encode())],
    ),
    "another boundary": Document(
        b"--a b?(\r\n\r\n1\r\n--a b\r\n--a b?(--",
        [({}, b"1\r\n--a b")],
        boundary="a b?(",
    ),
    "cut off": Document(b"--test\n\none\n--test\n\ntwo\n--test", [({}, b"one")]),
}


@pytest.fixture
def page(browser: Browser, scripted: ScriptedServer) -> Browser:
    browser.open(f"{scripted.url}/blank.html")
    return browser


# The parser.


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_split(page: Browser, name: str) -> None:
    document = DOCUMENTS[name]
    length = len(document.stream)
    result = page.evaluate(f"tryCuts({document.script()}, everyCut({length}))")
    assert result["failures"] == []
    assert result["tried"] == 2 + (length + 1) + (length + 1) * (length + 2) // 2


DELIMITER = re.compile(rb"--test(--)?[ \t]*\r?")
PIECES = [
    b"\n",
    b"\r\n",
    b"\r",
    b"--test",
    b"--test--",
    b"-",
    b"--",
    b"ing",
    b" ",
    b"\xc3\xa5",
    b"a:",
]


def random_lines(rng: random.Random) -> bytes:
    """Bytes that are near to a delimiter, but hold none."""
    while True:
        text = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        if not any(DELIMITER.fullmatch(line) for line in text.split(b"\n")):
            return text


def random_document(rng: random.Random) -> Document:
    def eol() -> bytes:
        return rng.choice([b"\n", b"\r\n"])

    def delimiter(closing: bytes = b"") -> bytes:
        return b"--test" + closing + rng.choice([b"", b" ", b"\t  "]) + eol()

    stream = random_lines(rng) + eol() + delimiter()
    parts = []
    for _ in range(rng.randrange(5)):
        body = random_lines(rng)
        headers = {name: str(rng.randrange(99)) for name in "AB" if rng.random() < 0.5}
        if rng.random() < 0.3:
            body += rng.choice([b"", b"\n--test\n", b"\r\n--test--\r\n", b"--test"])
            headers["Content-Length"] = str(len(body))
        elif body.endswith(b"\r"):
            body += b"."  # or it would be the first half of a CRLF
        stream += b"".join(f"{name}: {value}".encode() + eol() for name, value in headers.items())
        stream += eol() + body + eol() + delimiter()
        if headers or body:
            parts.append((headers, body))
        if rng.random() < 0.3:
            stream += delimiter()
    if rng.random() < 0.5:
        stream += (
            delimiter(b"--") + random_lines(rng) + eol() + delimiter() + b"\nx\n" + delimiter()
        )
    return Document(stream, parts)


def test_random_documents_cut_at_random(page: Browser) -> None:
    seed = int(os.environ.get("SPLIT_SEED") or random.randrange(2**32))
    rng = random.Random(seed)
    for _ in range(150):
        document = random_document(rng)
        length = len(document.stream)
        cuts = [
            sorted(rng.randrange(length + 1) for _ in range(rng.randrange(20))) for _ in range(20)
        ]
        result = page.evaluate(f"tryCuts({document.script()}, {cuts})")
        assert result["failures"] == [], f"again with SPLIT_SEED={seed}: {document}"


@pytest.mark.parametrize("head", ["", "Content-Length: 33554432\r\n"], ids=["scanned", "counted"])
@pytest.mark.parametrize("line", ["x" * 1023 + "\n", "\n--test-\r\n--test" + "\n" * 1008])
def test_a_large_part_in_small_chunks_takes_linear_time(
    page: Browser, head: str, line: str
) -> None:
    """32 MiB in chunks of 1 KiB: to look at all of it again for each would take minutes."""
    assert len(line) == 1024
    milliseconds, size, held = page.evaluate(
        f"""(() => {{
          const parts = [];
          const parser = new MultipartXMLHttpRequest.Parser('big', (part) => parts.push(part));
          const chunk = bytesOf({json.dumps(line)});
          const began = performance.now();
          parser.push(bytesOf('--big\\r\\n' + {json.dumps(head)} + '\\r\\n'));
          for (let i = 0; i < 32 * 1024; i++) parser.push(chunk);
          parser.push(bytesOf('\\r\\n--big\\r\\n'));
          return [performance.now() - began, parts[0].body.length, parser.held];
        }})()"""
    )
    assert size == 32 * 1024 * 1024
    assert milliseconds < 5_000
    assert held < 64 * 1024  # given back


def test_memory_stays_flat_over_a_long_stream(page: Browser) -> None:
    part = "--test\n" + ours("one").decode()
    most, parts = page.evaluate(
        f"""(() => {{
          let parts = 0;
          let most = 0;
          const parser = new MultipartXMLHttpRequest.Parser('test', () => parts++);
          const part = bytesOf({json.dumps(part)});
          for (let i = 0; i < 50_000; i++) {{
            for (const chunk of cut(part, [i % part.length])) parser.push(chunk);
            most = Math.max(most, parser.held);
          }}
          return [most, parts];
        }})()"""
    )
    assert parts == 50_000
    assert most < 64 * 1024


@pytest.mark.parametrize("chunk", [1, 100, 100_000])
@pytest.mark.parametrize("head", ["A: " + "x" * 20_000, "A: 1\\n" * 5_000])
def test_headers_are_bounded(page: Browser, head: str, chunk: int) -> None:
    assert page.evaluate(
        f"""(() => {{
          const parser = new MultipartXMLHttpRequest.Parser('test', () => 0);
          const bytes = bytesOf('--test\\n{head}');
          let pushed = 0;
          const thrown = thrownBy(() => {{
            for (; pushed < bytes.length; pushed += {chunk}) {{
              parser.push(bytes.subarray(pushed, pushed + {chunk}));
            }}
          }});
          parser.push(new Uint8Array(1_000_000)); // taken and forgotten
          return [thrown, pushed < 17_000, parser.held < 2_000_000];
        }})()"""
    ) == ["BadStream", True, True]


def test_a_silence_of_weeks_is_no_large_head(page: Browser) -> None:
    """Each heartbeat is one space more in the value of the header that comes first."""
    assert page.evaluate(
        """(() => {
          const parts = [];
          const parser = new MultipartXMLHttpRequest.Parser('test', (part) => parts.push(part));
          parser.push(bytesOf('--test\\r\\nIdle:'));
          for (let i = 0; i < 40_000; i++) parser.push(bytesOf(' '));
          const part = bytesOf('\\r\\nA: 1\\r\\n\\r\\nx\\r\\n--test\\r\\nIdle:');
          for (const bytes of [part, bytesOf('  '), part]) parser.push(bytes);
          return parts.map(({ headers, body }) => [headers.get('A'), body.length]);
        })()"""
    ) == [["1", 1], ["1", 1]]


@pytest.mark.parametrize(
    ("before", "byte"), [("", 10), ("--test\\nContent-Length: 1\\n\\nx", 10), ("--test--\\n", 0)]
)
def test_what_is_skipped_is_not_kept(page: Browser, before: str, byte: int) -> None:
    """Blank lines before the first part, and behind a body; and an epilogue without a line end."""
    assert page.evaluate(
        f"""(() => {{
          const parser = new MultipartXMLHttpRequest.Parser('test', () => 0);
          parser.push(bytesOf('{before}'));
          for (let i = 0; i < 1000; i++) parser.push(new Uint8Array(10_000).fill({byte}));
          return parser.held < 64 * 1024;
        }})()"""
    )


@pytest.mark.parametrize("chunk", [1, 100_000])
def test_delimiters_are_bounded(page: Browser, chunk: int) -> None:
    padded = "--test" + " " * 20_000 + "\n\nno\n"
    behind_a_long_line = "x" * (16 * 1024 + 1) + "--test\n\nno\n"
    stream = padded + behind_a_long_line + "--test\n\nyes\n--test\n"
    places = list(range(chunk, len(stream), chunk))
    got = page.evaluate(f"parse('test', cut(bytesOf({json.dumps(stream)}), {places}))")
    assert json.loads(got) == [[[], "yes"]]


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/x-mixed-replace;boundary=test", "test"),
        ("Multipart/X-Mixed-Replace ; charset=utf-8; BOUNDARY=test ; x=y", "test"),
        ('multipart/mixed; boundary="a b;c=\\"d"', 'a b;c="d'),
        ('multipart/mixed; x="; boundary=no"; boundary=yes', "yes"),
        ("multipart/x-mixed-replace;boundary=video boundary--", "video boundary--"),
        ("multipart/mixed", None),
        ("multipart/mixed; boundary=", None),
        ("Multipart/X-Mixed-Replace", ""),
        ("multipart/x-mixed-replace; boundary=", ""),
        ("text/plain; boundary=test", None),
        (None, None),
    ],
)
def test_the_boundary_of_a_content_type(
    page: Browser, content_type: str | None, boundary: str | None
) -> None:
    script = f"MultipartXMLHttpRequest.Parser.boundary({json.dumps(content_type)})"
    assert page.evaluate(script) == boundary


# The request.


def start(page: Browser, scripted: ScriptedServer, setup: str = "") -> Exchange:
    """Sends a recording request (`request` in the page), and begins a multipart answer to it."""
    page.evaluate(
        f"(() => {{ record().open('GET', '/server/index'); {setup}; request.send(); }})()"
    )
    exchange = scripted.accept()
    exchange.start(MULTIPART)
    return exchange


PART = [2, 3, "progress", 4, "load", 1]


def test_each_part_runs_through_the_states(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    exchange.send(b"--test\r\n")
    page.wait_for("request.log.includes('open')")  # before there is any part
    assert page.evaluate("[request.status, request.responseXML, request.responseText]") == [
        200,
        None,
        "",
    ]
    exchange.send(ours("one"))
    page.wait_for("request.texts.length === 1")  # and no part lags behind
    exchange.send(ours("two")[:-2] + b"--\r\n")
    page.wait_for("request.texts.length === 2")
    assert page.evaluate("request.readyState") == 1
    exchange.close()
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("request.log") == [1, "loadstart", "open", *PART, *PART, "loadend"]
    assert page.evaluate("[request.readyState, request.status]") == [4, 200]
    assert page.evaluate("request.responseXML.documentElement.textContent") == "two"


def test_the_seeds_bytes(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    for count, text in enumerate(["one", "caf\u00e9"], 1):
        exchange.send(seeds(text))
        page.wait_for(f"request.texts.length === {count}")
        message = "request.responseXML.documentElement.childNodes[0].data"
        assert page.evaluate(message) == text
    assert page.evaluate("request.log") == [1, "loadstart", "open", *PART, *PART]


def test_the_progress_of_a_part(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(
        page,
        scripted,
        "request.onprogress = (event) => {"
        " request.seen = [event.lengthComputable, event.loaded, event.total]; }",
    )
    exchange.send(b"--test\n\n12345\n--test\n")
    assert page.wait_for("request.seen") == [True, 5, 5]


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("application/xml", "<?xml version='1.0'?><a>\u00e9\u20ac</a>".encode(), "\u00e9\u20ac"),
        (
            "text/xml",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>",
            "\u00e9",
        ),
        (
            "image/svg+xml; charset=utf-8",
            "<?xml version='1.0' encoding='ISO-8859-1'?><a>\u00e9</a>".encode(),
            "\u00e9",
        ),
        ("application/xml", "\ufeff<a>\u00e9</a>".encode("utf-16-le"), "\u00e9"),
        ("application/xml; charset=nonsense", "<a>\u00e9</a>".encode(), "\u00e9"),
        ("application/xml", b"<parsererror>none</parsererror>", "none"),
        (None, b"<a>untyped</a>", "untyped"),
        ("application/xml", b"<a>", None),
        ("application/xml", b"", None),
        ("text/plain", b"<a>text</a>", None),
        ("text/html", b"<a>text</a>", None),
    ],
)
def test_response_xml(
    page: Browser,
    scripted: ScriptedServer,
    content_type: str | None,
    body: bytes,
    text: str | None,
) -> None:
    exchange = start(page, scripted)
    head = f"Content-Type: {content_type}\n".encode() if content_type else b""
    exchange.send(b"--test\n" + head + b"Content-Length: %d\n\n" % len(body) + body)
    page.wait_for("request.log.includes('load')")
    got = page.evaluate("request.responseXML && request.responseXML.documentElement.textContent")
    assert got == text
    assert page.evaluate("request.responseXML === request.responseXML")


@pytest.mark.parametrize(
    ("response_type", "expression", "value"),
    [
        ("", "request.response", '{"a": "\u00e9"}'),
        ("text", "request.response", '{"a": "\u00e9"}'),
        ("json", "request.response", {"a": "\u00e9"}),
        ("arraybuffer", "request.response.byteLength", 11),
        ("blob", "[request.response.size, request.response.type]", [11, "application/json"]),
        ("document", "request.response", None),
        ("arraybuffer", "thrownBy(() => request.responseText)", "InvalidStateError"),
        ("json", "thrownBy(() => request.responseXML)", "InvalidStateError"),
    ],
)
def test_response_types(
    page: Browser, scripted: ScriptedServer, response_type: str, expression: str, value: Any
) -> None:
    exchange = start(page, scripted, f"request.responseType = '{response_type}'")
    exchange.send(b"--test\nContent-Type: application/json\n\n")
    exchange.send('{"a": "\u00e9"}\n--test\n'.encode())
    page.wait_for("request.log.includes('load')")
    assert page.evaluate(expression) == value


def test_a_document_may_be_html(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted, "request.responseType = 'document'")
    exchange.send(b"--test\nContent-Type: text/html\n\n<p>one<p>two\n--test\n")
    page.wait_for("request.log.includes('load')")
    assert page.evaluate("request.response.querySelectorAll('p').length") == 2


def test_broken_json_is_null(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted, "request.responseType = 'json'")
    exchange.send(b"--test\n\n{\n--test\n")
    page.wait_for("request.log.includes('load')")
    assert page.evaluate("request.response === null")


def test_a_parts_headers_hide_the_responses(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("(() => { record().open('GET', '/server/index?a#b'); request.send(); })()")
    exchange = scripted.accept("/server/index?a")
    exchange.start(MULTIPART | {"X-Of": "response", "X-Only": "response"}, "200 Fine")
    exchange.send(b"--test\n")
    page.wait_for("request.log.includes('open')")
    assert page.evaluate("request.getResponseHeader('x-of')") == "response"
    exchange.send(ours("1", {"X-Of": "part", "Retry": "5000"}))
    page.wait_for("request.texts.length === 1")
    asked = "['X-OF', 'X-Only', 'Retry', 'Content-Type', 'Missing']"
    assert page.evaluate(f"{asked}.map((name) => request.getResponseHeader(name))") == [
        "part",
        "response",
        "5000",
        "application/xml",
        None,
    ]
    everything = page.evaluate("request.getAllResponseHeaders()")
    assert "x-of: part\r\nx-only: response\r\n" in everything
    exchange.send(ours("2"))
    page.wait_for("request.texts.length === 2")
    assert page.evaluate("request.getResponseHeader('X-Of')") == "response"
    assert page.evaluate("[request.statusText, request.responseURL]") == [
        "Fine",
        f"{scripted.url}/server/index?a",
    ]


def test_what_is_sent(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate(
        """(() => {
          record().open('post', '/server/index', false);
          request.setRequestHeader('X-Asked', '1');
          request.setRequestHeader('X-Asked', '2');
          request.send('body');
        })()"""
    )
    exchange = scripted.accept()
    assert (exchange.method, exchange.headers["X-Asked"], exchange.body) == (
        "POST",
        "1, 2",
        b"body",
    )


@pytest.mark.parametrize(("credentials", "cookie"), [("true", "a=b"), ("false", None)])
def test_credentials_go_to_another_origin_only_if_asked(
    page: Browser, scripted: ScriptedServer, credentials: str, cookie: str | None
) -> None:
    with ScriptedServer() as other:
        page.evaluate(
            f"""(() => {{
              document.cookie = 'a=b';
              record().open('GET', '{other.url}/feed');
              request.withCredentials = {credentials};
              request.send();
            }})()"""
        )
        exchange = other.accept("/feed")
        assert exchange.headers["Cookie"] == cookie
        exchange.start(
            MULTIPART
            | {
                "Access-Control-Allow-Origin": scripted.url,
                "Access-Control-Allow-Credentials": "true",
            }
        )
        exchange.send(b"--test\n" + ours("one"))
        page.wait_for("request.texts.length === 1")


@pytest.mark.parametrize("handler", ["onload", "onreadystatechange", "onprogress"])
def test_an_exception_in_a_handler_is_reported_and_stops_nothing(
    page: Browser, scripted: ScriptedServer, handler: str
) -> None:
    exchange = start(
        page,
        scripted,
        "window.reported = [];"
        "addEventListener('error', ({ error }) => reported.push(error.message));"
        f"request.{handler} = () => {{ throw new Error('mine'); }}",
    )
    exchange.send(b"--test\r\n" + ours("one") + ours("two"))
    page.wait_for("request.texts.length === 2")
    exchange.send(ours("three"))
    page.wait_for("request.texts.length === 3")
    assert set(page.evaluate("reported")) == {"mine"}


def test_the_events_target_is_the_request(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(
        page,
        scripted,
        "request.onload = function (event) {"
        " request.same = event.target === request && this === request; }",
    )
    exchange.send(b"--test\r\n" + ours("one"))
    page.wait_for("request.same")


def test_abort(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    exchange.send(b"--test\r\n" + ours("one"))
    page.wait_for("request.texts.length === 1")
    page.evaluate("request.abort()")
    exchange.wait_for_hangup()
    log = [1, "loadstart", "open", *PART, 4, "abort", "loadend"]
    assert page.evaluate("request.log") == log
    assert page.evaluate("[request.readyState, request.status, request.responseText]") == [0, 0, ""]
    page.evaluate("request.abort()")
    assert page.evaluate("request.log") == log


@pytest.mark.parametrize("state", [2, 3, 4])
def test_abort_in_a_handler_ends_the_part_at_hand_and_those_behind_it(
    page: Browser, scripted: ScriptedServer, state: int
) -> None:
    exchange = start(
        page,
        scripted,
        f"request.addEventListener('readystatechange', () => {{"
        f" if (request.readyState === {state} && !request.log.includes('abort'))"
        f" request.abort(); }})",
    )
    exchange.send(b"--test\r\n" + ours("one") + ours("two"))
    exchange.wait_for_hangup()
    begun: dict[int, list[int | str]] = {2: [2], 3: [2, 3], 4: [2, 3, "progress"]}
    log = [1, "loadstart", "open", *begun[state], 4, "abort", "loadend"]
    assert page.evaluate("request.log") == log


def test_open_in_a_handler_starts_again(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(
        page,
        scripted,
        "request.setRequestHeader('X-First', '1');"
        "request.onload = () => { request.onload = null;"
        " request.open('GET', '/second'); request.send(); }",
    )
    exchange.send(b"--test\r\n" + ours("one") + ours("never"))
    second = scripted.accept("/second")
    assert second.headers["X-First"] is None
    exchange.wait_for_hangup()
    second.start(MULTIPART)
    second.send(b"--test\r\n" + ours("two"))
    page.wait_for("request.texts.length === 2")
    assert [text[-13:-10] for text in page.evaluate("request.texts")] == ["one", "two"]
    first = [1, "loadstart", "open", 2, 3, "progress", 4, "load"]
    assert page.evaluate("request.log") == [*first, 1, "loadstart", "open", *PART]


def test_a_broken_connection_is_an_error(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    exchange.send(b"--test\r\n" + ours("one") + b"Content-Type: text/plain\r\n\r\nha")
    page.wait_for("request.texts.length === 1")
    exchange.drop()
    page.wait_for("request.log.includes('loadend')")
    log = [1, "loadstart", "open", *PART, 4, "error", "loadend"]
    assert page.evaluate("request.log") == log
    assert page.evaluate("[request.readyState, request.status, request.responseText]") == [4, 0, ""]


def test_open_in_an_error_handler_starts_again(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(
        page,
        scripted,
        "request.onerror = () => { request.open('GET', '/second'); request.send(); }",
    )
    exchange.send(b"--test\r\n" + ours("one"))
    page.wait_for("request.texts.length === 1")
    exchange.drop()
    second = scripted.accept("/second")
    second.start(MULTIPART)
    second.send(b"--test\r\n" + ours("two"))
    page.wait_for("request.texts.length === 2")
    first = [1, "loadstart", "open", *PART, 4, "error"]  # and no loadend: it goes on
    assert page.evaluate("request.log") == [*first, 1, "loadstart", "open", *PART]


def test_a_server_that_is_not_there_is_an_error(page: Browser) -> None:
    with ScriptedServer() as gone:
        pass
    page.evaluate(f"(() => {{ record().open('GET', '{gone.url}/'); request.send(); }})()")
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("request.log") == [1, "loadstart", 4, "error", "loadend"]


def test_endless_headers_are_an_error(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    exchange.send(b"--test\r\n" + ours("one") + b"A: " + b"x" * 20_000)
    page.wait_for("request.log.includes('loadend')")
    log = [1, "loadstart", "open", *PART, 4, "error", "loadend"]
    assert page.evaluate("request.log") == log
    exchange.wait_for_hangup()


UNREADABLE = [1, "loadstart", "open", 4, "error", "loadend"]


def test_a_stream_that_cannot_be_read_is_an_error_with_a_reason(
    page: Browser, scripted: ScriptedServer
) -> None:
    exchange = start(page, scripted)
    exchange.send(b"<p>no part</p>\r\n")
    exchange.close()
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("request.log") == UNREADABLE
    assert page.evaluate("[request.readyState, request.reason]") == [
        4,
        r"expected the line '--test' before the first part, got '<p>no part</p>\r\n'",
    ]
    page.evaluate("request.open('GET', '/server/index')")
    assert page.evaluate("request.reason") is None


def test_bytes_that_nobody_understands_are_no_sign_of_life(
    page: Browser, scripted: ScriptedServer
) -> None:
    exchange = start(page, scripted, "request.timeout = 500")
    exchange.send(b"<p>no part</p>\r\n")
    with suppress(OSError):  # until the browser has hung up
        while not page.evaluate("request.log.includes('loadend')"):
            exchange.send(b"and on\r\n")
            time.sleep(0.02)
    assert page.evaluate("request.log") == UNREADABLE
    assert page.evaluate("request.reason").startswith("expected the line '--test'")
    exchange.close()


def test_a_stream_that_breaks_off_has_no_reason(page: Browser, scripted: ScriptedServer) -> None:
    exchange = start(page, scripted)
    exchange.send(b"--te")
    exchange.close()
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("[request.log, request.reason]") == [
        [1, "loadstart", "open", "loadend"],
        None,
    ]


def test_an_endless_answer_of_another_type_has_a_reason(
    page: Browser, scripted: ScriptedServer
) -> None:
    page.evaluate(
        "(() => { record().open('GET', '/server/index'); request.timeout = 500;"
        " request.send(); })()"
    )
    exchange = scripted.accept()
    exchange.start({"Content-Type": "text/event-stream"})
    exchange.send(b"data: 1\n\n")
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("request.log") == [1, "loadstart", 4, "timeout", "loadend"]
    assert page.evaluate("request.reason") == ("expected a multipart stream, got text/event-stream")
    exchange.wait_for_hangup()


SINGLE = [1, "loadstart", 2, 3, "progress", 4, "load", "loadend"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", {"Content-Type": "text/plain"}),
        ("200 OK", {"Content-Type": "multipart/mixed"}),
        ("404 Not Found", {"Content-Type": "text/plain"}),
        ("503 Service Unavailable", MULTIPART),
    ],
)
def test_any_other_answer_is_a_single_response(
    page: Browser, scripted: ScriptedServer, status: str, headers: dict[str, str]
) -> None:
    page.evaluate("(() => { record().open('GET', '/server/index'); request.send(); })()")
    body = b"--test\n\none\n--test--\n"
    scripted.accept().answer(status, headers, body)
    page.wait_for("request.log.includes('loadend')")
    assert page.evaluate("request.log") == SINGLE
    assert page.evaluate("request.texts") == [body.decode()]
    code, _, reason = status.partition(" ")
    assert page.evaluate("[request.status, request.statusText]") == [int(code), reason]
    assert page.evaluate("request.readyState") == 4
    good = code == "200"
    reason = f"expected a multipart stream, got {headers['Content-Type']}: "
    expected = reason + r"'--test\n\none\n--test--\n'" if good else None
    assert page.evaluate("request.reason") == expected


def test_timeout_is_the_longest_silence(page: Browser, scripted: ScriptedServer) -> None:
    """The page's timers are replaced by ones that go off when the test says."""
    exchange = start(
        page,
        scripted,
        "window.timers = [];"
        "window.setTimeout = (action, delay) => timers.push([action, delay]);"
        "window.clearTimeout = (id) => delete timers[id - 1];"
        "request.timeout = 5000",
    )
    pending = "Object.entries(timers).map(([i, [action, delay]]) => [i, delay])"
    assert page.evaluate(pending) == [["0", 5000]]
    exchange.send(b"--test\r\n" + ours("one"))
    page.wait_for("request.texts.length === 1")
    exchange.send(ours("two"))
    page.wait_for("request.texts.length === 2")
    assert page.evaluate(pending) == [["2", 5000]]
    page.evaluate("timers[2][0]()")
    exchange.wait_for_hangup()
    log = [1, "loadstart", "open", *PART, *PART, 4, "timeout", "loadend"]
    assert page.evaluate("request.log") == log
    assert page.evaluate("Object.keys(timers)") == []


def test_multipart_must_be_set_before_open(page: Browser) -> None:
    assert page.evaluate(
        """[true, false].map((multipart) => {
          const request = new MultipartXMLHttpRequest();
          request.multipart = multipart;
          request.open('GET', '/');
          return [thrownBy(() => { request.multipart = !multipart; }), request.multipart];
        })"""
    ) == [["InvalidStateError", True], ["InvalidStateError", False]]


def test_calls_out_of_order(page: Browser, scripted: ScriptedServer) -> None:
    assert page.evaluate(
        """(() => {
          const request = record();
          const send = () => request.send();
          const setHeader = () => request.setRequestHeader('A', 'b');
          return [
            request.readyState,
            thrownBy(send),
            thrownBy(setHeader),
            thrownBy(() => request.open('GET', 'http://[')),
            request.open('GET', '/server/index'),
            request.open('GET', '/server/index'),
            thrownBy(send),
            thrownBy(send),
            thrownBy(setHeader),
            request.log,
          ];
        })()"""
    ) == [
        0,
        "InvalidStateError",
        "InvalidStateError",
        "TypeError",
        None,
        None,
        None,
        "InvalidStateError",
        "InvalidStateError",
        [1, "loadstart"],
    ]
    scripted.accept()


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_without_multipart_it_is_the_browsers_own(
    page: Browser, scripted: ScriptedServer, asynchronous: str
) -> None:
    """The same calls on both classes, and the same log, bytes and exceptions."""
    seen = []
    body = b"--test\r\n" + ours("one")
    for name in ("XMLHttpRequest", "MultipartXMLHttpRequest"):
        # The request goes out from a timer: a synchronous one stops the page, and this waits.
        page.evaluate(
            f"""(() => {{
              record(false, {name});
              setTimeout(() => {{
                request.open('POST', '/server/index', {asynchronous});
                request.setRequestHeader('A', 'b');
                request.send('sent');
              }});
            }})()"""
        )
        exchange = scripted.accept()
        assert (exchange.headers["A"], exchange.body) == ("b", b"sent")
        exchange.answer("200 OK", MULTIPART | {"Date": "now"}, body)
        page.wait_for("request.log.includes('loadend')")
        seen.append(
            page.evaluate(
                "[request.log, request.responseText, request.response, request.responseXML,"
                " request.status, request.statusText, request.responseURL,"
                " request.getResponseHeader('Content-Type'), request.getAllResponseHeaders(),"
                " request.readyState, thrownBy(() => request.send()), request.abort(),"
                " request.readyState, String(request)]"
            )
        )
    assert seen[0] == seen[1]
    assert seen[0][1] == body.decode()


def test_the_browsers_own_class_is_left_alone(page: Browser) -> None:
    assert page.evaluate("XMLHttpRequest !== MultipartXMLHttpRequest")


def test_in_a_worker(page: Browser, scripted: ScriptedServer) -> None:
    page.evaluate("(() => { new Worker('/worker.js').onmessage = ({ data }) => (got = data); })()")
    exchange = scripted.accept()
    exchange.start(MULTIPART)
    exchange.send(b"--test\r\n" + ours("one"))
    text, document = page.wait_for("window.got")
    assert "<message>one</message>" in text
    assert document is None
