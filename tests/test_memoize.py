"""memorize: values, keys and methods; then properties against a model; then threads.

The thread tests do not sleep and hope: a computation goes on when it is told to, and it is told so
when the others are known to wait. The only time limit is the one that catches a hang.
"""

from __future__ import annotations

import datetime
import functools
import gc
import inspect
import logging
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pushdemo.lib import memoize
from pushdemo.lib.memoize import Info, memorize

PATIENCE = 20  # seconds, after which something hangs


class Clock:
    def __init__(self, now: float = 0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Counter:
    """A function that returns how often it was called, or fails."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    def __call__(self, *_: object) -> int:
        self.calls += 1
        if self.fails:
            raise LookupError(f"call {self.calls}")
        return self.calls


# --- The seed's use, and what is refused


def test_the_seed_word_for_word() -> None:
    @memorize(duration=15)
    def datetime_string():  # type: ignore[no-untyped-def]
        content = "--test\nContent-type: application/xml\n\n"
        content += "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
        content += "<message>" + str(datetime.datetime.now()) + "</message>\n"
        content += "--test\n"

        return content

    assert datetime_string().startswith("--test\n")
    assert datetime_string() is datetime_string()


def test_the_default_duration_is_the_seeds() -> None:
    clock, count = Clock(), Counter()
    memoized = memorize(clock=clock)(count)
    memoized()
    clock.now = 9.99
    assert memoized() == 1
    clock.now = 10
    assert memoized() == 2


def test_without_parentheses_it_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"write @memorize\(duration=\.\.\.\)"):

        @memorize  # type: ignore[arg-type]
        def bare() -> None: ...


@pytest.mark.parametrize("name", ["duration", "stale"])
@pytest.mark.parametrize(
    ("span", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (float("nan"), ValueError),
        ("15", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_a_span_is_a_number_from_0(name: str, span: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        memorize(**{name: span})


@pytest.mark.parametrize(
    ("maxsize", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_maxsize_is_a_whole_number_from_1(maxsize: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="maxsize"):
        memorize(maxsize=maxsize)


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> None: ...


async def _asynchronous_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [_generator, _coroutine, _asynchronous_generator, functools.partial(_generator)],
)
def test_what_is_used_up_by_the_first_caller_is_refused(function: Any) -> None:
    name = "_[a-z]+"
    with pytest.raises(TypeError, match=rf"{name}.* makes a generator or a coroutine"):
        memorize(duration=1)(function)


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_below_is_the_wrong_place(kind: Any) -> None:
    with pytest.raises(TypeError, match=rf"Counter: write @{kind.__name__} above @memorize"):
        memorize(duration=1)(kind(Counter))


def test_what_cannot_be_called_is_refused() -> None:
    function: Any = "text"
    with pytest.raises(TypeError, match="needs a function, not 'text'"):
        memorize(duration=1)(function)


def test_it_looks_like_the_function() -> None:
    def documented(a: int, b: str = "x") -> float:
        """What it does."""
        return float(a * b)

    memoized = memorize(duration=1)(documented)
    assert memoized.__wrapped__ is documented
    assert memoized.__name__ == "documented"  # type: ignore[attr-defined]
    assert memoized.__doc__ == "What it does."
    assert inspect.signature(memoized) == inspect.signature(documented)


@pytest.mark.parametrize("inner", [memorize(duration=1), functools.lru_cache])
def test_arguments_go_on_to_another_memo(inner: Any) -> None:
    memoized = memorize(duration=1, clock=Clock())(inner(lambda a, b=2: [a, b]))
    assert memoized(1) is memoized(1, 2) is memoized(b=2, a=1)


def test_a_memoized_function_can_be_memoized() -> None:
    clock, count = Clock(), Counter()
    inner = memorize(duration=10, clock=clock)(count)
    outer = memorize(duration=1, clock=clock)(inner)
    assert outer() == 1
    clock.now = 5
    assert outer() == 1
    assert (inner.info().hits, outer.info().misses) == (1, 2)


# --- Time


@pytest.mark.parametrize("start", [0, 2**60 + 1])  # that is odd: a float would lose the 1
def test_nanoseconds_stay_exact(start: int) -> None:
    clock, count = Clock(start), Counter()
    memoized = memorize(duration=10**9 + 7, clock=clock)(count)
    memoized()
    clock.now = start + 10**9 + 6
    assert memoized() == 1
    clock.now += 1
    assert memoized() == 2


def test_the_value_is_as_old_as_the_start_of_its_computation() -> None:
    clock, calls = Clock(), Counter()

    def slow() -> int:
        clock.now += 3
        return calls()

    memoized = memorize(duration=5, clock=clock)(slow)
    memoized()
    clock.now = 4.9
    assert memoized() == 1
    clock.now = 5
    assert memoized() == 2


def test_duration_0_is_never_fresh() -> None:
    memoized = memorize(duration=0, clock=Clock())(Counter())
    assert [memoized(), memoized()] == [1, 2]


def test_none_is_a_value() -> None:
    calls: list[int] = []
    memoized = memorize(duration=1, clock=Clock())(lambda: calls.append(1))
    assert [memoized(), memoized()] == [None, None]
    assert len(calls) == 1


def test_without_a_window_an_expired_value_is_not_served() -> None:
    clock, count = Clock(), Counter()
    memoized = memorize(duration=10, clock=clock)(count)
    memoized()
    count.fails = True
    clock.now = 10
    with pytest.raises(LookupError):
        memoized()


def test_the_clock_is_monotonic() -> None:
    assert inspect.signature(memorize).parameters["clock"].default is time.monotonic


def test_a_failure_is_not_kept() -> None:
    count = Counter()
    memoized = memorize(duration=1, clock=Clock())(count)
    count.fails = True
    for call in ("call 1", "call 2"):
        with pytest.raises(LookupError, match=call):
            memoized()
    count.fails = False
    assert [memoized(), memoized()] == [3, 3]


def test_a_refresh_that_fails_in_the_window_serves_the_old_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, count = Clock(), Counter()
    memoized = memorize(duration=10, stale=5, clock=clock)(count)
    memoized()
    count.fails = True
    for clock.now in (10, 14.9):
        assert memoized() == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "call 2" in caplog.text
    assert "call 3" in caplog.text
    clock.now = 15
    with pytest.raises(LookupError, match="call 4"):
        memoized()
    assert memoized.info()[3:5] == (4, 3)  # misses, errors


def test_a_refresh_that_fails_after_the_window_raises() -> None:
    clock, count = Clock(), Counter()

    def slow() -> int:
        clock.now += 3
        return count()

    memoized = memorize(duration=10, stale=5, clock=clock)(slow)
    memoized()
    count.fails = True
    clock.now = 12
    with pytest.raises(LookupError):
        memoized()


def test_a_refresh_replaces_the_old_value() -> None:
    clock = Clock()
    memoized = memorize(duration=10, stale=5, clock=clock)(Counter())
    memoized()
    clock.now = 12
    assert memoized() == 2
    clock.now = 21.9
    assert memoized() == 2
    assert memoized.info().size == 1


# --- Keys


def same(function: Callable[..., object], one: Any, other: Any) -> bool:
    """Whether two calls, as (args, kwargs), share a value."""
    calls: list[int] = []

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> object:
        calls.append(1)
        return function(*args, **kwargs)

    # A wrapper has a signature of its own unless it is told otherwise.
    counted.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    memoized = memorize(duration=1, clock=Clock())(counted)
    memoized(*one[0], **one[1])
    memoized(*other[0], **other[1])
    return len(calls) == 1


def plain(a: Any, b: Any = 2) -> None: ...
def keyword_only(a: Any, *, b: Any = 2, c: Any = 3) -> None: ...
def positional_only(a: Any, b: Any = 2, /, **more: Any) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        (plain, ((1,), {}), ((1, 2), {})),
        (plain, ((1,), {"b": 2}), ((), {"b": 2, "a": 1})),
        (plain, ((), {"a": 1}), ((1,), {})),
        (keyword_only, ((1,), {}), ((), {"c": 3, "b": 2, "a": 1})),
        (keyword_only, ((1,), {"b": 5, "c": 6}), ((1,), {"c": 6, "b": 5})),
        (positional_only, ((1,), {}), ((1, 2), {})),
        (positional_only, ((1,), {"a": 1, "x": 2}), ((1, 2), {"x": 2, "a": 1})),
        (anything, ((1, 2, 3), {"b": 1, "a": 2}), ((1, 2, 3), {"a": 2, "b": 1})),
        (anything, ((1, 2), {}), ((1, 2), {})),
        # These two iterate in different order.
        (plain, ((frozenset([0, 8]),), {}), ((frozenset([8, 0]),), {})),
    ],
)
def test_one_call_in_two_spellings(function: Any, one: Any, other: Any) -> None:
    assert same(function, one, other)


@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        (plain, ((1,), {}), ((1, 3), {})),
        (plain, ((1, 2), {}), ((2, 1), {})),
        (keyword_only, ((1,), {"b": 5}), ((1,), {"c": 5})),
        (positional_only, ((1,), {}), ((1,), {"x": 2})),
        (anything, ((), {}), ((None,), {})),
        (anything, (("a", 1), {}), ((), {"a": 1})),
        (anything, ((("a", 1),), {}), ((), {"a": 1})),
    ],
)
def test_two_calls(function: Any, one: Any, other: Any) -> None:
    assert not same(function, one, other)


class Point(NamedTuple):
    x: float


class Named(tuple[int, ...]):
    """Equal by its name, and not by what it holds."""

    name = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, "1", b"1", 1 + 0j),
        ((1,), (1.0,), (True,), [("1",)][0], frozenset({1}), frozenset({1.0})),
        (((1,),), ((1.0,),), (frozenset({(1,)}),), (frozenset({(True,)}),)),
        (Point(1), Point(1.0), (1,)),
    ],
)
def test_equal_values_of_different_types_are_apart(values: tuple[Any, ...]) -> None:
    for one in values:
        for other in values:
            assert same(plain, ((one,), {}), ((other,), {})) == (one is other)


def test_a_tuple_with_an_equality_of_its_own_keeps_it() -> None:
    one, other = Named((1,)), Named((1,))
    other.name = "other"
    assert not same(plain, ((one,), {}), ((other,), {}))


atoms = st.sampled_from([0, 1, 0.0, 1.0, False, True, "", "0", "1", None])
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2)
)


def spelled_out(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(spelled_out, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(spelled_out, value)))}}}"
    return repr(value)


@given(values, values)
def test_keys_are_equal_if_the_values_read_the_same(one: Any, other: Any) -> None:
    alike = spelled_out(one) == spelled_out(other)
    assert same(plain, ((one,), {}), ((other,), {})) == alike


@given(st.integers(0, 2), st.integers(0, 2), st.data())
def test_every_spelling_is_the_same_call(a: int, b: int, data: st.DataObject) -> None:
    spellings: list[Any] = [((a, b), {}), ((a,), {"b": b}), ((), {"b": b, "a": a})]
    if b == 2:
        spellings += [((a,), {}), ((), {"a": a})]
    one, other = (data.draw(st.sampled_from(spellings)) for _ in range(2))
    assert same(plain, one, other)


def test_a_wrapper_does_not_have_the_defaults_of_what_it_wraps() -> None:
    @functools.wraps(plain)
    def with_another_default(a: int, b: int = 3) -> tuple[int, int]:
        return (a, b)

    memoized = memorize(duration=1, clock=Clock())(with_another_default)
    assert [memoized(1), memoized(1, 2), memoized(1, 3)] == [(1, 3), (1, 2), (1, 3)]
    assert memoized.info().misses == 2


@pytest.mark.parametrize("argument", [[1], ([1],), {"a": 1}])
def test_an_unhashable_argument_is_named(argument: Any) -> None:
    memoized = memorize(duration=1)(plain)
    for use in (memoized, memoized.invalidate):
        with pytest.raises(TypeError, match=r"^plain: unhashable type.*pass memorize a key="):
            use(argument)


def test_a_key_makes_them_hashable() -> None:
    def joined(words: list[str], *, by: str = " ") -> str:
        return by.join(words)

    def key(words: list[str], *, by: str = " ") -> Hashable:
        return (*words, by)

    memoized = memorize(duration=1, clock=Clock(), key=key)(joined)
    assert [memoized(["a", "b"]), memoized(["a", "b"], by=" ")] == ["a b", "a b"]
    assert memoized(["a", "b"], by="-") == "a-b"
    assert memoized.info()[:4] == (1, 0, 0, 2)
    memoized.invalidate(["a", "b"])
    assert memoized.info().size == 1


def test_a_call_that_does_not_fit_is_named() -> None:
    memoized: Any = memorize(duration=1)(plain)
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"c": 1})]:
        with pytest.raises(TypeError, match=r"^plain\(\): "):
            memoized(*args, **kwargs)


# --- Methods


class Source:
    """Equal to all others, and so not hashable."""

    def __init__(self) -> None:
        self.calls = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source)

    @memorize(duration=10, maxsize=2, clock=Clock())
    def get(self, key: int, times: int = 1) -> int:
        self.calls += 1
        return key * times

    @classmethod
    @memorize(duration=10, clock=Clock())
    def made(cls, key: int) -> list[object]:
        return [cls, key]

    @staticmethod
    @memorize(duration=10, clock=Clock())
    def free(key: int) -> list[int]:
        return [key]


class Other(Source):
    @memorize(duration=10, clock=Clock())
    def get(self, key: int, times: int = 1) -> int:
        return -super().get(key, times)


def test_instances_are_apart_even_if_equal_and_unhashable() -> None:
    one, other = Source(), Source()
    for _ in range(2):
        assert [one.get(3), one.get(3, times=1), other.get(3, 2)] == [3, 3, 6]
    assert (one.calls, other.calls) == (1, 1)


def test_one_name_in_two_classes() -> None:
    other = Other()
    assert [other.get(3), other.get(3), Source.get.__get__(other)(3)] == [-3, -3, 3]
    assert other.calls == 1


def test_maxsize_is_per_instance() -> None:
    one, other = Source(), Source()
    for source in (one, other):
        for key in (1, 2, 2, 1):
            source.get(key)
    assert (one.get.info(), other.get.info()) == (Info(2, 0, 0, 2, 0, 2, 2),) * 2


def test_an_instance_is_not_kept_alive_and_its_values_go_with_it() -> None:
    class Value:
        pass

    class Maker:
        @memorize(duration=10)
        def make(self) -> Value:
            return Value()

    maker = Maker()
    value = weakref.ref(maker.make())
    assert maker.make() is value()
    instance = weakref.ref(maker)
    gc.disable()  # at once, and not when the collector comes
    try:
        del maker
        assert (instance(), value()) == (None, None)
    finally:
        gc.enable()
    assert Maker.make.info().size == 0


def test_an_identity_used_again_has_no_past() -> None:
    identities = set()
    for calls in range(50):
        source = Source()
        identities.add(id(source))
        assert source.get(calls % 2) == calls % 2
        assert source.calls == 1
        del source
    assert len(identities) < 50


def test_forgetting_for_one_instance_and_for_all() -> None:
    one, other = Source(), Source()
    for source in (one, other):
        source.get(1)
        source.get(2)
    one.get.invalidate(1)
    assert (one.get.info().size, other.get.info().size) == (1, 2)
    one.get.clear()
    assert (one.get.info().size, other.get.info().size) == (0, 2)
    assert Source.get.info()[3:] == (4, 0, 2, 2)
    Source.get.clear()
    assert other.get.info().size == 0


def test_an_instance_without_weak_references_is_named() -> None:
    class Slotted:
        __slots__ = ()

        @memorize(duration=10)
        def get(self) -> None: ...

    with pytest.raises(TypeError, match=r"Slotted\.get: .*'__weakref__' to the __slots__ of .*ted"):
        Slotted().get()


def test_class_methods_and_static_methods() -> None:
    source: Any = Source  # mypy does not bind what @classmethod makes of a callable object
    assert source.made(1) is source.made(1) is source().made(key=1)
    assert source.made(1) == [Source, 1]
    assert Other.made(1) == [Other, 1]  # type: ignore[arg-type, call-arg]
    before = source.made(1)
    source.made.invalidate(Source, 1)
    assert source.made(1) is not before
    assert source.free(1) is source().free(key=1)
    assert source.free(1) == [1]


def test_through_the_class_the_instance_is_an_argument() -> None:
    class Reading:
        value = 1

        @property
        @memorize(duration=10)
        def cached(self) -> int:
            return self.value

    one, other = Reading(), Reading()
    other.value = 2
    assert [one.cached, other.cached] == [1, 2]
    one.value = 3
    assert one.cached == 1


def test_the_key_of_a_method_does_not_see_the_instance() -> None:
    class Reading:
        @memorize(duration=10, key=lambda words: tuple(words))
        def joined(self, words: list[str]) -> list[str]:
            return ["".join(words)]

    reading = Reading()
    value = reading.joined(["a", "b"])
    assert reading.joined(["a", "b"]) is value
    reading.joined.invalidate(["a", "b"])
    assert reading.joined(["a", "b"]) is not value


def test_a_method_may_take_anything() -> None:
    class Anything:
        @memorize(duration=10)
        def get(*args: Any, **kwargs: Any) -> list[object]:
            return [args[1:], kwargs]

    instance: Any = Anything()  # mypy: no argument is left to bind the instance to
    assert instance.get(1, a=2) is instance.get(1, a=2)
    assert instance.get(1, a=2) == [(1,), {"a": 2}]
    instance.get.invalidate(1, a=2)
    assert instance.get.info().size == 0


def test_a_bound_method_is_a_function() -> None:
    class Feed:
        def __init__(self) -> None:
            self.count = Counter()
            self.value = memorize(duration=10, clock=Clock())(self._compute)

        def _compute(self) -> int:
            return self.count()

    assert [Feed().value(), Feed().value()] == [1, 1]
    feed = Feed()
    assert [feed.value(), feed.value()] == [1, 1]


# --- Bounds, forgetting, counts


def test_the_oldest_goes_first_but_not_if_it_was_used() -> None:
    memoized = memorize(duration=10, maxsize=3, clock=Clock())(lambda key: [key])
    first, *_ = (memoized(key) for key in "abc")
    assert memoized("a") is first
    memoized("d")  # b goes
    memoized("e")  # c goes
    assert memoized("a") is first
    assert memoized.info() == Info(2, 0, 0, 5, 0, 3, 3)
    memoized("b")
    assert memoized.info().misses == 6


def test_what_is_new_is_kept_though_all_the_others_were_used() -> None:
    memoized = memorize(duration=10, maxsize=2, clock=Clock())(lambda key: [key])
    for key in ("a", "a", "b", "b"):
        memoized(key)
    new = memoized("c")
    assert memoized("c") is new


def test_refreshing_makes_it_the_newest() -> None:
    clock = Clock()
    memoized = memorize(duration=10, maxsize=2, clock=clock)(lambda key: [key])
    memoized("a")
    clock.now = 5
    memoized("b")
    clock.now = 10
    refreshed = memoized("a")
    memoized("c")  # b goes, though it is fresh
    assert memoized("a") is refreshed
    assert memoized.info().size == 2


def test_without_a_bound_all_are_kept() -> None:
    memoized = memorize(duration=10, maxsize=None, clock=Clock())(lambda key: key)
    for key in range(3000):
        memoized(key)
    assert memoized.info() == Info(0, 0, 0, 3000, 0, 3000, None)


def test_invalidate_forgets_one_and_clear_all() -> None:
    count = Counter()
    memoized = memorize(duration=10, clock=Clock())(count)
    assert [memoized("a"), memoized("b")] == [1, 2]
    memoized.invalidate("a")
    memoized.invalidate("never computed")
    assert [memoized("a"), memoized("b")] == [3, 2]
    memoized.clear()
    assert [memoized("a"), memoized("b")] == [4, 5]


def test_refreshing_evicts_nothing() -> None:
    clock = Clock()
    memoized = memorize(duration=10, maxsize=2, clock=clock)(lambda key: [key])
    memoized("a")
    memoized("b")
    clock.now = 10
    memoized("b")
    assert memoized.info().size == 2


@pytest.mark.parametrize(
    "forget",
    [
        lambda memoized: memoized("b"),
        lambda memoized: memoized.invalidate("a"),
        lambda memoized: memoized.clear(),
    ],
)
def test_a_finalizer_may_call_us_when_its_value_is_dropped(forget: Any) -> None:
    class Value:
        def __del__(self) -> None:
            memoized("last words")

    memoized: Any = memorize(duration=10, maxsize=1, clock=Clock())(
        lambda key: Value() if key == "a" else key
    )
    memoized("a")
    Crowd(lambda: forget(memoized)).join()
    assert memoized("last words") == "last words"
    assert memoized.info().hits == 1


def test_what_was_stored_between_two_looks_is_not_computed_again() -> None:
    meanwhile: list[Callable[[], int]] = []

    def clock() -> float:
        if meanwhile:
            meanwhile.pop()()
        return 0

    memoized = memorize(duration=10, clock=clock)(Counter())
    meanwhile.append(memoized)  # a call within the call that has just found nothing
    assert memoized() == 1
    assert memoized.info()[:4] == (1, 0, 0, 1)


class Reference:
    """What memorize does, in one thread: a list of [key, value, start, used], the oldest first."""

    def __init__(self, duration: int, stale: int, maxsize: int | None) -> None:
        self.duration, self.stale, self.maxsize = duration, stale, maxsize
        self.kept: list[list[Any]] = []

    def find(self, key: str) -> list[Any] | None:
        return next((entry for entry in self.kept if entry[0] == key), None)

    def forget(self, key: str) -> None:
        self.kept = [entry for entry in self.kept if entry[0] != key]

    def keep(self, key: str, value: int, start: int) -> None:
        self.forget(key)
        while self.maxsize and len(self.kept) >= self.maxsize:
            oldest = self.kept.pop(0)
            if oldest[3]:
                self.kept.append([*oldest[:3], False])
        self.kept.append([key, value, start, False])


class Comparison(RuleBasedStateMachine):
    """One thread, any order of calls, failures, invalidations and moments."""

    keys = st.sampled_from("abcde")

    @initialize(
        duration=st.integers(0, 6), stale=st.integers(0, 6), maxsize=st.sampled_from([None, 1, 3])
    )
    def begin(self, duration: int, stale: int, maxsize: int | None) -> None:
        self.clock = Clock()
        self.calls = self.takes = 0
        self.fails = False
        self.model = Reference(duration, stale, maxsize)
        self.memoized = memorize(duration, stale=stale, maxsize=maxsize, clock=self.clock)(
            self.function
        )

    def function(self, key: str) -> int:
        self.calls += 1
        self.clock.now += self.takes
        if self.fails:
            raise LookupError(key)
        return self.calls

    @rule(key=keys, fails=st.booleans(), takes=st.sampled_from([0, 0, 1, 4]))
    def call(self, key: str, fails: bool, takes: int) -> None:
        self.fails, self.takes = fails, takes
        start, calls = int(self.clock.now), self.calls
        entry = self.model.find(key)
        try:
            value = self.memoized(key)
        except LookupError:
            value = None
        if entry and start < entry[2] + self.model.duration:
            assert (value, self.calls) == (entry[1], calls)
            entry[3] = True
            return
        assert self.calls == calls + 1
        if not fails:
            assert value == self.calls
            self.model.keep(key, self.calls, start)
        elif entry and self.clock.now < entry[2] + self.model.duration + self.model.stale:
            assert value == entry[1]
        else:
            assert value is None

    @rule(by=st.integers(1, 4))
    def wait(self, by: int) -> None:
        self.clock.now += by

    @rule(key=keys, everything=st.sampled_from([False, False, False, True]))
    def forget(self, key: str, everything: bool) -> None:
        if everything:
            self.memoized.clear()
            self.model.kept = []
        else:
            self.memoized.invalidate(key)
            self.model.forget(key)

    @invariant()
    def as_many_are_kept(self) -> None:
        if hasattr(self, "model"):
            assert self.memoized.info().size == len(self.model.kept)
            assert len(self.model.kept) <= (self.model.maxsize or 5)


TestComparison = Comparison.TestCase


# --- Threads


class Crowd:
    """Threads that call a function."""

    def __init__(self, function: Callable[[], object], count: int = 1) -> None:
        self._function = function
        self._outcomes: list[Any] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            self._outcomes.append(self._function())
        except BaseException as error:
            self._outcomes.append(error)

    def waiting(self, count: int | None = None) -> None:
        """Return when that many of them, or all, wait for a computation of somebody else's."""
        expected = len(self._threads) if count is None else count
        limit = time.monotonic() + PATIENCE
        while sum(thread.ident in memoize._waiting for thread in self._threads) != expected:
            assert time.monotonic() < limit, "they do not wait"
            time.sleep(0.0005)

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a caller hangs"
        return self._outcomes


class Slow:
    """A function whose calls go on when they are told how to end."""

    def __init__(self) -> None:
        self.calls = 0
        self._begun = threading.Semaphore(0)
        self._ends: dict[Any, tuple[threading.Event, list[Any]]] = {}

    def __call__(self, *_: object) -> Any:
        self.calls += 1
        call = self.calls
        told, outcome = self._ends.setdefault(call, (threading.Event(), []))
        self._begun.release()
        assert told.wait(PATIENCE), "nobody ended this call"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def begun(self) -> None:
        """Return when one more call has begun."""
        assert self._begun.acquire(timeout=PATIENCE), "no call has begun"

    def end(self, call: int, outcome: object) -> None:
        told, outcomes = self._ends[call]
        outcomes.append(outcome)
        told.set()


@pytest.mark.parametrize("duration", [10, 0])
def test_a_cold_storm_is_one_computation(duration: int) -> None:
    slow = Slow()
    memoized = memorize(duration, clock=Clock())(slow)
    crowd = Crowd(memoized, 50)
    slow.begun()
    crowd.waiting(49)
    value = object()
    slow.end(1, value)
    assert crowd.join() == [value] * 50
    assert slow.calls == 1
    assert memoized.info()[:5] == (0, 49, 0, 1, 0)


def test_a_cold_storm_that_fails_is_one_computation() -> None:
    slow = Slow()
    memoized = memorize(duration=10, clock=Clock())(slow)
    crowd = Crowd(memoized, 50)
    slow.begun()
    crowd.waiting(49)
    error = LookupError("the source is down")
    slow.end(1, error)
    assert crowd.join() == [error] * 50
    assert slow.calls == 1
    assert memoized.info() == Info(0, 49, 0, 1, 1, 0, 1024)


class Yielding(int):
    """A key that lets other threads run whenever it is looked up."""

    def __hash__(self) -> int:
        time.sleep(0)
        return int(self)


def test_many_threads_compute_each_value_once() -> None:
    clock = Clock()
    computed: list[tuple[int, float]] = []

    def function(key: int) -> int:
        computed.append((key, clock.now))
        return key

    memoized = memorize(duration=1, clock=clock)(function)
    together = threading.Barrier(8)

    def callers() -> bool:
        right = True
        for now in range(100):
            together.wait(PATIENCE)
            clock.now = now
            together.wait(PATIENCE)
            right &= all(memoized(Yielding(key)) == key for key in range(5))
        return right

    assert Crowd(callers, 8).join() == [True] * 8
    assert sorted(computed) == [(key, now) for key in range(5) for now in range(100)]


def test_waiters_see_the_traceback_of_the_computation_and_not_of_each_other() -> None:
    slow = Slow()
    memoized = memorize(duration=10)(slow)
    depths = []

    def caller() -> None:
        try:
            memoized()
        except LookupError as error:
            depths.append(len(traceback.extract_tb(error.__traceback__)))

    first = Crowd(caller)
    slow.begun()
    others = [Crowd(caller) for _ in range(10)]
    for other in others:
        other.waiting()
    slow.end(1, LookupError())
    for crowd in (first, *others):
        crowd.join()
    assert max(depths) <= 8


def test_a_failure_leaves_no_cycle_behind() -> None:
    begun, told = threading.Event(), threading.Event()
    failures = []

    class Failure(Exception):
        def __init__(self) -> None:
            failures.append(weakref.ref(self))

    @memorize(duration=10)
    def fails() -> None:
        begun.set()
        told.wait(PATIENCE)
        raise Failure

    def caller() -> str:
        try:
            fails()
        except Failure:
            return "failed"
        return "did not fail"

    gc.disable()
    try:
        first = Crowd(caller)
        assert begun.wait(PATIENCE)
        second = Crowd(caller)
        second.waiting()
        told.set()
        assert first.join() + second.join() == ["failed"] * 2
        assert [failure() for failure in failures] == [None]
    finally:
        gc.enable()


def test_different_keys_do_not_wait_for_each_other() -> None:
    slow = Slow()
    memoized = memorize(duration=10)(slow)
    one, other = Crowd(lambda: memoized("a")), Crowd(lambda: memoized("b"))
    slow.begun()
    slow.begun()
    for call in (2, 1):
        slow.end(call, call)
    assert sorted(one.join() + other.join()) == [1, 2]


def test_in_the_window_everybody_but_one_is_served_the_old_value() -> None:
    clock, slow = Clock(), Slow()
    memoized = memorize(duration=10, stale=5, clock=clock)(slow)
    first = Crowd(memoized)
    slow.begun()
    slow.end(1, "old")
    first.join()
    clock.now = 10
    refresher = Crowd(memoized)
    slow.begun()
    assert Crowd(memoized, 20).join() == ["old"] * 20
    clock.now = 15
    late = Crowd(memoized, 3)
    late.waiting()
    slow.end(2, "new")
    assert refresher.join() + late.join() == ["new"] * 4
    assert memoized.info()[:5] == (0, 3, 20, 2, 0)


def test_what_is_in_flight_is_not_evicted() -> None:
    slow = Slow()
    memoized = memorize(duration=10, maxsize=1)(lambda key: slow() if key == "slow" else key)
    one = Crowd(lambda: memoized("slow"))
    slow.begun()
    for key in "abc":
        memoized(key)
    other = Crowd(lambda: memoized("slow"))
    other.waiting()
    slow.end(1, "value")
    assert one.join() + other.join() == ["value"] * 2
    assert memoized.info().size == 1
    assert memoized("slow") == "value"
    assert slow.calls == 1


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_what_is_forgotten_in_flight_is_not_kept(forget: str, order: tuple[int, int]) -> None:
    slow = Slow()
    memoized = memorize(duration=10)(slow)
    before = Crowd(memoized, 2)
    slow.begun()
    before.waiting(1)
    getattr(memoized, forget)()
    after = Crowd(memoized)
    slow.begun()
    also_after = Crowd(memoized)
    also_after.waiting()
    crowds = {1: [before], 2: [after, also_after]}
    for call in order:
        slow.end(call, call)
        for crowd in crowds[call]:
            assert set(crowd.join()) == {call}
    assert memoized() == 2
    assert slow.calls == 2


def test_what_is_forgotten_is_not_served_when_its_refresh_fails() -> None:
    clock, slow = Clock(), Slow()
    memoized = memorize(duration=10, stale=10, clock=clock)(slow)
    first = Crowd(memoized)
    slow.begun()
    slow.end(1, "old")
    first.join()
    clock.now = 11
    refresher = Crowd(memoized)
    slow.begun()
    memoized.invalidate()
    error = LookupError()
    slow.end(2, error)
    assert refresher.join() == [error]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_an_interrupt_is_for_one_thread_and_another_computes(error: BaseException) -> None:
    slow = Slow()
    memoized = memorize(duration=10)(slow)
    first = Crowd(memoized)
    slow.begun()
    others = Crowd(memoized, 5)
    others.waiting()
    slow.end(1, error)
    slow.begun()
    others.waiting(4)
    slow.end(2, "value")
    assert first.join() == [error]
    assert others.join() == ["value"] * 5
    assert slow.calls == 2


def test_an_interrupt_before_the_computation_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memoized = memorize(duration=10)(Counter())

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memoize._Store, "_compute", interrupted)
        assert isinstance(Crowd(memoized).join()[0], KeyboardInterrupt)
    assert Crowd(memoized).join() == [1]


def test_a_computation_that_calls_itself_is_told_so() -> None:
    @memorize(duration=10)
    def endless(key: str) -> object:
        return endless(key)

    (error,) = Crowd(lambda: endless("a")).join()
    assert isinstance(error, RuntimeError)
    assert "endless would wait for itself" in str(error)


def test_two_computations_that_wait_for_each_other_are_told_so() -> None:
    both = threading.Barrier(2)

    @memorize(duration=10)
    def one() -> object:
        both.wait(PATIENCE)
        return other()

    @memorize(duration=10)
    def other() -> object:
        both.wait(PATIENCE)
        return one()

    crowds = Crowd(one), Crowd(other)
    for crowd in crowds:
        (error,) = crowd.join()
        assert isinstance(error, RuntimeError)
        assert "would wait for itself" in str(error)


def test_what_has_landed_is_not_waited_for() -> None:
    flight: memoize._Flight[int] = memoize._Flight()
    flight.succeed(1)
    flight.landed.set()
    flight.wait("its own thread comes late")
    assert flight.outcome() == 1


def test_a_computation_may_call_itself_for_another_key() -> None:
    @memorize(duration=10)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(50) == 12586269025
    assert fibonacci.info().misses == 51


def test_nobody_is_left_waiting() -> None:
    assert memoize._waiting == {}
