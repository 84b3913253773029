"""Sockets that are waited for, by epoll and without it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from pushdemo.push.deliver import watched as module
from pushdemo.push.deliver.watched import READ, WRITE, Watched, watched

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


@pytest.fixture(params=[watched, module._Selector], ids=["the system's", "the standard library's"])
def waiting(request: pytest.FixtureRequest) -> Iterator[Watched[str]]:
    make: Callable[[], Watched[str]] = request.param
    waiting = make()
    yield waiting
    waiting.close()


def test_what_is_ready_is_named(waiting: Watched[str], pair: Pair) -> None:
    one, other = pair
    waiting.register(one, READ, "one")
    assert waiting.select(0) == []
    other.send(b"x")
    assert waiting.select(0) == [("one", READ)]
    waiting.modify(one, READ | WRITE, "another")
    assert waiting.select(None) == [("another", READ | WRITE)]
    one.recv(1)
    assert waiting.select(0) == [("another", WRITE)]
    assert list(waiting) == ["another"]
    assert len(waiting) == 1
    waiting.unregister(one)
    assert waiting.select(0) == []
    assert list(waiting) == []


def test_one_that_has_ended_is_ready_to_be_read(waiting: Watched[str], pair: Pair) -> None:
    one, other = pair
    waiting.register(one, READ, "one")
    other.close()
    ((data, mask),) = waiting.select(0)
    assert data == "one"
    assert mask & READ


def test_one_that_has_gone_in_this_turn_is_not_named(waiting: Watched[str], pair: Pair) -> None:
    one, other = pair
    waiting.register(one, READ, "one")
    other.send(b"x")
    waiting.unregister(one)
    assert waiting.select(0) == []
    with pytest.raises((KeyError, ValueError)):
        waiting.unregister(one)


def test_a_copy_elsewhere_does_not_keep_it_here(waiting: Watched[str], pair: Pair) -> None:
    one, other = pair
    with one.dup():
        waiting.register(one, READ, "one")
        waiting.unregister(one)
        one.close()
        other.send(b"x")
        assert waiting.select(0) == []


def test_one_that_is_closed_cannot_be_waited_for(waiting: Watched[str], pair: Pair) -> None:
    pair[0].close()
    with pytest.raises((OSError, ValueError)):
        waiting.register(pair[0], READ, "one")
    assert len(waiting) == 0
