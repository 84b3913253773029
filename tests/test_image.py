"""What an <img> is sent, value to bytes. Browsers take it in test_browser_formats.py."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path

import pytest

from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.variants import images
from pushdemo.push.event import CannotCarry, Event, Value
from tests.asking import Answer, ask
from tests.test_application import load

PICTURE = b"\x89PNG"
INI = """\
[app:main]
use = egg:pushdemo
push.boundary = test
feed.plot = tests.test_image:picture
feed.words = tests.test_image:words
"""

CHROMIUM = "image/jxl,image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
# Theirs for a page.
PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/png,*/*;q=0.8"

FRAMING = Images(Multipart("test"))


def picture() -> tuple[bytes, str]:
    return PICTURE, "image/png"


def words() -> str:
    return "words"


def event(result: object) -> Event:
    return Event(7, "e-7", "x", Value(payload_of(result), computed=1_700_000_000.9, fresh_until=0))


def test_a_frame_is_the_image_and_the_headers_of_the_next() -> None:
    assert FRAMING.opening == b"--test\r\n\r\n"
    assert FRAMING.encode(event((b"\x89PNG", "image/png"))) == b"\x89PNG\r\n--test\r\n\r\n"
    assert FRAMING.last(b"\x89PNG\r\n--test\r\n\r\n") == b"\x89PNG\r\n--test--\r\n"


def test_an_image_that_ends_in_line_ends_keeps_them() -> None:
    frame = FRAMING.encode(event((b"GIF\r\n\r\n", "image/gif")))
    assert frame == b"GIF\r\n\r\n\r\n--test\r\n\r\n"
    assert FRAMING.last(frame) == b"GIF\r\n\r\n\r\n--test--\r\n"


def test_nothing_stands_between_two_images() -> None:
    assert FRAMING.heartbeat == FRAMING.reset == b""


def test_the_type_is_multiparts() -> None:
    assert FRAMING.content_type == "multipart/x-mixed-replace;boundary=test"
    assert FRAMING.content_encoding is None


@pytest.mark.parametrize(
    "result",
    ["text", 5, (b"%PDF", "application/pdf"), (b"imaginary--test", "image/png")],
    ids=["text", "data", "another type", "a delimiter inside"],
)
def test_nothing_but_images_is_carried(result: object) -> None:
    with pytest.raises(CannotCarry):
        FRAMING.encode(event(result))


def test_a_stream_read_by_the_email_package_has_every_image() -> None:
    pictures = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a--\r\n-"]
    frames = [FRAMING.encode(event((picture, "image/x"))) for picture in pictures]
    stream = FRAMING.opening + b"".join(frames[:-1]) + FRAMING.last(frames[-1])
    head = f"Content-Type: {FRAMING.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stream, policy=email.policy.HTTP)
    assert not message.defects
    assert [part.get_payload(decode=True) for part in message.iter_parts()] == pictures


def test_other_formats_are_no_business_of_an_img() -> None:
    assert images(Multipart("test")) == FRAMING
    assert images(EventStream()) == EventStream()


@pytest.mark.parametrize(
    ("accept", "query", "for_img"),
    [
        (CHROMIUM, "", True),
        (FIREFOX, "", True),
        (CHROMIUM, "&format=multipart", False),
        ("*/*", "", False),
        ("image/png;q=0.5, multipart/*", "", False),
    ],
)
def test_who_wants_an_image_most_gets_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accept: str, query: str, for_img: bool
) -> None:
    (tmp_path / "test.ini").write_text(INI)
    real = load(str(tmp_path / "test.ini"), monkeypatch)
    path = f"/server/index/plot?limit=1{query}"
    Answer(real.app, path, Accept="*/*").read()  # so that it is known what the feed gives
    body = Answer(real.app, path, Accept=accept).read()
    whole = b"--test\r\n\r\n" + PICTURE + b"\r\n--test--\r\n"
    assert (body == whole) == for_img
    assert (b"Content-Type: image/png\r\n" in body) == (not for_img)
    assert ask(real.app, "/server/index/words", Accept=CHROMIUM)[0] == 406
    real.app_globals.push.close()
