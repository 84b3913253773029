"""`application/x-ndjson`: each event is a line that any reader of JSON takes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode.json import json_of
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.variants import named
from pushdemo.push.event import CannotCarry, Event, Value

FRAMING = NdJson()

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def event(result: object, number: int = 7, feed: str = "x", computed: float = 1.25) -> Event:
    return Event(number, f"e-{number}", feed, Value(payload_of(result), computed, 0))


def test_a_frame_is_these_bytes() -> None:
    assert FRAMING.encode(event({"a": "ü"}, feed="größe")) == (
        '{"id":"e-7","feed":"größe","computed":1.25,"took":0.0,"value":{"a":"ü"}}\n'.encode()
    )


@given(st.lists(values, min_size=1, max_size=4), st.text())
@example(["\u2028\u2029\u0085", {"\u2028": "\\\u2028"}], "\u2029")
def test_every_reader_of_lines_finds_the_same_lines(results: list[Any], feed: str) -> None:
    """httpx and `requests.iter_lines(decode_unicode=True)` split as str.splitlines does."""
    stream = b"".join(FRAMING.encode(event(value, feed=feed)) for value in results).decode()
    lines = stream.splitlines()
    assert lines == stream.split("\n")[:-1]
    assert [json.loads(line)["value"] for line in lines] == results
    assert all(json.loads(line)["feed"] == feed for line in lines)


@given(st.lists(values, min_size=1, max_size=4))
@example(["\u2028\u2029\u0085\r\n\x0b\x0c\x1c\0", '"}', {'"': "\\"}, None, ""])
def test_each_event_is_one_line_with_exactly_these_keys(results: list[Any]) -> None:
    frames = [FRAMING.encode(event(value, number)) for number, value in enumerate(results)]
    stream = FRAMING.opening + b"".join(frames)
    lines = stream.split(b"\n")
    assert lines.pop() == b""
    assert b"\r" not in stream
    assert [json.loads(line) for line in lines] == [
        {"id": f"e-{number}", "feed": "x", "computed": 1.25, "took": 0.0, "value": value}
        for number, value in enumerate(results)
    ]


@given(st.text(min_size=1))
@example('"}\\')
def test_any_feed_s_name_comes_back(feed: str) -> None:
    assert json.loads(FRAMING.encode(event("x", feed=feed)))["feed"] == feed


def test_the_time_is_to_the_microsecond() -> None:
    line = FRAMING.encode(event("x", computed=1_700_000_000.1234567))
    assert json.loads(line)["computed"] == 1_700_000_000.123457


def test_python_s_json_tool_reads_a_stream() -> None:
    frames = [FRAMING.encode(event(value)) for value in ("\u2026 <&>", {"ü": [1.5, None]}, False)]
    tool = [sys.executable, "-X", "utf8", "-m", "json.tool", "--json-lines", "--compact"]
    done = subprocess.run(
        [*tool, "--no-ensure-ascii"], input=b"".join(frames), capture_output=True, check=True
    )
    assert done.stdout == b"".join(frames)


@given(st.lists(values, min_size=1, max_size=4), st.integers(0, 3))
def test_a_heartbeat_is_a_space_before_the_next_object(results: list[Any], beats: int) -> None:
    assert FRAMING.heartbeat == b" "
    frames = [FRAMING.heartbeat * beats + FRAMING.encode(event(value)) for value in results]
    lines = b"".join(frames).splitlines()
    assert [json.loads(line)["value"] for line in lines] == results


def test_a_reset_is_an_event_without_a_feed() -> None:
    assert FRAMING.reset.endswith(b"\n")
    assert json.loads(FRAMING.reset) == {"event": "reset"}


def test_the_last_frame_is_as_any_other() -> None:
    frame = FRAMING.encode(event("x"))
    assert FRAMING.last(frame) == frame


def test_events_of_several_feeds_are_told_apart_as_they_are() -> None:
    assert named(FRAMING) is FRAMING


@given(values)
def test_the_value_alone_is_json(value: Any) -> None:
    assert json.loads(json_of(event(value))) == value


def test_it_cannot_carry_bytes() -> None:
    with pytest.raises(CannotCarry):
        FRAMING.encode(event((b"x", "image/png")))
    assert event((b"x", "image/png")).frame(FRAMING) == b""
