"""A feed that fails, as its clients see it: the last good value, marked; or 503, at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import Paster, until

FEEDS = """
import pathlib

file = pathlib.Path(__file__).with_name("value")

def read():
    return file.read_text()  # fails where there is no such file
"""
FEED = "feed.orders = userfeeds:read\n"


class Orders:
    """A server with a feed whose value is in a file."""

    def __init__(self, directory: Path, options: str) -> None:
        (directory / "userfeeds.py").write_text(FEEDS)
        self.file = directory / "value"
        self.paster = Paster(directory, FEED + options)

    def work(self, value: str) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_text(value)
        temporary.rename(self.file)

    def fail(self) -> None:
        self.file.unlink(missing_ok=True)

    def document(self) -> tuple[int, dict[str, str], object]:
        status, headers, body = self.paster.get("/server/index/orders?format=json")
        return status, headers, json.loads(body) if status == 200 else body.decode()

    def lines(self, stack: ExitStack) -> Iterator[dict[str, object]]:
        reader = stack.enter_context(self.paster.connect("/server/index/orders?format=ndjson"))
        assert reader.head()[0] == 200
        while line := reader.line():
            if line.strip():
                yield json.loads(line)

    def forget(self) -> None:
        """Wait until nobody watches and the value has expired."""
        until(lambda: self._type() is None, "the value to expire")

    def _type(self) -> str | None:
        feeds = json.loads(self.paster.get("/server/feeds")[2])
        (kind,) = [feed["type"] for feed in feeds if feed["name"] == "orders"]
        return kind  # type: ignore[no-any-return]


@pytest.fixture
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Orders]:
    orders = Orders(tmp_path, getattr(request, "param", "feed.orders.interval = 0.2\n"))
    yield orders
    orders.paster.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


SELDOM = "feed.orders.interval = 3600\n"


@pytest.mark.parametrize("orders", [SELDOM], indirect=True)
@pytest.mark.parametrize("format", ["json", "xml", "sse", "ndjson", "multipart"])
def test_without_any_value_each_request_is_refused_at_once(orders: Orders, format: str) -> None:  # noqa: A002
    began = time.monotonic()
    for _ in range(4):
        status, headers, body = orders.paster.get(f"/server/index/orders?format={format}")
        assert status == 503
        assert int(headers["retry-after"]) > 0
        assert b"There is no value yet" in body
    assert time.monotonic() - began < 10  # the second waited for 30 s once
    assert "has no value to send: FileNotFoundError" in orders.paster.output
    assert "sends its last value" not in orders.paster.output


def test_it_is_tried_again_by_who_comes_after_the_pause(orders: Orders) -> None:
    assert orders.document()[0] == 503
    orders.work("one")
    until(lambda: orders.document()[::2] == (200, "one"), "a value")


@pytest.mark.parametrize(
    "orders",
    ["feed.orders.interval = 0.2\n", "feed.orders.interval = 0.2\nfeed.orders.repeat = false\n"],
    indirect=True,
    ids=["repeat", "no repeat"],
)
def test_who_comes_to_a_feed_that_fails_has_its_last_value_and_is_told_so(
    orders: Orders, stack: ExitStack
) -> None:
    orders.work("one")
    assert orders.document()[::2] == (200, "one")
    orders.forget()
    orders.fail()
    for _ in range(2):  # the first finds out that it fails, the second knows
        events = orders.lines(stack)
        first = next(events)
        assert (first["value"], first["feed"]) == ("one", "orders")
        said = next(one for one in events if "event" in one)
        assert (said["event"], said["feed"]) == ("error", "orders")
        assert isinstance(said["since"], float)
    status, headers, value = orders.document()
    assert (status, value) == (200, "one")
    assert int(headers["age"]) >= 0
    assert "GMT" in headers["feed-failing-since"]
    orders.work("two")
    assert next(one for one in events if one.get("event") == "recovered")
    assert next(one for one in events if one.get("value") == "two")
    until(lambda: orders.document()[2] == "two", "the next value")
    assert {"age", "feed-failing-since"}.isdisjoint(orders.document()[1])


def test_a_combined_stream_has_the_last_value_of_the_part_that_fails(
    orders: Orders, stack: ExitStack
) -> None:
    orders.work("one")
    assert orders.document()[0] == 200
    orders.forget()
    orders.fail()
    reader = stack.enter_context(orders.paster.connect("/server/index/orders+clock?format=ndjson"))
    assert reader.head()[0] == 200
    seen: dict[object, object] = {}
    while set(seen) != {"orders", "clock"}:
        event = json.loads(reader.line())
        if "value" in event:
            seen[event["feed"]] = event["value"]
    assert seen["orders"] == "one"
