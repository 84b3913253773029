"""What a feed's function may return, and what it is sent as."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import math
import os
import pathlib
import sqlite3
import time
import types
import uuid
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import Blob, Data, Text, payload_of


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


class LongText(str):
    pass


class Count(int):
    pass


class Weight(float):
    pass


class Status(enum.Enum):
    NEW = "new"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    id: int
    points: list[Point]


@dataclasses.dataclass(frozen=True)
class SlottedOrder:
    __slots__ = ("id",)
    id: int


@attrs.define
class AttrsOrder:
    id: int


class PydanticOrder(pydantic.BaseModel):
    id: int
    day: datetime.date = datetime.date(2009, 2, 4)


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
        (Point(1, 2), '{"x":1,"y":2}'),
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
    (datetime.datetime(2009, 2, 4, 5, 6, 7, 89), "2009-02-04T05:06:07.000089"),
    (datetime.datetime(2009, 2, 4, tzinfo=datetime.timezone.utc), "2009-02-04T00:00:00+00:00"),
    (datetime.time(5, 6), "05:06:00"),
    (decimal.Decimal("1.10"), "1.10"),
    (decimal.Decimal("123456789012345678901234567890.1"), "123456789012345678901234567890.1"),
    (pathlib.PurePosixPath("/etc"), "/etc"),
    (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    (ipaddress.ip_address("::1"), "::1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (collections.UserString("x"), "x"),
    (Colour.RED, "red"),
    (Status.NEW, "new"),
]


@pytest.mark.parametrize(("value", "expected"), NOT_JSON)
def test_what_json_does_not_know_is_sent_as_its_text(value: Any, expected: str) -> None:
    assert payload_of(value) == Text(expected)
    assert payload_of({"at": value}) == Data(json.dumps({"at": expected}, separators=(",", ":")))
    assert payload_of({value: 1}) == Data(json.dumps({expected: 1}, separators=(",", ":")))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Order(7, [Point(1, 2)]), {"id": 7, "points": [{"x": 1, "y": 2}]}),
        (SlottedOrder(7), {"id": 7}),
        (AttrsOrder(7), {"id": 7}),
        (PydanticOrder(id=7), {"id": 7, "day": "2009-02-04"}),
        ([Point(1, 2), Point(3, 4)], [{"x": 1, "y": 2}, {"x": 3, "y": 4}]),
        (time.gmtime(0)[:3], [1970, 1, 1]),
        (os.terminal_size((80, 24)), {"columns": 80, "lines": 24}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.defaultdict(int, a=1), {"a": 1}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.deque([1, 2]), [1, 2]),
        (collections.UserList([1]), [1]),
        (array.array("d", [1, math.inf]), [1.0, None]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"b": 1, "a": 2}.values(), [1, 2]),
        ({"a": 1}.items(), [["a", 1]]),
        (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
        (Access.READ | Access.WRITE, 3),
        (decimal.Decimal("NaN"), None),
        (decimal.Decimal("-Infinity"), None),
        (LongText("x"), "x"),
        ([LongText("x"), Count(3), Weight(1.5), Table(a=Count(1))], ["x", 3, 1.5, {"a": 1}]),
    ],
)
def test_objects_arrive_as_what_they_consist_of(value: object, expected: object) -> None:
    payload = payload_of(value)
    assert not isinstance(payload, Blob)
    assert (payload.text if isinstance(payload, Text) else payload.value) == expected
    inside = payload_of([value])
    assert isinstance(inside, Data)
    assert inside.value == [expected]


def test_rows_of_a_database_are_mappings_by_column() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT 1 AS id, 'x' AS name").fetchall()
    twice = connection.execute("SELECT 1 AS id, 2 AS id").fetchone()
    connection.close()
    assert payload_of(rows) == Data('[{"id":1,"name":"x"}]')
    assert payload_of(rows[0]) == Data('{"id":1,"name":"x"}')
    with pytest.raises(ValueError, match=r"^id: two keys, of types str and str, become this$"):
        payload_of(twice)


@given(st.sets(st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers())))
def test_equal_sets_are_the_same_payload(members: set[object]) -> None:
    payload = payload_of(members)
    other: set[object] = set()  # whose table has another history, and with it another order
    other.update(range(1000))
    other.clear()
    other.update(sorted(members, key=repr, reverse=True))
    assert payload_of(other) == payload_of(frozenset(other)) == payload
    assert isinstance(payload, Data)
    expected = [list(one) if isinstance(one, tuple) else one for one in members]
    assert sorted(payload.value, key=repr) == sorted(expected, key=repr)


def test_numbers_in_a_set_are_in_order() -> None:
    assert payload_of({10, 9.5, -1, "b", "a"}) == Data('[-1,9.5,10,"a","b"]')


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


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), Weight("nan")])
def test_numbers_that_json_cannot_say_are_null(number: float) -> None:
    assert payload_of(number) == Data("null")
    assert payload_of([number, 1.5]) == Data("[null,1.5]")
    assert payload_of({"x": {"y": number}}) == Data('{"x":{"y":null}}')
    assert payload_of({number: 1}) == Data('{"null":1}')


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**4000), 10**4000))
def test_numbers_are_those_that_they_were(number: float) -> None:
    for value in (number, [number, math.nan]):
        payload = payload_of(value)
        assert isinstance(payload, Data)
        sent = payload.value if value is number else payload.value[0]
        assert (sent, type(sent), str(sent)) == (number, type(number), str(number))


def test_a_large_value_is_kept_whole() -> None:
    payload = payload_of({"x": ["y" * 1_000_000] * 10})
    assert isinstance(payload, Data)
    assert len(payload.value["x"]) == 10
    assert payload_of("x" * 10_000_000) == Text("x" * 10_000_000)
