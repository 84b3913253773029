"""What a client may say on a WebSocket: ping, pong, close, and where it left off.

Where it left off is a text message, `{"last_id": ID}`: the client is then sent what came after the
event with that id. Anything else closes the connection, with the code that says why (RFC 6455,
section 7.4.1). Frames are read by wsproto; what is in here bounds them, and decides.

No input and no output: bytes in, and what to do.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from pushdemo.push.encode.websocket import (
    NORMAL,
    POLICY,
    PONG,
    TOO_BIG,
    UNSUPPORTED,
    close_frame,
    frame,
)
from pushdemo.push.position import Position, position_of

try:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
    from wsproto.extensions import Extension, PerMessageDeflate
    from wsproto.utilities import RemoteProtocolError
except ImportError:  # pushdemo[websocket] is not installed: no such connection begins
    INSTALLED = False
else:
    INSTALLED = True

MOST = 4096  # bytes of a message, and of what may wait to be a frame
MOST_FRAMES = 32  # that come at once
PROTOCOL_ERROR = 1002


class Heard(NamedTuple):
    """What to do.

    reply: bytes for the client.
    ends: the connection is to be closed after them, when the client has closed it, too.
    closed: the client has.
    resume_from: where the client says that it left off.
    """

    reply: bytes = b""
    ends: bool = False
    resume_from: Position | None = None
    closed: bool = False


class _Wrong(Exception):
    """The connection is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Listener:
    """Listens to one client. What follows the end of the connection is not looked at.

    deflate: permessage-deflate was agreed on.
    """

    __slots__ = ("_connection", "_message", "_over", "_rest", "_text")

    def __init__(self, deflate: bool) -> None:
        extensions: list[Extension] = []
        if deflate:
            extension = PerMessageDeflate(
                client_no_context_takeover=True, server_no_context_takeover=True
            )
            extension.accept("permessage-deflate")
            extensions.append(extension)
        self._connection = Connection(ConnectionType.SERVER, extensions)
        self._rest = b""  # of a frame that is not there whole
        self._message = b""  # the frames of a message that has not ended
        self._text = ""  # what is in them
        self._over = False

    @property
    def unfinished(self) -> bytes:
        """What came and is not dealt with: a listener that is given it goes on from there."""
        return self._message + self._rest

    def go_on(self, unfinished: bytes) -> None:
        """Go on from where another listener was, of which that is `unfinished`. However many frames
        are in it, they did not come at once."""
        try:
            for one in self._frames(unfinished):
                self._hear(one)
        except _Wrong:  # the other one took it for right: it is of another version
            self._over = True

    def receive(self, data: bytes) -> Heard:
        """What to do about what has come. Raises nothing, whatever that is."""
        if self._over:
            return Heard(ends=True, closed=True)
        heard = self._receive(data)
        self._over = heard.ends
        return heard

    def _receive(self, data: bytes) -> Heard:
        reply, resume_from = b"", None
        try:
            frames = self._frames(data)
            if len(frames) > MOST_FRAMES:
                raise _Wrong(POLICY, f"more than {MOST_FRAMES} frames at once")
            for one in frames:
                heard = self._hear(one)
                reply += heard.reply
                if heard.resume_from is not None:
                    resume_from = heard.resume_from
                if heard.ends:
                    return heard._replace(reply=reply)
        except _Wrong as wrong:
            return Heard(reply + close_frame(wrong.code, str(wrong)), True)
        return Heard(reply, False, resume_from)

    def _frames(self, data: bytes) -> list[bytes]:
        frames, rest = [], self._rest + data
        while (end := _end_of_frame(rest)) is not None and len(rest) >= end:
            frames.append(rest[:end])
            rest = rest[end:]
        self._rest = rest
        return frames

    def _hear(self, one: bytes) -> Heard:
        if not one[0] & 0x8:  # no control frame
            self._message += one
            if len(self._message) > MOST:
                raise _Wrong(TOO_BIG, f"more than {MOST} bytes")
        try:
            self._connection.receive_data(one)
            heard = [self._answer(event) for event in self._connection.events()]
        except RemoteProtocolError as error:
            raise _Wrong(_code_of(error), str(error)) from None
        if not one[0] & 0x8 and one[0] & 0x80:
            self._message, self._text = b"", ""
        return heard[0] if heard else Heard()

    def _answer(self, event: object) -> Heard:
        match event:
            case Ping(payload):
                return Heard(frame(PONG, bytes(payload)))
            case CloseConnection(code):
                return Heard(close_frame(code if _may_be_said(code) else NORMAL), True, closed=True)
            case TextMessage(data, _, finished):
                self._text += data
                if len(self._text) > MOST:  # it was compressed
                    raise _Wrong(TOO_BIG, f"more than {MOST} characters")
                return Heard(resume_from=_position(self._text)) if finished else Heard()
            case BytesMessage():
                raise _Wrong(UNSUPPORTED, "send text")
        return Heard()  # a pong


def _end_of_frame(data: bytes) -> int | None:
    """How long the frame is that begins here; None where that is not known yet."""
    if len(data) < 2:
        return None
    size, begin = data[1] & 0x7F, 2
    if size > 125:
        begin += 2 if size == 126 else 8
        if len(data) < begin:
            return None
        size = int.from_bytes(data[2:begin], "big")
    if size > MOST:
        raise _Wrong(TOO_BIG, f"more than {MOST} bytes")
    return begin + (4 if data[1] & 0x80 else 0) + size


def _position(text: str) -> Position:
    try:
        said = json.loads(text)
        last_id = said["last_id"]
        if isinstance(last_id, str):
            return position_of(last_id)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise _Wrong(POLICY, 'all that is understood is {"last_id": "..."}')


def _code_of(error: RemoteProtocolError) -> int:
    hint = error.event_hint
    code = getattr(hint, "code", None)
    return code if isinstance(code, int) and _may_be_said(code) else PROTOCOL_ERROR


def _may_be_said(code: int | None) -> bool:
    """Whether a close frame may have it: some codes mean that there was none."""
    return code is not None and 1000 <= code < 5000 and code not in (1004, 1005, 1006, 1015)
