"""Push.from_ini: from options to objects, and the mistakes that people make there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pushdemo.library import Push
from pushdemo.push import engine
from pushdemo.push.channel import Channel
from pushdemo.push.compute.declaration import declared_in
from pushdemo.push.compute.feed import SECOND, Feed
from pushdemo.push.compute.payload import Text
from pushdemo.push.deliver.answer import Fallbacks
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.engine import Engine
from pushdemo.push.options import ConfigError
from pushdemo.push.response import Response
from pushdemo.push.stream import Stream, TooManyStreams

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(**section: str) -> Engine:
    return Push.from_ini({name.replace("__", "."): value for name, value in section.items()}).engine


def open_stream(loaded: Engine, channel: Channel, limit: int | None = None) -> Stream:
    nothing = Response("503 Service Unavailable", [])
    framing = loaded.framings["multipart"]
    subscription = Subscription(channel, framing, limit=limit)
    return loaded.streams.open(subscription, Fallbacks(nothing, nothing))


def feed(**options: str) -> Feed:
    """The feed called clock, with these options."""
    section = {f"feed.clock.{name}": value for name, value in options.items()}
    only = declared_in({"feed.clock": "pushdemo.feeds:clock", **section}, "clock").feed()
    assert only is not None
    return only


def complaint(**section: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**section)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def where(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The file in which it was raised."""
    return Path(caught.traceback[-1].path).name


# Feeds


def test_feeds_are_there_in_the_order_of_the_ini(write: Write) -> None:
    write("orders", "def newest(): return 1")
    loaded = load(feed__zebra="orders:newest", feed__ape="orders:newest", feed__cow="orders:newest")
    assert list(loaded.channels) == ["zebra", "ape", "cow"]
    loaded.close()


def test_a_name_may_hold_any_letters() -> None:
    loaded = load(feed__zeitgefühl="pushdemo.feeds:clock")
    assert [(name, channel.name) for name, channel in loaded.channels.items()] == [
        ("zeitgefühl", "zeitgefühl")
    ]
    loaded.close()


def test_without_a_feed_there_is_an_application_all_the_same() -> None:
    loaded = load()
    assert not loaded.channels
    loaded.close()


def test_a_watched_feed_is_run(write: Write) -> None:
    write("orders", "def newest(): return 'seven'")
    loaded = load(feed__orders="orders:newest", push__boundary="b")
    with_end = open_stream(loaded, loaded.channels["orders"], limit=1)
    assert b"<message>seven</message>" in b"".join(with_end)
    with_end.close()
    loaded.close()


def test_a_feed_runs_every_five_seconds_unless_told_otherwise() -> None:
    assert feed().interval == 5 * SECOND
    assert feed(interval="0.25").interval == SECOND // 4


def test_a_value_is_good_for_one_interval_unless_told_otherwise() -> None:
    values = feed(interval="2")
    assert values.compute(0).fresh_until == 2 * SECOND


def test_a_value_is_good_for_its_duration() -> None:
    values = feed(interval="2", duration="6")
    assert values.compute(0).fresh_until == 6 * SECOND
    assert values.compute(4 * SECOND).fresh_until == 10 * SECOND


def test_with_a_duration_of_zero_a_value_is_good_for_its_own_beat_alone() -> None:
    assert feed(interval="2", duration="0").compute(4 * SECOND).fresh_until == 4 * SECOND


def test_the_threads_that_serve_everybody_can_be_asked_how_they_are(write: Write) -> None:
    write("orders", "def newest(): return 'seven'")
    loaded = load(feed__orders="orders:newest")
    health = loaded.health()
    assert {name: one.alive for name, one in health.items()} == {
        "publisher": True, "broadcaster": True
    }  # fmt: skip
    loaded.close()
    assert not any(one.alive for one in loaded.health().values())


def test_an_unknown_option_of_a_feed_is_named_with_the_one_it_resembles() -> None:
    assert complaint(feed__clock="pushdemo.feeds:clock", feed__clock__intervall="3") == (
        "feed.clock.intervall: there is no such option; did you mean feed.clock.interval?"
    )


@pytest.mark.parametrize("option", ["interval", "duration"])
def test_an_option_of_a_feed_that_is_no_number_is_named(option: str) -> None:
    section = {"feed__clock": "pushdemo.feeds:clock", f"feed__clock__{option}": "soon"}
    assert complaint(**section).startswith(f"feed.clock.{option} = soon: this must be a number")


def test_an_option_of_a_feed_that_is_not_declared_says_how_to_declare_it() -> None:
    assert complaint(feed__clock="pushdemo.feeds:clock", feed__clok__interval="3") == (
        "feed.clok.interval: there is no feed clok;"
        " declare it with feed.clok = package.module:function"
    )


# A feed's function


@pytest.mark.parametrize("path", ["", "pushdemo.feeds", "pushdemo.feeds:", ":clock", ":"])
def test_a_path_that_is_none_says_how_to_write_it(path: str) -> None:
    expected = f"feed.clock = {path}: write it as package.module:function"
    assert complaint(feed__clock=path) == expected


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("nowhere:clock", "nowhere"),
        ("nowhere.at.all:clock", "nowhere"),
        ("pushdemo.nowhere:clock", "pushdemo.nowhere"),
        ("pushdemo.feeds.deeper:clock", "pushdemo.feeds.deeper"),
    ],
)
def test_a_module_that_is_not_there_is_named(path: str, missing: str) -> None:
    assert complaint(feed__clock=path) == (
        f"feed.clock = {path}: there is no module {missing};"
        " is it installed, or its directory on PYTHONPATH?"
    )


def test_a_function_that_is_not_there_is_named() -> None:
    expected = "feed.clock = pushdemo.feeds:klock: pushdemo.feeds has no klock"
    assert complaint(feed__clock="pushdemo.feeds:klock") == expected


def test_what_is_not_callable_is_refused_by_its_type(write: Write) -> None:
    write("orders", "newest = 7")
    expected = "feed.orders = orders:newest: newest is a int, not a function"
    assert complaint(feed__orders="orders:newest") == expected


NO_VALUES = """
import functools
from pushdemo.lib.memoize import memorize

async def coroutine(): return 1
def generator(): yield 1
async def both(): yield 1

class Called:
    async def __call__(self): return 1
    def method(self): yield 1
    @classmethod
    async def of_class(cls): return 1
    @staticmethod
    async def static(): return 1

called, method = Called(), Called().method
partial = functools.partial(functools.partial(coroutine))
of_called = functools.partial(Called())
cached = functools.lru_cache(coroutine)
memorized = memorize(duration=1)(functools.lru_cache(generator))
of_memorized = memorize(duration=1)(Called())
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("coroutine", "is an async function"),
        ("generator", "is a generator function"),
        ("both", "is a generator function"),
        ("called", "is an async function"),
        ("method", "is a generator function"),
        ("Called.of_class", "is an async function"),
        ("Called.static", "is an async function"),
        ("partial", "is an async function"),
        ("of_called", "is an async function"),
        ("cached", "is an async function"),
        ("memorized", "is a generator function"),
        ("of_memorized", "is an async function"),
    ],
)
@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_function_that_returns_no_value_is_refused(
    write: Write, name: str, says: str, where: str
) -> None:
    write("orders", NO_VALUES)
    message = complaint(feed__orders=f"orders:{name}", feed__orders__executor=where)
    assert message.startswith(f"feed.orders = orders:{name}: {name} {says}")


def test_what_to_do_with_an_async_function_is_said(write: Write) -> None:
    write("orders", NO_VALUES)
    assert complaint(feed__orders="orders:coroutine") == (
        "feed.orders = orders:coroutine: coroutine is an async function, and a feed's function is"
        " called without an event loop; write a function that returns asyncio.run(...) of it"
    )
    assert complaint(feed__orders="orders:generator") == (
        "feed.orders = orders:generator: generator is a generator function;"
        " a feed's function must return one value, such as a list"
    )


def test_a_function_that_runs_the_event_loop_itself_is_a_function(write: Write) -> None:
    write(
        "orders",
        "import asyncio, functools\n"
        "async def later(): return 'eight'\n"
        "@functools.wraps(later)\n"
        "def newest(): return asyncio.run(later())\n"
        "class Newest:\n    def __call__(self): return 'eight'\n"
        "called = functools.partial(Newest())\n",
    )
    for name in ("newest", "called"):
        orders = declared_in({"feed.orders": f"orders:{name}"}, "orders").feed()
        assert orders is not None
        assert orders.compute(0).payload == Text("eight")


def test_a_function_may_be_an_attribute_of_an_attribute(write: Write) -> None:
    write("orders", "class Newest:\n    @staticmethod\n    def order(): return 'eight'")
    orders = declared_in({"feed.orders": "orders:Newest.order"}, "orders").feed()
    assert orders is not None
    assert orders.compute(0).payload == Text("eight")


def test_an_attribute_that_an_attribute_lacks_is_named_whole(write: Write) -> None:
    write("orders", "class Newest: pass")
    expected = "feed.orders = orders:Newest.order: orders has no Newest.order"
    assert complaint(feed__orders="orders:Newest.order") == expected


def test_a_module_that_misses_another_keeps_its_traceback(write: Write) -> None:
    write("orders", "import nowhere_at_all")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all") as caught:
        load(feed__orders="orders:newest")
    assert where(caught) == "orders.py"


def test_a_module_that_misses_a_name_of_another_keeps_its_traceback(write: Write) -> None:
    write("orders", "from pushdemo.feeds import klock")
    with pytest.raises(ImportError, match="klock") as caught:
        load(feed__orders="orders:newest")
    assert where(caught) == "orders.py"


def test_a_module_that_imports_from_itself_keeps_its_traceback(write: Write) -> None:
    write("orders", "from orders import newest")
    with pytest.raises(ImportError, match="newest") as caught:
        load(feed__orders="orders:newest")
    assert where(caught) == "orders.py"


def test_a_module_that_fails_keeps_its_traceback(write: Write) -> None:
    write("orders", "1 / 0")
    with pytest.raises(ZeroDivisionError) as caught:
        load(feed__orders="orders:newest")
    assert where(caught) == "orders.py"


# The options of all streams


def test_the_boundary_is_the_one_that_is_set() -> None:
    loaded = load(push__boundary="test")
    assert loaded.framings["multipart"] == Multipart("test")
    loaded.close()


def test_a_boundary_that_is_not_set_is_another_each_time_and_hard_to_guess() -> None:
    boundaries = set()
    for _ in range(3):
        loaded = load()
        framing = loaded.framings["multipart"]
        assert isinstance(framing, Multipart)
        assert len(framing.boundary) >= 16
        boundaries.add(framing.boundary)
        loaded.close()
    assert len(boundaries) == 3


def test_what_cannot_be_a_boundary_is_refused_by_its_key() -> None:
    message = complaint(push__boundary="two words")
    assert message.startswith("push.boundary: 'two words' cannot be a boundary: give ")


def test_streams_are_as_many_as_are_set() -> None:
    loaded = load(feed__clock="pushdemo.feeds:clock", push__max_streams="1")
    stream = open_stream(loaded, loaded.channels["clock"])
    with pytest.raises(TooManyStreams):
        open_stream(loaded, loaded.channels["clock"])
    stream.close()
    loaded.close()


def test_streams_are_by_default_as_many_as_descriptors_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pushdemo.push.deliver.descriptors.limit", lambda: 131)
    assert engine.most_streams() == 3  # 131 less twice the reserve of 64
    loaded = load(feed__clock="pushdemo.feeds:clock")
    open_now = [open_stream(loaded, loaded.channels["clock"]) for _ in range(3)]
    with pytest.raises(TooManyStreams):
        open_stream(loaded, loaded.channels["clock"])
    for stream in open_now:
        stream.close()
    loaded.close()


def test_one_stream_is_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushdemo.push.deliver.descriptors.limit", lambda: 20)
    assert engine.most_streams() == 1


@pytest.mark.parametrize(
    ("option", "value"), [("max_streams", "0"), ("max_streams", "many"), ("send_timeout", "0")]
)
def test_a_bad_option_of_all_streams_is_named(option: str, value: str) -> None:
    section = {f"push__{option}": value}
    assert complaint(**section).startswith(f"push.{option} = {value}: this must be a ")


def test_an_unknown_option_of_all_streams_is_named() -> None:
    assert complaint(push__bondary="x") == (
        "push.bondary: there is no such option; did you mean push.boundary?"
    )


def test_options_of_others_are_left_to_them() -> None:
    load(sqlalchemy__url="sqlite://", debug="true").close()


def test_closing_twice_is_no_error() -> None:
    loaded = load()
    loaded.close()
    loaded.close()
