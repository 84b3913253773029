"""One run of the server: from its listening socket, made or taken over, to its end or successor."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pushdemo.handover.address import socket_path
from pushdemo.handover.reload import Reload, take_over_asked
from pushdemo.handover.succession import Inheritance, OldGoesOn, succeed
from pushdemo.library import Push, pushes
from pushdemo.push.options import ConfigError
from pushdemo.push.signals import at_once, stopping
from pushdemo.servers import control
from pushdemo.servers.control import Control
from pushdemo.servers.listening import listen
from pushdemo.wsgi.outgoing import take

if TYPE_CHECKING:
    from pushdemo.servers.paste_http import Server

log = logging.getLogger(__name__)

LAST_CALLS = 6.0  # seconds for those that have called at the control socket


class Place:
    """Where a server is found: by clients, and by its successor.

    address: host and port.
    given: the address of the control socket, or nothing for the default.

    take_over: this process was started to take over from another.

    Raises ConfigError.
    """

    def __init__(self, address: tuple[str, int], given: str) -> None:
        self.address = address
        self.control = given
        self._is_default = not given
        if not given and address[1]:
            self.control = control.default_address(*address)
        try:
            if self.control:
                socket_path(self.control)
        except ValueError as error:
            raise ConfigError(f"control = {given}: {error}") from None
        asked = take_over_asked()
        self.take_over = asked is not None
        if self.take_over and not self.control:
            raise ConfigError("--take-over: with port = 0 there is no other process to be found")
        if asked and asked != self.control:
            raise ConfigError(
                f"the server that is to be taken over is controlled at {asked}, and the ini says"
                f" {self.control} now: stop that server, and start this one"
            )

    def prepare(self) -> None:
        """Make the directory of the default control socket. Raises OSError and ConfigError."""
        if self._is_default:
            control.make_directory(self.control)


class Serving:
    """See the module.

    make: makes the server of a listening socket.
    backlog: of that.
    """

    def __init__(self, place: Place, make: Callable[[socket.socket], Server], backlog: int) -> None:
        self._place = place
        self._make = make
        self._backlog = backlog
        self._reload = Reload(place.control)
        self._reload.await_signal()

    def serve(self, application: Any, listener: socket.socket | None, *, collapse: bool) -> None:
        """Until it is stopped, or a successor has taken over: then this process may become that
        one's guardian, and this never returns.

        listener: None where it is to be taken over.
        """
        try:
            push, why_not = only_push(), ""
        except ValueError as error:
            push, why_not = None, str(error)
        inheritance = None
        if listener is None:
            inheritance = self._inherit(why_not)
            listener = (
                listen(self._place.address, self._backlog)
                if inheritance is None
                else inheritance.listeners[1]
            )
        server = self._make(listener)
        server.serve_application(application, collapse=collapse)
        controlled = self._control(server, push, listener, inheritance, why_not)
        stop = self._reload.noting(server.stop)
        with stopping(stop, server.wakeup_fd(), signal.SIGINT, signal.SIGTERM):
            if inheritance is not None:
                try:
                    take(inheritance, push)
                except OldGoesOn as error:
                    raise _refused(error) from None
            if controlled is not None:
                controlled.start()
            self._reload.serves(stop)
            print(f"serving on http://{server.authority}", flush=True)
            server.serve_forever()
        if controlled is not None:
            controlled.close(LAST_CALLS)
            if controlled.successor is not None:
                self._reload.guard(controlled.successor)
                return
        if push is not None:
            if push.settings.drain:
                at_once(signal.SIGINT, signal.SIGTERM)
            push.close()

    def _inherit(self, why_not: str) -> Inheritance | None:
        if why_not:
            raise ConfigError(why_not)
        try:
            inheritance = succeed(socket_path(self._place.control))
        except OldGoesOn as error:
            raise _refused(error) from None
        if inheritance is not None and len(inheritance.listeners) != 2:
            raise ConfigError(f"what listens at {self._place.control} is no server of this kind")
        return inheritance

    def _control(
        self,
        server: Server,
        push: Push | None,
        listener: socket.socket,
        inheritance: Inheritance | None,
        why_not: str,
    ) -> Control | None:
        if not self._place.control:
            why_not = why_not or "with port = 0 it has no control socket"
        if not why_not:
            try:
                self._place.prepare()
                return Control(
                    self._place.control,
                    push,
                    listener,
                    inherited=inheritance,
                    left=server.retire,
                    end=server.stop,
                )
            except (OSError, ConfigError) as error:
                why_not = f"it has no control socket: {error}"
                log.warning("another process cannot take over from this one: %s", why_not)
        self._reload.cannot(why_not)
        return None


def _refused(error: OldGoesOn) -> ConfigError:
    return ConfigError(f"it cannot take over, and the old process goes on: {error}")


def only_push() -> Push | None:
    """The Push whose streams this process holds; None where there is none. Raises ValueError where
    there are several."""
    here = pushes()
    if len(here) > 1:
        raise ValueError(
            f"the application has {len(here)} Push objects; a process with one can be taken over"
        )
    return here[0] if here else None
