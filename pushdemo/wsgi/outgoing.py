"""What a process has, for one that takes over from it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pushdemo.handover.succession import Inheritance, OldGoesOn

if TYPE_CHECKING:
    from pushdemo.library import Push


class Outgoing:
    """See pushdemo.handover.takeover.Estate.

    push: whose feeds and streams they are; None where the application has none.
    address: where the successor will listen, for what still comes to this process.
    listeners: those beside the one at `address`.
    left: called when the successor has all of it.
    end: stops this process, as a signal does.
    """

    def __init__(
        self,
        push: Push | None,
        address: str,
        *,
        listeners: Sequence[socket.socket] = (),
        left: Callable[[], None] = lambda: None,
        end: Callable[[], None],
    ) -> None:
        self._push = push
        self._address = address
        self._left = left
        self._end = end
        self.listeners = listeners

    def hold(self) -> None:
        if self._push is not None:
            self._push.hold()

    def snapshot(self) -> tuple[bytes, list[socket.socket]]:
        return (b"", []) if self._push is None else self._push.snapshot()

    def go_on(self) -> None:
        if self._push is not None:
            self._push.go_on()

    def leave(self) -> None:
        # The listener first: a connection that is accepted here now is served here.
        self._left()
        if self._push is not None:
            self._push.leave(self._address)

    def end(self) -> float:
        self._end()
        return 0.0 if self._push is None else self._push.settings.drain


def take(inheritance: Inheritance, push: Push | None) -> None:
    """Go on with what another process had. Raises OldGoesOn: then this process must not serve."""
    try:
        if inheritance.state and push is not None:
            push.restore(inheritance.state, inheritance.clients)
        elif inheritance.clients:
            raise ValueError(
                f"{len(inheritance.clients)} streams are open, and the application has no Push now"
            )
    except ValueError as error:
        raise OldGoesOn(str(error)) from None
    inheritance.take()
    if inheritance.state and push is not None:
        push.go_on()
