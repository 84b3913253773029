"""WebSockets: frames, the handshake, what a client may say, and clients nobody here wrote."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket as websocket_client
from hypothesis import example, given
from hypothesis import strategies as st
from websocket import WebSocketBadStatusException
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from pushdemo import Push
from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.encode import websocket
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    WebSocket,
    close_frame,
    frame,
)
from pushdemo.push.event import Event, FeedStatus, Value
from pushdemo.push.position import position_of
from pushdemo.push.websocket.listener import MOST, MOST_FRAMES, Heard, Listener
from pushdemo.servers.listening import listen
from pushdemo.servers.paste_http import Server
from pushdemo.wsgi.errors import RequestError
from pushdemo.wsgi.handshake import check_origin, upgrade_of
from pushdemo.wsgi.web import Request
from tests.nginx import Nginx
from tests.node_packages import NODE, installed
from tests.servers import HANG, until
from tests.wsgi_servers import GUNICORN, PYTHON, WsgiServer, uwsgi, write_application

MASK = b"\x01\x02\x03\x04"


def event(payload: Text | Data | Blob) -> Event:
    return Event(7, "a-7", "x", Value(payload, 12.5, 0, 0.25))


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A client's frame."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


def unframed(data: bytes) -> list[tuple[int, bytes]]:
    """A server's frames: the first byte, and the payload."""
    frames = []
    while data:
        size, begin = data[1], 2
        assert not size & 0x80, "a server's frame is not masked"
        if size > 125:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(data[2:begin], "big")
        frames.append((data[0], data[begin : begin + size]))
        assert len(data) >= begin + size
        data = data[begin + size :]
    return frames


def inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


# Frames


@given(st.binary(max_size=200) | st.sampled_from([125, 126, 65535, 65536]).map(bytes))
def test_a_frame_is_its_payload(payload: bytes) -> None:
    assert unframed(frame(BINARY, payload)) == [(0x80 | BINARY, payload)]


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("payload", [Text("grün\n"), Data('{"a":1}'), Text("x" * 70_000)])
def test_a_value_is_the_object_of_a_line(payload: Text | Data, deflate: bool) -> None:
    ((first, content),) = unframed(event(payload).frame(WebSocket(deflate)))
    assert first == (0x80 | TEXT | (0x40 if deflate else 0))
    content = inflated(content) if deflate else content
    assert content + b"\n" == event(payload).frame(NdJson())


def test_bytes_are_themselves() -> None:
    assert unframed(event(Blob(b"\0\1", "image/png")).frame(WebSocket())) == [(0x82, b"\0\1")]


def test_what_else_is_said() -> None:
    framing = WebSocket()
    assert unframed(framing.heartbeat) == [(0x80 | PONG, b"")]
    assert unframed(framing.reset) == [(0x81, b'{"event":"reset"}')]
    status = framing.encode_status(FeedStatus(1, "x", 5.0))
    assert json.loads(unframed(status)[0][1])["event"] == "error"
    said, close = unframed(framing.come_back(500))
    assert json.loads(said[1]) == {"event": "retry", "retry": 500}
    assert close == (0x80 | CLOSE, b"\x03\xf4")
    assert unframed(framing.last(b""))[0] == (0x80 | CLOSE, b"\x03\xe8")


def test_a_reason_is_cut_between_two_characters() -> None:
    ((_, payload),) = unframed(close_frame(1008, "ü" * 100))
    assert len(payload) <= 125
    assert payload[2:].decode() == "ü" * 61


# What a client may say: the cases of the Autobahn suite that apply, by its numbers

LAST_ID = b'{"last_id":"a-5"}'
RESUMED = Heard(resume_from=position_of("a-5"))


def closed(code: int) -> Any:
    return pytest.param(code)


CASES: dict[str, tuple[list[bytes], object]] = {
    "1.1.2 text, but no object": ([masked(TEXT, b"*" * 125)], 1008),
    "1.1 a position": ([masked(TEXT, LAST_ID)], RESUMED),
    "1.1.1 empty text": ([masked(TEXT)], 1008),
    "1.2.2 binary": ([masked(BINARY, b"\xfe" * 125)], 1003),
    "2.1 a ping without payload": ([masked(PING)], Heard(frame(PONG, b""))),
    "2.2 a ping": ([masked(PING, b"hello")], Heard(frame(PONG, b"hello"))),
    "2.3 a ping of bytes": ([masked(PING, b"\0\xff\xfe")], Heard(frame(PONG, b"\0\xff\xfe"))),
    "2.4 the longest ping": ([masked(PING, b"\xfe" * 125)], Heard(frame(PONG, b"\xfe" * 125))),
    "2.5 a ping that is too long": ([masked(PING, b"\xfe" * 126)], 1002),
    "2.6 a ping in single bytes": (
        [bytes((byte,)) for byte in masked(PING, b"abc")], Heard(frame(PONG, b"abc"))
    ),
    "2.7 a pong": ([masked(PONG)], Heard()),
    "2.8 a pong with payload": ([masked(PONG, b"x")], Heard()),
    "2.10 ten pings": (
        [b"".join(masked(PING, bytes((n,))) for n in range(10))],
        Heard(b"".join(frame(PONG, bytes((n,))) for n in range(10))),
    ),
    "3.1 RSV1 that was not agreed on": ([masked(TEXT, LAST_ID, rsv=4)], 1002),
    "3.2 RSV2": ([masked(TEXT, LAST_ID, rsv=2)], 1002),
    "3.5 RSV of a ping": ([masked(PING, rsv=5)], 1002),
    "4.1.1 opcode 3": ([masked(3)], 1002),
    "4.1.5 opcode 7": ([masked(7, b"x")], 1002),
    "4.2.1 opcode 11": ([masked(11)], 1002),
    "4.2.5 opcode 15": ([masked(15, b"x")], 1002),
    "5.1 a ping in two": ([masked(PING, b"a", fin=False), masked(0, b"b")], 1002),
    "5.3 text in two": ([masked(TEXT, LAST_ID[:5], fin=False), masked(0, LAST_ID[5:])], RESUMED),
    "5.5 text in two, in single bytes": (
        [bytes((byte,)) for byte in
         masked(TEXT, LAST_ID[:5], fin=False) + masked(0, LAST_ID[5:])],
        RESUMED,
    ),
    "5.6 a ping between": (
        [masked(TEXT, LAST_ID[:5], fin=False), masked(PING, b"x"), masked(0, LAST_ID[5:])],
        Heard(frame(PONG, b"x"), resume_from=position_of("a-5")),
    ),
    "5.9 a continuation of nothing": ([masked(0, LAST_ID)], 1002),
    "5.12 a continuation of nothing, not ended": ([masked(0, b"x", fin=False)], 1002),
    "5.18 text in text": ([masked(TEXT, b"a", fin=False), masked(TEXT, b"b")], 1002),
    "6.3 no UTF-8": ([masked(TEXT, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], 1007),
    "6.4 no UTF-8, before the end": (
        [masked(TEXT, b"\xce\xba\xf4\x90\x80\x80", fin=False)], 1007
    ),
    "6.20 half a character": ([masked(TEXT, b"\xce")], 1007),
    "7.1.1 a close": ([masked(CLOSE, b"\x03\xe8")], 1000),
    "7.3.1 a close without a code": ([masked(CLOSE)], 1000),
    "7.3.2 a close of one byte": ([masked(CLOSE, b"\x03")], 1002),
    "7.3.4 a close with a reason": ([masked(CLOSE, b"\x03\xe8bye")], 1000),
    "7.3.6 a close that is too long": ([masked(CLOSE, b"\x03\xe8" + b"*" * 124)], 1002),
    "7.5.1 a reason that is no UTF-8": ([masked(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")], 1007),
    "7.7.1 the codes there are": ([masked(CLOSE, b"\x03\xe9")], 1001),
    "7.7.9 a code of an application": ([masked(CLOSE, b"\x0f\xa0")], 4000),
    "7.9.1 a code that is none": ([masked(CLOSE, b"\0\0")], 1002),
    "7.9.3 1004": ([masked(CLOSE, b"\x03\xec")], 1002),
    "7.9.4 1005": ([masked(CLOSE, b"\x03\xed")], 1002),
    "7.9.5 1006": ([masked(CLOSE, b"\x03\xee")], 1002),
    "9.1 more than there is reason for": ([masked(TEXT, bytes(MOST + 1))], 1009),
    "9.3 the same in pieces": (
        [masked(TEXT, b" " * 3000, fin=False), masked(0, b" " * 3000)], 1009
    ),
    "9 a length that never comes": ([b"\x81\xff" + b"\x7f" + b"\xff" * 7], 1009),
    "not masked": ([frame(TEXT, LAST_ID)], 1002),
    "a flood": ([masked(PING) * (MOST_FRAMES + 1)], 1008),
    "another object": ([masked(TEXT, b'{"last":1}')], 1008),
    "a number for an id": ([masked(TEXT, b'{"last_id":1}')], 1008),
    "nested without end": ([masked(TEXT, b"[" * 4000)], 1008),
    "an id that is none of ours": (
        [masked(TEXT, b'{"last_id":"?"}')], Heard(resume_from=())
    ),
}  # fmt: skip


def said_to(listener: Listener, pieces: list[bytes]) -> Heard:
    """All that is to be done."""
    reply, resume_from = b"", None
    for piece in pieces:
        heard = listener.receive(piece)
        reply += heard.reply
        resume_from = heard.resume_from if heard.resume_from is not None else resume_from
        if heard.ends:
            return Heard(reply, True)
    return Heard(reply, False, resume_from)


@pytest.mark.parametrize("case", CASES)
def test_what_a_client_says(case: str) -> None:
    pieces, expected = CASES[case]
    heard = said_to(Listener(False), pieces)
    if isinstance(expected, Heard):
        assert heard == expected
        return
    assert heard.ends
    first, payload = unframed(heard.reply)[-1]
    assert first == 0x80 | CLOSE
    assert int.from_bytes(payload[:2], "big") == expected


def test_a_message_may_be_compressed_where_that_was_agreed_on() -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(LAST_ID) + compressor.flush(zlib.Z_SYNC_FLUSH)
    said = masked(TEXT, data[:-4], rsv=4)
    assert Listener(True).receive(said) == RESUMED
    assert Listener(False).receive(said).ends


def test_a_small_message_that_is_large_inside_is_refused() -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(b" " * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    heard = Listener(True).receive(masked(TEXT, data[:-4], rsv=4))
    assert heard.ends
    assert unframed(heard.reply)[-1][1][:2] == b"\x03\xf1"


@given(st.lists(st.binary(max_size=50), max_size=8), st.booleans())
@example([masked(TEXT, b"x", fin=False), masked(PING, b"y")], False)
def test_nothing_that_is_said_is_an_error_here(pieces: list[bytes], deflate: bool) -> None:
    heard = said_to(Listener(deflate), pieces)
    for first, payload in unframed(heard.reply):
        assert first in (0x80 | PONG, 0x80 | CLOSE)
        assert len(payload) <= 125
    if heard.ends:
        assert unframed(heard.reply)[-1][0] == 0x80 | CLOSE


@given(st.data())
def test_where_the_bytes_are_split_does_not_matter_nor_who_goes_on(data: st.DataObject) -> None:
    """Each piece is heard by a listener that has taken over from the one before."""
    parts = data.draw(
        st.lists(
            st.sampled_from(
                [masked(PING, b"p"), masked(PONG), masked(TEXT, LAST_ID),
                 masked(TEXT, LAST_ID[:7], fin=False) + masked(PING, b"q") + masked(0, LAST_ID[7:])]
            ), max_size=5)
    )  # fmt: skip
    said = b"".join(parts)
    whole = said_to(Listener(False), [said])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=6)))
    reply, resume_from = b"", None
    listener = Listener(False)
    for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        successor = Listener(False)
        successor.go_on(listener.unfinished)
        listener = successor
        heard = listener.receive(said[start:end])
        reply += heard.reply
        if heard.resume_from is not None:
            resume_from = heard.resume_from
    assert (reply, resume_from) == (whole.reply, whole.resume_from)
    assert len(listener.unfinished) <= 2 * MOST


def test_a_message_in_many_frames_goes_on_with_a_successor() -> None:
    """They came in several reads: they are no flood when they are gone through again."""
    listener, successor = Listener(False), Listener(False)
    assert listener.receive(masked(TEXT, LAST_ID, fin=False)) == Heard()
    for _ in range(2 * MOST_FRAMES):
        assert listener.receive(masked(0, fin=False)) == Heard()
    last = masked(0)
    assert listener.receive(last[:3]) == Heard()
    successor.go_on(listener.unfinished)
    assert successor.receive(last[3:]) == RESUMED


# The handshake

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(method: str = "GET", protocol: str = "HTTP/1.1", **changes: str | None) -> Request:
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    environ = {"REQUEST_METHOD": method, "SERVER_PROTOCOL": protocol}
    for name, value in headers.items():
        if value is not None:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    return Request(environ)


def test_the_example_of_the_rfc() -> None:
    upgrade = upgrade_of(request())
    assert upgrade is not None
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in upgrade.headers()
    assert not upgrade.deflate


def test_an_ordinary_request_is_none() -> None:
    assert upgrade_of(request(Upgrade=None)) is None
    assert upgrade_of(request(Upgrade="h2c")) is None


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        (request("POST"), 400),
        (request(protocol="HTTP/1.0"), 400),
        (request(Connection="keep-alive"), 400),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Version=None), 426),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request(Sec_WebSocket_Key="ä" * 24), 400),
    ],
)
def test_a_handshake_that_is_not_in_order(changed: Request, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        upgrade_of(changed)
    assert caught.value.status == status
    assert (status == 426) == (("Sec-WebSocket-Version", "13") in caught.value.headers)


@pytest.mark.parametrize(
    ("offers", "deflate"),
    [
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("x-other, permessage-deflate; server_no_context_takeover", True),
        ("permessage-deflate; server_max_window_bits=10", False),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", True),
        ("permessage-deflate; unknown", False),
        ("", False),
    ],
)
def test_compression_is_agreed_on_where_nothing_is_asked_that_we_do_not_do(
    offers: str, deflate: bool
) -> None:
    upgrade = upgrade_of(request(Sec_WebSocket_Extensions=offers))
    assert upgrade is not None
    assert upgrade.deflate == deflate
    assert deflate == any("server_no_context_takeover" in value for _, value in upgrade.headers())


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "may"),
    [
        (None, None, [], True),
        ("http://a.example", "a.example", [], True),
        ("https://a.example", "a.example:443", [], True),
        ("http://a.example:8080", "a.example:8080", [], True),
        ("http://a.example", "b.example", [], False),
        ("http://a.example", "a.example:81", [], False),
        ("http://a.example.evil.example", "a.example", [], False),
        ("null", "a.example", [], False),
        ("http://[", "a.example", [], False),
        ("http://b.example", None, [], False),
        ("http://b.example", "a.example", ["http://b.example"], True),
        ("http://b.example", "a.example", ["*"], True),
    ],
)
def test_pages_of_other_origins_are_kept_out(
    origin: str | None, host: str | None, allowed: list[str], may: bool
) -> None:
    with contextlib.nullcontext() if may else pytest.raises(RequestError, match=r"push\.cors"):
        check_origin(origin, host, allowed)


# A server, and clients of others


class Serving:
    """`egg:pushdemo#http` with a Push, in this process."""

    def __init__(self, **options: object) -> None:
        self.push = Push(**options)
        self.push.pushed_feed("x", history=10)
        self.push.pushed_feed("y")
        self.server = Server(listen(("127.0.0.1", 0), 128), workers=2)
        self.server.serve_application(self.push.middleware(self._application), collapse=True)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()
        self.url = f"ws://{self.server.authority}"

    def _application(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = self.push.respond(environ, environ["PATH_INFO"].strip("/") or None)
        start_response(answer.status, answer.headers)
        return answer.body

    def connect(self, path: str = "/x", **options: Any) -> ClientConnection:
        client: ClientConnection = connect(
            self.url + path, open_timeout=HANG, close_timeout=HANG, **options
        )
        return client

    def close(self) -> None:
        self.push.close()
        self.server.stop()
        self._thread.join(HANG)


@pytest.fixture
def serving() -> Iterator[Serving]:
    serving = Serving(heartbeat=3600)
    yield serving
    serving.close()


def value(message: str | bytes) -> Any:
    return json.loads(message)["value"]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_client_websockets(serving: Serving, compression: str | None) -> None:
    with serving.connect(compression=compression) as client:
        assert ("permessage-deflate" in str(client.response.headers)) == bool(compression)  # type: ignore[union-attr]
        for number in range(3):
            serving.push.publish("x", {"number": number})
            assert value(client.recv(HANG)) == {"number": number}
        serving.push.publish("x", (b"\x89PNG", "image/png"))
        assert client.recv(HANG) == b"\x89PNG"
        assert client.ping().wait(HANG)
        serving.push.publish("x", "x" * 100_000)
        assert value(client.recv(HANG)) == "x" * 100_000
    until(lambda: serving.push.engine.open_now == 0, "its end")
    assert client.close_code == 1000


def test_the_client_websocket_client(serving: Serving) -> None:
    client = websocket_client.create_connection(serving.url + "/x", timeout=HANG)
    serving.push.publish("x", "first")
    assert value(client.recv()) == "first"
    client.ping(b"there?")
    opcode, data = client.recv_data(control_frame=True)
    assert (opcode, bytes(data)) == (PONG, b"there?")
    client.close()
    until(lambda: serving.push.engine.open_now == 0, "its end")


def test_the_client_ws_of_node(serving: Serving) -> None:
    if not installed():
        if os.environ.get("CI"):
            pytest.fail("node or its clients are not there")
        pytest.skip("node or its clients are not there")
    program = str(NODE / "clients.js")
    # It offers permessage-deflate by itself.
    with subprocess.Popen(
        ["node", program, "ws", serving.url + "/x?limit=3"], stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        until(lambda: serving.push.engine.open_now == 1, "the client")
        for number in range(3):
            serving.push.publish("x", {"number": number})
            kind, event_id, value = json.loads(node.stdout.readline())
            assert (kind, value) == ("message", {"number": number})
            assert event_id
        assert json.loads(node.stdout.readline()) == ["close", None, 1000]


def test_where_it_left_off_in_the_address_and_in_a_message(serving: Serving) -> None:
    ids = [serving.push.publish("x", number) for number in range(4)]
    with serving.connect(f"/x?last_event_id={ids[1]}") as client:
        assert [value(client.recv(HANG)) for _ in range(2)] == [2, 3]
        client.send(json.dumps({"last_id": ids[0]}))
        assert [value(client.recv(HANG)) for _ in range(3)] == [1, 2, 3]
        client.send(json.dumps({"last_id": "none-1"}))
        assert json.loads(client.recv(HANG)) == {"event": "reset"}
        assert value(client.recv(HANG)) == 3
        serving.push.publish("x", 4)
        assert value(client.recv(HANG)) == 4


def test_several_feeds_and_a_limit(serving: Serving) -> None:
    with serving.connect("/x+y?limit=2") as client:
        serving.push.publish("x", 1)
        serving.push.publish("y", 2)
        said = [json.loads(client.recv(HANG)) for _ in range(2)]
        assert [(one["feed"], one["value"]) for one in said] == [("x", 1), ("y", 2)]
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(HANG)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


def test_what_is_not_understood_closes_the_connection_of_that_client_alone(
    serving: Serving,
) -> None:
    with serving.connect() as good, serving.connect() as bad:
        bad.send("nonsense")
        with pytest.raises(ConnectionClosed) as closed:
            bad.recv(HANG)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert "last_id" in closed.value.rcvd.reason
        serving.push.publish("x", 1)
        assert value(good.recv(HANG)) == 1


def raw(serving: Serving, target: str) -> socket.socket:
    """A connection on which a WebSocket was asked for."""
    sock = socket.create_connection(serving.server.address, timeout=HANG)
    sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return sock


def test_a_connection_is_closed_when_the_client_has_closed_it_too(serving: Serving) -> None:
    """Firefox takes nothing of what comes in one packet with 101 and the end."""
    serving.push.publish("x", 1)
    with raw(serving, "/x?limit=1") as sock:
        got = b""
        while not got.endswith(close_frame(1000)):
            got += sock.recv(4096)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(HANG)
        sock.sendall(masked(CLOSE, b"\x03\xe8"))
        assert sock.recv(1) == b""
    until(lambda: serving.push.engine.open_now == 0, "its end")


def test_what_was_under_way_when_we_closed_does_not_break_the_closing_off(
    serving: Serving,
) -> None:
    serving.push.publish("x", 1)
    with raw(serving, "/x?limit=1") as sock:
        got = b""
        while not got.endswith(close_frame(1000)):
            got += sock.recv(4096)
        sock.sendall(masked(PING, b"under way"))
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):  # no end, and no frame after the close frame
            sock.recv(1)
        sock.settimeout(HANG)
        sock.sendall(masked(CLOSE, b"\x03\xe8"))
        assert sock.recv(1) == b""


def test_what_follows_an_error_ends_the_connection() -> None:
    listener = Listener(False)
    assert listener.receive(masked(3)).ends
    assert listener.receive(masked(PING)) == Heard(ends=True, closed=True)


def test_who_does_not_close_is_not_waited_for_ever(serving: Serving) -> None:
    serving.push.publish("x", 1)
    with raw(serving, "/x?limit=1"):
        until(lambda: serving.push.engine.open_now == 0, "its end")


def test_a_slow_client_gets_its_pong_between_two_frames(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pushdemo.push.deliver import sockets

    monkeypatch.setattr(sockets, "SEND_BUFFER", 4096)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(HANG)
    raw.connect(serving.server.address)
    with raw, raw.makefile("rb") as file:
        raw.sendall(
            f"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert file.readline().startswith(b"HTTP/1.1 101 ")
        while file.readline() != b"\r\n":
            pass
        serving.push.publish("x", "y" * 200_000)
        broadcaster = serving.push.engine._broadcaster
        until(lambda: broadcaster._connections.blocked, "a client that is blocked")
        raw.sendall(masked(PING, b"in between"))
        time.sleep(0.2)
        head = file.read(10)
        size = int.from_bytes(head[2:10], "big")
        assert json.loads(file.read(size))["value"] == "y" * 200_000
        assert file.read(12) == frame(PONG, b"in between")


def test_a_heartbeat_is_a_pong() -> None:
    serving = Serving(heartbeat=0.1)
    try:
        client = websocket_client.create_connection(serving.url + "/x", timeout=HANG)
        opcode, data = client.recv_data(control_frame=True)
        assert (opcode, bytes(data)) == (PONG, b"")
        client.close()
    finally:
        serving.close()


def test_stopping_says_when_to_come_back() -> None:
    serving = Serving(drain=0.2)
    with serving.connect() as client:
        serving.close()
        assert json.loads(client.recv(HANG))["event"] == "retry"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(HANG)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_page_of_another_origin_is_refused(serving: Serving, origin: str) -> None:
    with pytest.raises(WebSocketBadStatusException) as refused:
        websocket_client.create_connection(serving.url + "/x", timeout=HANG, origin=origin)
    assert refused.value.status_code == 403


def test_a_feed_that_is_not_there(serving: Serving) -> None:
    with pytest.raises(WebSocketBadStatusException) as refused:
        websocket_client.create_connection(serving.url + "/nothing", timeout=HANG)
    assert refused.value.status_code == 404


def test_a_server_that_cannot_give_the_connection_away_says_so() -> None:
    push = Push()
    push.pushed_feed("x")
    answer = push.respond(request().environ)
    assert answer.status.startswith("501")


def test_without_wsproto_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from pushdemo.wsgi import handshake

    monkeypatch.setattr(handshake, "INSTALLED", False)
    with pytest.raises(RequestError, match=r"install pushdemo\[websocket\]") as caught:
        upgrade_of(request())
    assert caught.value.status == 501


def test_an_ordinary_stream_that_comes_next_is_no_websocket(serving: Serving) -> None:
    """Equal requests share an answer: those for a WebSocket are never equal."""
    serving.push.publish("x", 1)
    with serving.connect(compression=None) as one, serving.connect(compression=None) as other:
        assert value(one.recv(HANG)) == value(other.recv(HANG)) == 1
        accepts = {str(c.response.headers["Sec-WebSocket-Accept"]) for c in (one, other)}  # type: ignore[union-attr]
        assert len(accepts) == 2


def test_the_accept_is_of_the_key() -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = upgrade_of(request(Sec_WebSocket_Key=key))
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    assert upgrade is not None
    assert upgrade.accept == base64.b64encode(digest).decode()
    assert websocket.NORMAL == 1000


# Servers of others

APPLICATION = """
from flask import Flask, request
from pushdemo import Push

push = Push()
push.pushed_feed("x")
app = Flask(__name__)
app.wsgi_app = push.middleware(app.wsgi_app)

@app.get("/live")
@app.route("/live", websocket=True)
def live():
    return push.flask(request, "x")

@app.post("/publish")
def publish():
    return push.publish("x", request.get_data(as_text=True))
"""
COMMANDS = {
    "gunicorn sync": (*GUNICORN, "application:app"),
    "gunicorn gthread": (*GUNICORN, "-k", "gthread", "--threads", "2", "application:app"),
    "gunicorn gevent": (*GUNICORN, "-k", "gevent", "application:app"),
    "pushdemo run": (
        *PYTHON, "pushdemo", "run", "application:push", "--", *GUNICORN, "-w", "2",
        "application:app",
    ),
    "uWSGI": uwsgi("--http-socket", "127.0.0.1:0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_server_that_is_there_already(tmp_path: Path, kind: str) -> None:
    write_application(tmp_path, APPLICATION)
    with WsgiServer(tmp_path, *COMMANDS[kind]) as server:
        host, port = server.address
        with connect(f"ws://{host}:{port}/live", open_timeout=HANG, close_timeout=HANG) as client:
            for number in range(3):
                assert server.ask("/publish", "POST", f"value {number}")[0] == 200
                assert value(client.recv(HANG)) == f"value {number}"
            assert client.ping().wait(HANG)
        assert client.close_code == 1000


def test_behind_nginx(serving: Serving, tmp_path: Path) -> None:
    with Nginx(tmp_path, {"/x": f"ws://{serving.server.authority}"}) as nginx:
        url = nginx.url.replace("http", "ws")
        with connect(f"{url}/x", origin=Origin(nginx.url), open_timeout=HANG) as client:
            serving.push.publish("x", "through")
            assert value(client.recv(HANG)) == "through"
        with pytest.raises(WebSocketBadStatusException):
            websocket_client.create_connection(f"{url}/x", origin="http://evil.example")
    until(lambda: serving.push.engine.open_now == 0, "its end")


def test_a_server_whose_connections_stay_says_so(tmp_path: Path) -> None:
    write_application(tmp_path, APPLICATION)
    command = (*PYTHON, "waitress", "--listen=127.0.0.1:0", "application:app")
    with WsgiServer(tmp_path, *command) as server:
        host, port = server.address
        with pytest.raises(WebSocketBadStatusException) as refused:
            websocket_client.create_connection(f"ws://{host}:{port}/live", timeout=HANG)
        assert refused.value.status_code == 501
