"""Compressed streams: the same bytes for all, right for each, whenever it joined."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushdemo.push.compute.payload import payload_of
from pushdemo.push.encode import gzip as module
from pushdemo.push.encode.event_stream import EventStream
from pushdemo.push.encode.framing import Framing
from pushdemo.push.encode.gzip import Gzip
from pushdemo.push.encode.multipart import Multipart
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import CannotCarry, Event, Value

INNER: list[Framing] = [Multipart("test"), EventStream(), NdJson()]


def event(result: object, number: int = 7) -> Event:
    return Event(number, f"e-{number}", "x", Value(payload_of(result), 1.0, 0))


def gunzip() -> zlib._Decompress:
    """A decompressor of RFC 1952, as a browser has one."""
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


@pytest.mark.parametrize("inner", INNER)
@given(texts=st.lists(st.text() | st.just("the same line again " * 20), max_size=6), data=st.data())
def test_whoever_joins_when_reads_every_event_as_soon_as_it_is_there(
    inner: Framing, texts: list[str], data: st.DataObject
) -> None:
    framing = Gzip(inner)
    events = [event(text, number) for number, text in enumerate(texts)]
    joined = data.draw(st.integers(0, len(events)))
    decompress = gunzip().decompress
    assert decompress(framing.opening) == inner.opening
    for each in events[joined:]:
        assert decompress(each.frame(framing)) == inner.encode(each)
        assert decompress(framing.heartbeat) == inner.heartbeat
    assert decompress(framing.reset) == inner.reset


@given(
    pieces=st.lists(st.sampled_from([b"", b"a", b"ab" * 40_000, os.urandom(70_000)])),
    size=st.integers(1, 5000),
)
@example(pieces=[b"", b""], size=1)
def test_any_pieces_however_the_network_cuts_them(pieces: list[bytes], size: int) -> None:
    """Also pieces longer than deflate's window, and than its blocks."""
    stream = Gzip(NdJson()).opening + b"".join(map(module.compress, pieces))
    reader = gunzip()
    read = b"".join(
        reader.decompress(stream[start : start + size]) for start in range(0, len(stream), size)
    )
    assert read == b"".join(pieces)
    assert not reader.eof


def test_one_compression_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[bytes] = []

    def counting(data: bytes) -> bytes:
        compressed.append(data)
        return compress(data)

    compress = module.compress
    monkeypatch.setattr(module, "compress", counting)
    one = event("x")
    frames = [one.frame(Gzip(Multipart("test"))) for _ in range(100)]
    assert all(frame is frames[0] for frame in frames)
    # And those who want it as it is share what was compressed.
    assert compressed == [one.frame(Multipart("test"))]
    assert compressed[0] is one.frame(Multipart("test"))


def test_a_compressed_event_is_a_fraction_of_a_repetitive_one() -> None:
    one = event([{"name": "order", "state": "open"}] * 100)
    assert len(one.frame(Gzip(NdJson()))) < len(one.frame(NdJson())) / 10


def test_the_content_type_is_that_of_what_is_compressed() -> None:
    for inner in INNER:
        assert Gzip(inner).content_type == inner.content_type
        assert (inner.content_encoding, Gzip(inner).content_encoding) == (None, "gzip")


def test_it_carries_what_its_inner_format_does() -> None:
    image = event((b"\x89PNG", "image/png"))
    with pytest.raises(CannotCarry):
        Gzip(EventStream()).encode(image)
    frame = image.frame(Gzip(Multipart("test")))
    opening = Gzip(Multipart("test")).opening
    assert b"\x89PNG" in gunzip().decompress(opening + frame)


def test_it_has_no_last_frame() -> None:
    with pytest.raises(NotImplementedError):
        Gzip(NdJson()).last(b"")


def test_gzip_itself_reads_it_up_to_its_missing_end(tmp_path: Path) -> None:
    if shutil.which("gzip") is None:
        if os.environ.get("CI"):
            raise AssertionError("there is no gzip")
        pytest.skip("there is no gzip")
    framing = Gzip(NdJson())
    events = [event(text) for text in ("one", "two")]
    stream = tmp_path / "stream.gz"
    stream.write_bytes(framing.opening + b"".join(each.frame(framing) for each in events))
    done = subprocess.run(["gzip", "-dc", stream], capture_output=True, check=False)
    assert done.stdout == b"".join(map(NdJson().encode, events))
    assert b"unexpected end of file" in done.stderr
