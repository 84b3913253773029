"""What goes from one process to the next: there and back, and what is no such thing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import Blob, Data, Text
from pushdemo.push.deliver.answer import (
    Condition,
    Continuation,
    Fallbacks,
    PollAnswer,
    StreamAnswer,
)
from pushdemo.push.encode.document import Document, DocumentFraming
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.image import Images
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.encode.websocket import WebSocket
from pushdemo.push.event import FeedStatus, Value
from pushdemo.push.head import Head
from pushdemo.push.position import Place
from pushdemo.push.response import Response
from pushdemo.push.snapshot import codec
from pushdemo.push.snapshot.codec import LONG, Unreadable, Vocabulary
from pushdemo.push.snapshot.state import (
    VOCABULARY,
    AudienceState,
    BeatState,
    BlockedState,
    ChannelState,
    CombinedState,
    EngineState,
    EventState,
    PartState,
    PublishedState,
    WaitingState,
)

WORDS = st.text(max_size=2 * LONG)
NUMBERS = st.integers(min_value=0, max_value=2**63)
TIMES = st.floats(allow_nan=False)


def short(some: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(some, max_size=3).map(tuple)


payloads = st.one_of(
    st.builds(Text, WORDS), st.builds(Data, WORDS), st.builds(Blob, st.binary(), WORDS)
)
values = st.builds(Value, payloads, computed=TIMES, fresh_until=NUMBERS, took=TIMES)
events = st.builds(EventState, NUMBERS, WORDS, WORDS, values, WORDS, st.booleans())
places = st.builds(Place, WORDS, NUMBERS)
positions = st.none() | short(places)
headers = short(st.tuples(WORDS, WORDS))
responses = st.builds(Response, WORDS, headers, st.binary())
fallbacks = st.builds(Fallbacks, responses, responses)
multiparts = st.builds(
    Multipart, st.from_regex(r"[a-z]{1,70}", fullmatch=True), NUMBERS, st.booleans()
)
makers = st.builds(Head, headers, WORDS)
documents = st.builds(DocumentFraming, st.builds(Document, WORDS, headers), makers)
plain = st.one_of(
    st.builds(EventStream, NUMBERS, st.booleans()),
    st.builds(NdJson),
    st.builds(WebSocket, st.booleans()),
    multiparts,
)
framings = st.one_of(plain, st.builds(Gzip, plain), st.builds(Images, multiparts), documents)
answers = st.one_of(
    st.builds(StreamAnswer, framings, st.binary(), makers, fallbacks),
    st.builds(
        PollAnswer,
        documents,
        st.builds(Condition, NUMBERS, TIMES, responses, short(WORDS)),
        fallbacks,
    ),
    st.builds(Continuation, framings),
)
limits = st.none() | NUMBERS
channels = st.builds(
    ChannelState,
    *(WORDS, WORDS, NUMBERS, short(events), st.booleans(), NUMBERS, st.booleans()),
    st.none() | st.builds(FeedStatus, NUMBERS, WORDS, st.none() | TIMES),
    *(NUMBERS, WORDS, NUMBERS, short(WORDS)),
)
parts = st.builds(PartState, NUMBERS, places, short(st.tuples(NUMBERS, events)))
audiences = st.builds(
    AudienceState,
    *(short(WORDS), framings, NUMBERS, TIMES, st.dictionaries(WORDS, NUMBERS, max_size=2)),
    *(NUMBERS, short(NUMBERS)),
    short(st.builds(WaitingState, answers, limits, positions, NUMBERS, short(WORDS), short(TIMES))),
    short(
        st.builds(
            BlockedState,
            *(st.binary(), NUMBERS, NUMBERS, limits, positions, st.none() | TIMES, st.binary()),
        )
    ),
    short(st.tuples(NUMBERS, st.binary())),
)
beats = st.builds(
    BeatState, WORDS, NUMBERS, limits, limits, NUMBERS, st.none() | TIMES, NUMBERS, WORDS
)
engines = st.builds(
    EngineState,
    short(channels),
    short(st.builds(CombinedState, short(WORDS), NUMBERS, NUMBERS, short(parts))),
    short(beats),
    short(audiences),
    short(st.builds(PublishedState, WORDS, WORDS, TIMES, WORDS)),
)


def fields(value: Any) -> Any:
    """A value as one that can be compared: an answer is equal to nothing but itself."""
    if isinstance(value, StreamAnswer | PollAnswer | Continuation):
        return type(value), vars(value)
    if isinstance(value, tuple):
        return type(value), [fields(member) for member in value]
    return value


@given(engines)
def test_an_engine_is_the_same_there_and_back(state: EngineState) -> None:
    back = VOCABULARY.decode(EngineState, codec.encode(state))
    assert fields(back) == fields(state)


@given(engines, st.data())
def test_whatever_was_done_to_the_bytes_is_refused_or_read_whole(
    state: EngineState, data: st.DataObject
) -> None:
    encoded = bytearray(codec.encode(state))
    index = data.draw(st.integers(0, len(encoded) - 1))
    match data.draw(st.sampled_from(["changed", "cut", "longer"])):
        case "changed":
            encoded[index] = data.draw(st.integers(0, 255))
        case "cut":
            del encoded[index:]
        case _:
            encoded += data.draw(st.binary(min_size=1))
    with contextlib.suppress(Unreadable):
        back = VOCABULARY.decode(EngineState, bytes(encoded))
        assert isinstance(back, EngineState)  # a letter or a digit that is another


def test_what_is_there_several_times_is_carried_once() -> None:
    frame = b"x" * 100_000
    state = [BlockedState(frame, start, 0, None, None, 0.0) for start in range(50)]
    encoded = codec.encode(state)
    assert len(encoded) < 110_000
    back = VOCABULARY.decode(tuple[BlockedState, ...], encoded)
    assert {id(one.frame) for one in back} == {id(back[0].frame)}


class Kind(Protocol):
    """What stands for either of two."""


@dataclass(frozen=True)
class One:
    number: int


class Other(NamedTuple):
    kinds: Sequence[Kind]
    called: Mapping[str, float]


HERE = Vocabulary({Kind: (One, Other)})


class Holder(NamedTuple):
    kind: Kind
    text: str | None
    data: bytes
    pair: tuple[int, str]


def test_a_protocol_is_read_as_one_of_what_it_may_be() -> None:
    holder = Holder(Other((One(1), Other((), {"a": 1.5})), {}), None, b"\0", (1, "ä" * 300))
    assert HERE.decode(Holder, codec.encode(holder)) == holder


class Renamed(NamedTuple):
    kind: int


class Fewer(NamedTuple):
    kind: Kind
    text: str


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (One(1), "Holder expected"),
        (Holder(One(1), None, b"", (1, "a"))._replace(pair=(1,)), "sequence of 2 expected"),  # type: ignore[arg-type]
        (Holder(Renamed(1), None, b"", (1, "a")), "One or Other expected"),
        (Holder(One(True), None, b"", (1, "a")), "int expected, not true"),
        (Holder(One(1), 1.5, b"", (1, "a")), "expected, not 1.5"),  # type: ignore[arg-type]
        (Holder(One(1), None, None, (1, "a")), "bytes expected, not null"),  # type: ignore[arg-type]
        (Holder(Other(7, {}), None, b"", (1, "a")), "sequence expected, not 7"),  # type: ignore[arg-type]
        (Holder(Other((), (1,)), None, b"", (1, "a")), "mapping expected"),  # type: ignore[arg-type]
    ],
)
def test_another_type_than_the_field_has_is_refused(value: Any, complaint: str) -> None:
    with pytest.raises(Unreadable, match=complaint):
        HERE.decode(Holder, codec.encode(value))


def test_another_number_of_fields_is_refused() -> None:
    encoded = codec.encode(Fewer(One(1), "")).replace(b"Fewer", b"Holder")
    length = int.from_bytes(encoded[:8], "big") + 1
    with pytest.raises(Unreadable, match="Holder with 4 fields expected"):
        HERE.decode(Holder, length.to_bytes(8, "big") + encoded[8:])


def test_what_a_record_refuses_is_refused() -> None:
    encoded = codec.encode(Multipart("good")).replace(b"good", b"go d")
    with pytest.raises(Unreadable, match="boundary"):
        VOCABULARY.decode(Multipart, encoded)


def test_a_snapshot_nested_without_end_is_refused() -> None:
    text = b'{"blobs":[],"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(Unreadable):
        HERE.decode(Holder, len(text).to_bytes(8, "big") + text)


@pytest.mark.parametrize("value", [{1: 2}, object(), [lambda: None], {"a": object()}])
def test_what_is_no_value_is_not_carried(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be carried"):
        codec.encode(value)


def test_a_field_that_nothing_is_known_of_is_an_error_of_the_program() -> None:
    class Odd(NamedTuple):
        call: Callable[[], None]

    with pytest.raises((TypeError, NameError)):
        HERE.decode(Odd, codec.encode(Odd(3)))  # type: ignore[arg-type]
