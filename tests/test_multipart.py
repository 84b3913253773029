"""The multipart format, value to bytes; read back by parsers that are not ours."""

from __future__ import annotations

import email
import email.policy
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import Text, payload_of
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.xml import xml_message as message
from pushdemo.push.event import Event, Value


def xml_message(text: str) -> bytes:
    return message(Text(text))


# What XML 1.0 can hold; \r is a test of its own below, through a parser that keeps it.
xml_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)
boundaries = st.text("abcXYZ019'()+_,-./:=?", min_size=1, max_size=70)


def event(result: object) -> Event:
    return Event(
        7, "e-7", "x", Value(payload_of(result), computed=1_700_000_000.9, fresh_until=0, took=2.5)
    )


def test_a_frame_is_these_bytes() -> None:
    assert Multipart("test").encode(event("a < b")) == (
        b"\r\n"
        b"Content-Type: application/xml\r\n"
        b"Content-Length: 67\r\n"
        b"Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
        b"Server-Timing: compute;dur=2500.000\r\n"
        b"Event-ID: e-7\r\n"
        b"Retry: 2000\r\n"
        b"\r\n"
        b'<?xml version="1.0" encoding="UTF-8"?>\n<message>a &lt; b</message>\n'
        b"\r\n--test\r\nIdle:"
    )


def test_the_opening_and_the_last_frame_make_a_complete_multipart_document() -> None:
    framing = Multipart("test")
    assert framing.opening == b"--test\r\nIdle:"
    assert framing.last(framing.encode(event("x"))).endswith(b"\r\n--test--\r\n")


def test_the_content_type_is_spelt_as_the_seed_spelt_it() -> None:
    assert Multipart("test").content_type == "multipart/x-mixed-replace;boundary=test"


def test_a_boundary_that_is_no_token_is_quoted() -> None:
    assert Multipart("a/b").content_type == 'multipart/x-mixed-replace;boundary="a/b"'


@pytest.mark.parametrize("boundary", ["", "a b", "x" * 71, "é", "a\r\n", 'a"', "a\n"])
def test_what_cannot_be_a_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="cannot be a boundary"):
        Multipart(boundary)


@given(xml_text)
@example("\t\n]]>&amp;<message/>")
@example("\U0001f600 \u20ac \x85")
def test_any_text_comes_back_from_an_xml_parser(text: str) -> None:
    assert (ElementTree.fromstring(xml_message(text)).text or "") == text


def test_line_endings_survive() -> None:
    assert ElementTree.fromstring(xml_message("a\rb\r\nc\nd")).text == "a\rb\r\nc\nd"


@given(st.text())
def test_any_string_at_all_makes_a_document_that_parses(text: str) -> None:
    """Characters that XML has no place for are replaced, one by one, and no other is touched."""
    returned = ElementTree.fromstring(xml_message(text)).text or ""
    assert len(returned) == len(text)
    assert all(a == b or b == "\ufffd" for a, b in zip(text, returned, strict=True))


@pytest.mark.parametrize("bad", ["\0", "\x08", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_has_no_place_for_are_replaced(bad: str) -> None:
    assert ElementTree.fromstring(xml_message(f"a{bad}b")).text == "a\ufffdb"


@given(st.lists(xml_text, min_size=1, max_size=5), boundaries, st.integers(0, 3))
@example(["--test", "\n--test\r\n", "\r\n--test--\r\n", "x\n--tes"], "test", 2)
def test_a_stream_read_by_the_email_package_has_every_text(
    texts: list[str], boundary: str, beats: int
) -> None:
    """It finds parts by the boundary alone, so a text that holds one must not end its part; and
    heartbeats are no parts."""
    framing = Multipart(boundary)
    frames = [framing.heartbeat * beats + framing.encode(event(text)) for text in texts]
    stream = framing.opening + b"".join(frames[:-1]) + framing.last(frames[-1])
    head = f"Content-Type: {framing.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stream, policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    assert not message.defects
    assert [part.get_content_type() for part in parts] == ["application/xml"] * len(texts)
    bodies = [part.get_content() for part in parts]
    assert [len(body) for body in bodies] == [int(part["Content-Length"]) for part in parts]
    assert [ElementTree.fromstring(body).text or "" for body in bodies] == texts


def test_an_event_is_encoded_once_for_equal_framings() -> None:
    one = event("x")
    assert one.frame(Multipart("test")) is one.frame(Multipart("test"))
    assert one.frame(Multipart("other")) != one.frame(Multipart("test"))
