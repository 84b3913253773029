"""What cannot be sent is an error that names the type and the place, whatever an object does."""

from __future__ import annotations

import asyncio
import builtins
import decimal
import enum
import io
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.naming import path_name, type_name
from pushdemo.push.compute.payload import Blob, Data, Text, payload_of


class Customer:
    pass


class Pair(enum.Enum):
    A = (1, 2)


def numbers() -> Iterator[int]:
    yield 1


async def later() -> int:
    return 1


async def many() -> AsyncIterator[int]:
    yield 1


def refusal(value: object) -> str:
    """The one line that says why it is refused."""
    with pytest.raises((TypeError, ValueError)) as caught:
        payload_of(value)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Customer, "tests.test_payload_refusals.Customer"),
        (object, "object"),
        (lambda: Customer, "type"),
        (lambda: len, "builtin_function_or_method"),
        (lambda: refusal, "function"),
        (threading.Lock, "_thread.lock"),
        (io.StringIO, "_io.StringIO"),
        (io.BytesIO, "_io.BytesIO"),
        (numbers, "generator"),
        (lambda: iter([1]), "list_iterator"),
        (lambda: map(str, [1]), "map"),
        (itertools.count, "itertools.count"),
        (later, "coroutine"),
        (many, "async_generator"),
        (lambda: 1j, "complex"),
        (lambda: slice(1), "slice"),
        (lambda: ..., "ellipsis"),
        (lambda: ValueError("x"), "ValueError"),
        (lambda: io, "module"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(make: Callable[[], Any], name: str) -> None:
    assert refusal(make()).startswith(f"an object of type {name} can")
    inside = {"orders": [1, 2, 3, {"customer": make()}]}
    assert refusal(inside).startswith(f"orders[3].customer: an object of type {name} can")


def test_the_message_says_what_to_do() -> None:
    assert refusal([Customer()]) == (
        "[0]: an object of type tests.test_payload_refusals.Customer cannot be sent;"
        " return text, numbers, dates, mappings, lists or a dataclass"
    )
    assert refusal(numbers()).endswith("can be read only once; return list(...) of it")
    assert refusal(later()).endswith("return what awaiting it gives, by asyncio.run(...)")


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_no_part_of_data(value: object) -> None:
    expected = f"a[0]: an object of type {type(value).__name__} cannot be inside data"
    assert refusal({"a": [value]}).startswith(expected)
    assert refusal((value, 1, 2)).startswith("[0]: an object of type")


@pytest.mark.parametrize("key", [(1, 2), b"x", frozenset(), Customer(), len, Pair.A])
def test_keys_that_are_neither_text_nor_numbers_are_refused(key: object) -> None:
    name = type_name(type(key))
    assert refusal({key: 1}) == f"a key of type {name} cannot be sent; use text or numbers"
    assert refusal({"a": [{key: 1}]}).startswith(f"a[0]: a key of type {name} cannot be sent")


@pytest.mark.parametrize(
    ("keys", "path", "types"),
    [
        ((1, "1"), '["1"]', "int and str"),
        ((None, "null"), "null", "NoneType and str"),
        ((True, "x", "true"), "true", "bool and str"),
        ((decimal.Decimal("1.50"), 1.5, "1.50"), '["1.50"]', "decimal.Decimal and str"),
        (("\ud800", "\ufffd"), '["\ufffd"]', "str and str"),
        (("x\ud800", "x\udfff"), '["x\ufffd"]', "str and str"),
    ],
)
def test_keys_that_would_become_one_are_refused(
    keys: Sequence[object], path: str, types: str
) -> None:
    value = dict.fromkeys(keys, 1)
    assert refusal(value) == f"{path}: two keys, of types {types}, become this"
    assert refusal({"a": [value]}).startswith("a[0]")


def test_a_value_that_contains_itself_is_named_by_where_it_does() -> None:
    mapping: dict[str, object] = {}
    mapping["orders"] = [1, mapping]
    assert refusal(mapping) == "orders[1]: it contains itself"
    members: list[object] = []
    members.append((members,))
    assert refusal({"x": members}) == "x[0][0]: it contains itself"
    shared = [1]
    assert payload_of({"a": shared, "b": [shared, shared]}) == Data('{"a":[1],"b":[[1],[1]]}')


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
@pytest.mark.parametrize("leaf", [1, float("nan")])
def test_a_hundred_levels_are_sent_and_no_more(wrap: Callable[[Any], Any], leaf: float) -> None:
    value: Any = leaf
    for _ in range(100):
        value = wrap(value)
    payload = payload_of(value)
    assert isinstance(payload, Data)
    payload.value  # noqa: B018  # it can be read again
    for more in (1, 100_000):
        deeper = value
        for _ in range(more):
            deeper = wrap(deeper)
        assert refusal(deeper).endswith("nested deeper than 100 lists and mappings")
        while more and deeper is not value:  # freed step by step, and not by a recursion in C
            (deeper,) = deeper.values() if isinstance(deeper, dict) else deeper


def test_an_integer_that_no_python_reads_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 10**4300 - 1
    payload = payload_of({"a": [most]})
    assert isinstance(payload, Data)
    assert payload.value == {"a": [most]}
    for limit in (4300, 0):  # as it is, and as a feed may have set it in its process
        monkeypatch.setattr("sys.get_int_max_str_digits", lambda limit=limit: limit, raising=False)
        for value in (most + 1, {"a": [-most - 1]}, [float("nan"), most + 1]):
            assert refusal(value).endswith("an integer of more than 4300 digits")


# --- Objects that play tricks


class Trick(Exception):
    pass


def trick(*_: object, **__: object) -> Any:
    raise Trick


_SPECIAL = [
    "__repr__", "__str__", "__eq__", "__hash__", "__iter__", "__len__", "__getattr__", "__class__",
    "__getitem__", "__contains__", "__bool__", "__int__", "__float__", "__index__", "__bytes__",
    "__format__", "__fspath__", "__reduce_ex__", "__dict__", "__next__", "keys", "items", "values",
    "_fields", "_asdict", "dtype", "tolist", "to_dict", "value", "_value_", "isoformat", "encode",
    "__dataclass_fields__", "__attrs_attrs__", "__struct_fields__", "__pydantic_fields__",
    "__match_args__", "n_sequence_fields", "model_dump", "__array__", "__array_interface__",
]  # fmt: skip
_BASES: list[tuple[type, tuple[object, ...]]] = [
    (object, ()),
    (str, ("x",)),
    (int, (7,)),
    (float, (1.5,)),
    (bytes, (b"x",)),
    (list, ([1],)),
    (tuple, ([1, 2],)),
    (dict, ({"a": 1},)),
    (set, ([1],)),
    (decimal.Decimal, ("1.5",)),
    (Exception, ("x",)),
]
_LIES: list[Any] = [
    trick,
    property(trick),
    property(lambda _: dict),
    None,
    7,
    "text",
    ("a", "b"),
    lambda *_: NotImplemented,
    lambda *_: "lie",
    lambda *_: -1,
    lambda *_: 2**70,
    lambda *_: iter(()),
    lambda *_: iter([("a", 1, 2)]),
    lambda self, *_: self,
]


def check_exact(value: object) -> None:
    """Whether nothing in a payload is of a class of the application."""
    match payload_of(value):
        case Text(text):
            assert type(text) is str
        case Data(encoded):
            assert type(encoded) is str
        case Blob(data, content_type):
            assert (type(data), type(content_type)) == (bytes, str)


@given(
    st.sampled_from(_BASES),
    st.dictionaries(st.sampled_from(_SPECIAL), st.sampled_from(_LIES), max_size=5),
    st.sampled_from([None, Mapping, Sequence, Set]),
)
def test_whatever_an_object_does_it_is_sent_or_refused(
    base: tuple[type, tuple[object, ...]], special: dict[str, Any], claims: Any
) -> None:
    kind, arguments = base
    try:
        cls = type("Liar", (kind,), dict(special))
        if claims is not None:
            claims.register(cls)
        value = cls(*arguments)
    except Exception:  # it could not even be made
        return
    places: list[object] = [value, [value], (value,), (value, "image/png"), (b"x", value)]
    places += [{"a": value}, Holder(value)]
    try:
        places += [{value: 1}, {value}]
    except Exception:  # it cannot be hashed
        places.append({})
    for place in places:
        complaint = ""
        try:
            check_exact(place)
        except (TypeError, ValueError) as error:
            complaint = str(error)
        assert len(complaint) < 400


class Holder:
    __match_args__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


@pytest.mark.parametrize("name", ["__hash__", "__eq__", "__subclasscheck__", "__instancecheck__"])
def test_a_metaclass_may_raise_too(name: str) -> None:
    meta = type("Meta", (type,), {"__hash__": type.__hash__, name: trick})
    value = meta("Odd", (), {})()
    for place in (value, [value], {"a": value}, {value: 1}):
        assert "tests.test_payload_refusals.Odd" in refusal(place)


def test_a_metaclass_cannot_deceive_the_message() -> None:
    meta = type("Meta", (type,), {"__getattribute__": trick, "__module__": property(trick)})
    value = meta("Odd", (), {"__module__": "shop"})()
    assert refusal([value]).startswith("[0]: an object of type shop.")
    unprintable = type("a\nb" * 1000, (), {"__module__": 7})()
    assert refusal([unprintable]).startswith("[0]: an object of type a\\nba\\nb")


@pytest.mark.parametrize(
    ("kind", "method"), [(Mapping, "items"), (Sequence, "__iter__"), (Set, "__iter__")]
)
def test_what_an_object_raises_is_the_cause(kind: Any, method: str) -> None:
    cls = type("Broken", (), {"__len__": lambda _: 1, method: trick})
    kind.register(cls)
    with pytest.raises(TypeError) as caught:
        payload_of({"a": [cls()]})
    assert isinstance(caught.value.__cause__, Trick)
    assert str(caught.value) == (
        "a[0]: an object of type tests.test_payload_refusals.Broken cannot be read:"
        " it raises tests.test_payload_refusals.Trick"
    )


def test_an_object_that_ends_the_thread_is_not_held_up() -> None:
    class Exits(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            raise SystemExit

        def __len__(self) -> int:
            return 1

    with pytest.raises(SystemExit):
        payload_of([Exits()])


@pytest.mark.parametrize("kind", [Mapping, Sequence, Set])
def test_an_object_that_never_ends_is_as_long_as_it_says(kind: Any) -> None:
    endless = {"__len__": lambda _: 2, "__iter__": lambda _: itertools.count()}
    endless["items"] = lambda _: ((number, 1) for number in itertools.count())
    cls = type("Endless", (), endless)
    kind.register(cls)
    payload = payload_of(cls())
    assert isinstance(payload, Data)
    assert payload.value == ({"0": 1, "1": 1} if kind is Mapping else [0, 1])


def test_an_object_that_is_another_each_time_comes_to_an_end() -> None:
    class Endless(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            return Endless()

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    assert refusal(Endless()).endswith("nested deeper than 100 lists and mappings")


def test_a_member_may_change_what_it_is_in() -> None:
    mapping: dict[str, object] = {}

    class Grows(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            mapping[str(len(mapping))] = 1
            return iter(())

        def __len__(self) -> int:
            return 0

    mapping["a"] = Grows()
    assert payload_of(mapping) == Data('{"a":{}}')


# --- Names


@given(st.lists(st.text() | st.integers(0, 10**6)))
def test_a_path_is_short_and_printable(path: list[str | int]) -> None:
    name = path_name(path)
    assert name.isprintable()
    assert len(name) <= 121


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ([], ""),
        (["orders", 3, "customer"], "orders[3].customer"),
        ([3, "größe"], "[3].größe"),
        (["two words", 1], '["two words"][1]'),
        (["a\n\x00"], '["a\\n\\x00"]'),
        (["x" * 1000], "x" * 30 + "…"),
    ],
)
def test_a_path_is_written_as_in_python(path: Sequence[str | int], name: str) -> None:
    assert path_name(path) == name


def test_a_type_of_python_has_no_module() -> None:
    assert [type_name(kind) for kind in (int, builtins.KeyError)] == ["int", "KeyError"]
    assert type_name(asyncio.Event) == "asyncio.locks.Event"
