"""Values from outside: what a request's body becomes, and what is refused in a line."""

from __future__ import annotations

import codecs
import contextlib
import encodings
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.charsets import codec_of
from pushdemo.push.compute.payload import Blob, Data, Text, UnknownType, received


def complaint(content_type: str, body: bytes) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        received(content_type, body)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 120
    return message


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "ünï".encode(), "ünï"),
        ("TEXT/Plain ;charset=UTF-8", "ünï".encode(), "ünï"),
        ("text/plain; charset=latin-1", b"\xfc", "ü"),
        ('text/plain; format=flowed; charset="ISO-8859-15"', b"\xa4", "€"),
        ("text/plain; charset = windows-1252", b"\x80", "€"),
        ("text/plain; charset=utf-16", "ü".encode("utf-16"), "ü"),
        ("text/plain; charset=shift_jis", "日".encode("shift_jis"), "日"),
        ("text/plain; mycharset=idna", b"x", "x"),
        ("text/plain; x", b"x", "x"),
    ],
)
def test_text_is_read_in_its_charset(content_type: str, body: bytes, text: str) -> None:
    assert received(content_type, body) == Text(text)


KNOWN_TO_PYTHON = sorted({*encodings.aliases.aliases.values(), *encodings.aliases.aliases})


@pytest.mark.parametrize(
    "name",
    [
        *("idna", "punycode", "zip", "zlib", "bz2", "base64", "hex", "rot13", "uu", "quopri"),
        *("utf-7", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"),
        *("utf_8_sig", "aliases", "klingon", "../os", "os", "x" * 900, "utf-8x", ""),
    ],
)
def test_what_is_no_charset_is_refused(name: str) -> None:
    with pytest.raises(UnknownType):
        received(f"text/plain; charset={name}", b"x")


@given(st.sampled_from(KNOWN_TO_PYTHON) | st.text(max_size=30), st.binary(max_size=50))
def test_any_charset_gives_text_or_a_line(name: str, body: bytes) -> None:
    try:
        payload = received(f"text/plain; charset={name}", body)
    except ValueError as error:
        message = str(error)
    else:
        assert isinstance(payload, Text)
        message = "fine"
        payload.text.encode()
    assert message.isprintable()


def test_every_charset_is_one_that_python_can_read() -> None:
    from pushdemo.push.compute import charsets

    for name in charsets._CHARSETS:
        assert codecs.lookup(codec_of(f"charset={name}"))
        with pytest.raises(LookupError):
            codec_of(f"charset={name}x")


def test_a_name_that_is_not_known_is_not_remembered() -> None:
    before = len(encodings._cache)
    for number in range(50):
        with pytest.raises(UnknownType):
            received(f"text/plain; charset=none-{number}", b"x")
    assert len(encodings._cache) == before


@pytest.mark.parametrize("body", [b"[1, 1.50, null]", b"\xef\xbb\xbf{}", "[]".encode("utf-16")])
def test_json_is_data(body: bytes) -> None:
    payload = received("application/json; charset=utf-8", body)
    assert isinstance(payload, Data)
    assert payload.value == json.loads(body)


def test_lone_surrogates_are_replaced() -> None:
    assert received("application/json", rb'["\ud800", "\ud83d\ude00"]') == Data('["\ufffd","😀"]')
    assert received("application/json", b'{"a":1,"a":2}') == Data('{"a":2}')


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is not JSON (RFC 8259)."),
        (b"{", "The body is not JSON (RFC 8259)."),
        (b"\xff", "The body is not JSON (RFC 8259)."),
        (b"NaN", "The body is not JSON (RFC 8259)."),
        (b'{"a": [Infinity]}', "The body is not JSON (RFC 8259)."),
        (b"-Infinity", "The body is not JSON (RFC 8259)."),
        (b"1e999", "A number in the body is larger than a double can be."),
        (b"[" + b"7" * 100_000 + b"]", "An integer in the body has more than 4300 digits."),
        (b"-" + b"7" * 4301, "An integer in the body has more than 4300 digits."),
        (b"[" * 101 + b"]" * 101, "The body is nested deeper than 100 arrays and objects."),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "The body is nested deeper than 100"),
        (b"[" * 1_000_000, "The body is "),
        (b'{"a":' * 200_000, "The body is "),
    ],
)
def test_what_is_not_json_is_refused(body: bytes, says: str) -> None:
    assert complaint("application/json", body).startswith(says)


def test_json_may_be_nested_a_hundred_deep() -> None:
    body = b"[" * 100 + b"]" * 100
    assert received("application/json", body) == Data(body.decode())


@given(st.binary(max_size=100) | st.text(alphabet='[]{}",:0123456789eE.-tfn', max_size=60))
def test_any_body_is_data_or_a_line(body: bytes | str) -> None:
    encoded = body if isinstance(body, bytes) else body.encode()
    try:
        payload = received("application/json", encoded)
    except ValueError as error:
        assert str(error).startswith(("The body", "A number", "An integer"))  # noqa: PT017
        return
    assert isinstance(payload, Data)
    payload.value  # noqa: B018


@pytest.mark.parametrize(
    "content_type", ["", "x", "a/b/c", "x" * 128 + "/y", "a/" + "y" * 128, "a/b; " + "x" * 1001]
)
def test_what_is_no_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnknownType, match=r"^Send a Content-Type, such as"):
        received(content_type, b"x")


def test_bytes_of_any_other_type_stay_bytes() -> None:
    assert received("image/png; q=1", b"x") == Blob(b"x", "image/png; q=1")


LONG: list[Callable[[int], tuple[str, bytes]]] = [
    lambda size: ("a/b" + " " * size + "x", b""),
    lambda size: ("a" * size, b""),
    lambda size: ("text/plain;" + "charset" * size, b""),
    lambda size: ("text/plain;" + ";" * size + "charset", b""),
    lambda size: ("text/plain;" + "; " * size + "charset " + " " * size, b""),
    lambda size: ("application/json", b"[" * size),
    lambda size: ("application/json", b"1" * size),
    lambda size: ("application/json", b"0." + b"1" * size),
    lambda size: ("application/json", b'"' + b"\\ud800" * size + b'"'),
    lambda size: ("application/json", b" " * size + b"x"),
    lambda size: ("text/plain; charset=utf-16", b"\x00\xd8" * size),
]


@pytest.mark.parametrize("make", LONG)
def test_time_grows_with_the_size_and_not_its_square(
    make: Callable[[int], tuple[str, bytes]],
) -> None:
    def seconds(size: int) -> float:
        content_type, body = make(size)
        began = time.process_time()
        with contextlib.suppress(ValueError):
            received(content_type, body)
        return time.process_time() - began

    small = min(seconds(100_000) for _ in range(3))
    large = min(seconds(800_000) for _ in range(3))
    # Eight times the size: a square would be 64 times. Below a hundredth there is only noise.
    assert large < max(30 * small, 0.05)
