"""What was published with a key, in one process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from pushdemo.push import published
from pushdemo.push.published import MEMORY, Published, check_key


def numbered() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"e-{next(numbers)}"


def test_the_same_key_is_the_same_event_for_a_day_and_one_feed() -> None:
    now = [0.0]
    known = Published(lambda: now[0])
    publish = numbered()
    assert known.once("a", "k", publish) == "e-1"
    assert known.once("a", "l", publish) == "e-2"
    assert known.once("a", "k", publish) == "e-1"
    assert known.once("b", "k", publish) == "e-3"
    assert known.once("a", None, publish) == "e-4"
    now[0] = MEMORY + 1
    assert known.once("a", "k", publish) == "e-5"


def test_what_fails_is_not_known() -> None:
    known = Published()
    with pytest.raises(ZeroDivisionError):
        known.once("a", "k", lambda: str(1 // 0))
    assert known.once("a", "k", lambda: "e-1") == "e-1"


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "MOST", 2)
    known = Published()
    publish = numbered()
    for key in "abc":
        known.once("x", key, publish)
    assert known.once("x", "b", publish) == "e-2"
    assert known.once("x", "a", publish) == "e-4"


def test_a_successor_knows_it() -> None:
    known, other = Published(), Published()
    known.once("x", "k", lambda: "e-1")
    other.restore(known.snapshot())
    assert other.once("x", "k", lambda: "e-2") == "e-1"


def test_two_threads_publish_it_once() -> None:
    known, ids = Published(), list[str]()
    publish = numbered()
    threads = [
        threading.Thread(target=lambda: ids.append(known.once("x", "k", publish))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ids) == {"e-1"}


@pytest.mark.parametrize("key", ["", "x" * 256, "ünï", "a\nb", "\0"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 printable characters of ASCII"):
        check_key(key)
