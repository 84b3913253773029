"""What a feed's function may return, and what it is sent as."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.payload import Blob, Data, Text, payload_of


class Point(NamedTuple):
    x: int
    y: int


class Picture(NamedTuple):
    pixels: bytes
    media_type: str


class Level(enum.IntEnum):
    HIGH = 3


class Colour(str, enum.Enum):
    RED = "red"


class Table(dict[str, int]):
    pass


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.text())
def test_text_is_itself(text: str) -> None:
    assert payload_of(text) == Text(text)


@given(json_values.filter(lambda value: not isinstance(value, str)))
def test_data_is_one_line_of_json_that_says_the_same(value: Any) -> None:
    payload = payload_of(value)
    assert isinstance(payload, Data)
    assert json.loads(payload.json) == payload.value == value
    assert not set(payload.json) & {"\n", "\r"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"),
        (-0.5, "-0.5"),
        (True, "true"),
        (None, "null"),
        ((1, "b", None), '[1,"b",null]'),
        (Point(1, 2), "[1,2]"),
        (Table(a=1), '{"a":1}'),
        (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (collections.Counter("aab"), '{"a":2,"b":1}'),
        (Level.HIGH, "3"),
        ([Colour.RED], '["red"]'),
        ({True: 1, None: 2, 1.5: 3, 4: 5}, '{"true":1,"null":2,"1.5":3,"4":5}'),
        ({"ü": "\u2028"}, '{"ü":"\u2028"}'),
    ],
)
def test_data_of_many_types(value: object, expected: str) -> None:
    assert payload_of(value) == Data(expected)


NOT_JSON = [
    (datetime.date(2009, 2, 4), "2009-02-04"),
    (decimal.Decimal("1.10"), "1.10"),
    (pathlib.PurePosixPath("/tmp"), "/tmp"),
    (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    ({7}, "{7}"),
]


@pytest.mark.parametrize(("value", "expected"), NOT_JSON)
def test_what_json_does_not_know_is_sent_as_its_text(value: object, expected: str) -> None:
    assert payload_of(value) == Text(expected)
    assert payload_of({"at": value}) == Data(json.dumps({"at": expected}, separators=(",", ":")))


def test_text_of_a_subclass_is_plain_text() -> None:
    payload = payload_of(Colour.RED)
    assert payload == Text("red")
    assert isinstance(payload, Text)
    assert type(payload.text) is str


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], {"\ud800": 1}, pathlib.Path("\udcff")])
def test_lone_surrogates_which_have_no_utf_8_are_replaced(value: object) -> None:
    payload = payload_of(value)
    assert not isinstance(payload, Blob)
    sent = payload.text if isinstance(payload, Text) else payload.json
    assert "\ufffd" in sent
    sent.encode()


@pytest.mark.parametrize("data", [b"\0\xff", bytearray(b"\0\xff"), memoryview(b"\0\xff")])
def test_bytes_are_bytes_and_no_longer_the_feed_s_to_change(data: Any) -> None:
    assert payload_of(data) == Blob(b"\0\xff", "application/octet-stream")
    payload = payload_of((data, "image/png"))
    assert payload == Blob(b"\0\xff", "image/png")
    assert isinstance(payload, Blob)
    assert type(payload.data) is bytes


def test_bytes_with_their_type_may_have_names() -> None:
    assert payload_of(Picture(b"x", "image/png")) == Blob(b"x", "image/png")


@pytest.mark.parametrize(
    ("content_type", "is_image"),
    [
        ("image/png", True),
        ("image/svg+xml", True),
        ("text/html; charset=utf-8", False),
        ("application/vnd.api+json;x=y", False),
    ],
)
def test_a_media_type_is_kept(content_type: str, is_image: bool) -> None:
    payload = payload_of((b"x", content_type))
    assert isinstance(payload, Blob)
    assert (payload.content_type, payload.is_image) == (content_type, is_image)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "png",
        "image/",
        "/png",
        "image/png\r\nSet-Cookie: a=b",
        "image/png;\r\nSet-Cookie: a=b",
        "image/png\r\n\r\n--test",
        "image/png\n",
        "image/png\0",
        "image /png",
        "image/png; x=é",
        None,
        7,
        b"image/png",
    ],
)
def test_what_is_no_media_type_is_refused(content_type: object) -> None:
    """It will stand in a header, which it must not end."""
    with pytest.raises(ValueError, match="is no media type, such as image/png"):
        payload_of((b"x", content_type))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_cannot_say_are_refused(number: float) -> None:
    for value in (number, [number], {"x": number}, {number: 1}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            payload_of(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append({"again": value})
    with pytest.raises(ValueError, match="Circular"):
        payload_of(value)


def test_a_value_that_is_nested_too_deep_is_refused() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RecursionError):
        payload_of(value)


@pytest.mark.parametrize("key", [(1, 2), b"x", datetime.date(2009, 2, 4)])
def test_keys_that_are_neither_text_nor_numbers_are_refused(key: object) -> None:
    with pytest.raises(TypeError, match="keys must be"):
        payload_of({key: 1})


def test_what_cannot_say_what_it_is_is_refused() -> None:
    class Broken:
        def __str__(self) -> str:
            raise LookupError("no")

    for value in (Broken(), [Broken()]):
        with pytest.raises(LookupError, match="no"):
            payload_of(value)


def test_a_large_value_is_kept_whole() -> None:
    payload = payload_of({"x": ["y" * 1_000_000] * 10})
    assert isinstance(payload, Data)
    assert len(payload.value["x"]) == 10
    assert payload_of("x" * 10_000_000) == Text("x" * 10_000_000)
