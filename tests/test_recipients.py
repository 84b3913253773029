"""Rosters, held against a plain list."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushdemo.push.deliver.recipients import Recipients

pytestmark = pytest.mark.usefixtures("in_c")


class Guest:
    def __init__(self) -> None:
        self.sock, self.client = socket.socketpair()
        self.sock.setblocking(False)
        self.client.setblocking(False)
        self.seat = -1

    def got(self) -> bytes:
        try:
            return self.client.recv(100)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.sock.close()
        self.client.close()


@pytest.fixture(scope="module")
def guests() -> Iterator[list[Guest]]:
    guests = [Guest() for _ in range(8)]
    yield guests
    for guest in guests:
        guest.close()


@given(st.lists(st.integers(0, 7), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_is_in_it_is_sent_to_and_nobody_else(guests: list[Guest], steps: list[int]) -> None:
    """Each step seats a guest, or takes it out if it is seated."""
    recipients: Recipients[Guest] = Recipients()
    seated: set[Guest] = set()
    for number in steps:
        guest = guests[number]
        if guest in seated:
            recipients.remove(guest)
            assert guest.seat == -1
        else:
            recipients.add(guest)
            assert guest.seat == len(recipients) - 1
        seated ^= {guest}
        assert len(recipients) == len(seated)
        assert set(recipients[:]) == seated
        assert [one.seat for one in recipients[:]] == list(range(len(seated)))
    assert recipients.send(b"event", slice(None)) == []
    assert [guest.got() for guest in guests] == [b"event" * (guest in seated) for guest in guests]
    for guest in recipients[:]:
        recipients.remove(guest)


@given(st.integers(1, 7), st.sets(st.integers(0, 7)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_last_seats_stay_the_same_guests_when_some_of_them_leave(
    guests: list[Guest], start: int, leaving: set[int]
) -> None:
    recipients: Recipients[Guest] = Recipients()
    for guest in guests:
        recipients.add(guest)
    late = set(guests[start:])
    for number in leaving:
        if number >= start:
            recipients.remove(guests[number])
            late.discard(guests[number])
    assert set(recipients[start:]) == late
    assert recipients.send(b"late", slice(start, None)) == []
    assert {guest for guest in guests if guest.got()} == late
    for guest in recipients[:]:
        recipients.remove(guest)


def test_who_is_gone_is_told_of_and_none_is_always_the_last() -> None:
    recipients: Recipients[Guest] = Recipients()
    gone = [Guest() for _ in range(3)]
    for guest in gone:
        guest.client.close()
        recipients.add(guest)
    there = [(guest, -1) for guest in gone]
    orders = [recipients.send(b"event", slice(None)) for _ in range(4)]
    assert sorted(map(there.__eq__, orders)) == [False, False, True, True]
    assert all(order in (there, there[::-1]) for order in orders)
    assert orders[0] != orders[1]
    for guest in gone:
        guest.close()
