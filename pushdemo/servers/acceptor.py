"""The acceptor: takes connections in, and waits for their requests, without a thread for any.

A worker is worth having only for a request that is all there. Until then a connection lives here,
in one selector: however many never say anything, and however slowly they say it, they keep no other
client waiting. Each has `timeout` seconds for its head, and more for a body: see Connection.

An error in the work for one connection ends that connection alone. An error in the loop itself is
logged, and the loop goes on with a new selector and all that it owned.

Two things are bounded here for all connections together:
- Memory. Incomplete requests have at most HELD bytes: beyond that the largest are refused. What has
  come with new connections and was not looked at yet has as many: beyond that none is accepted.
- Descriptors. The lowest free number is the one a new connection gets, so a number near the limit
  means that few are left; those few are for the files, pipes and sockets of the application. A
  connection that gets such a number takes the place of the one that has been without a complete
  request for the longest, or is told to come again later.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from pushdemo.push.deliver import descriptors, sockets
from pushdemo.servers import memory
from pushdemo.servers.connection import CHUNK, Connection, turn_away
from pushdemo.servers.refusal import Busy, Refused
from pushdemo.servers.request import Exchange

log = logging.getLogger(__name__)

PAUSE = 0.25  # seconds without accepting, when the system has no descriptor to give
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0  # seconds, after an error in the loop; doubled each time
BURST = 256  # connections accepted, and looked at, in one go
BURSTS = 16  # in which connections are accepted, before anything else is done
FIRST = 16 * 1024  # bytes read of a connection with its acceptance, a whole burst at a time
HELD = 64 * 1024 * 1024  # bytes, see above
SHED = HELD * 3 // 4  # down to which incomplete requests are refused, beyond HELD
FREED = 16 * 1024 * 1024  # bytes of requests that have gone, after which memory is given back

Deliver = Callable[[list[Exchange]], None]


class Acceptor:
    """Accepts on `listener` and hands complete requests to `deliver`, as many at a time as have
    come.

    timeout: seconds for a request's head to come.
    max_body: bytes of a request's body; they are kept in memory.
    """

    def __init__(
        self, listener: socket.socket, deliver: Deliver, *, timeout: float, max_body: int
    ) -> None:
        self._listener = listener
        self._deliver = deliver
        self._timeout = timeout
        self._max_body = max_body
        self._connections: OrderedDict[Connection, None] = OrderedDict()  # oldest first
        self._held = 0  # bytes, by incomplete requests
        # New connections that have said something, which was not looked at. In a storm most of them
        # wait here, where they take the least memory.
        self._arrived: deque[tuple[socket.socket, float, bytes]] = deque()
        self._arrived_bytes = 0
        self._ready: list[Exchange] = []  # complete requests
        self._freed = 0  # bytes, by requests that have gone since memory was given back
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        self._waking.setblocking(False)
        self._waker.setblocking(False)
        self._paused_until: float | None = None
        self._look = 0.0  # when deadlines are looked at next
        self._exhausted = False
        self._cannot_watch = False
        self._running = True
        self._retire_by: float | None = None

    def run(self) -> None:
        """Accept until `stop`, or until `retire` and a little longer."""
        self._listener.setblocking(False)
        failures = 0
        self._watch_all()
        while self._running and not self._has_retired():
            try:
                if failures:
                    self._watch_all()
                self._turn()
                failures = 0
            except Exception:
                log.exception("the acceptor goes on after an error that it should not have had")
                time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures))
                failures = min(failures + 1, 10)
        self._end()

    def stop(self) -> None:
        """End `run`. Any thread, and signal handlers."""
        self._running = False
        with contextlib.suppress(OSError):  # closed: it has ended; or full: it will wake up
            self._waker.send(b"\0")

    def retire(self) -> None:
        """Accept no more: another process does. `run` ends when the requests that are here have
        come, or time out. Any thread."""
        self._retire_by = time.monotonic() + self._timeout
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd: a signal that comes just before the selector begins to wait
        has its handler run only after that."""
        return self._waker.fileno()

    # The loop

    def _has_retired(self) -> bool:
        if self._retire_by is None:
            return False
        nothing_is_here = not (self._connections or self._arrived or self._ready)
        return nothing_is_here or time.monotonic() >= self._retire_by

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._idle()):
            if key.fileobj is self._listener:
                if self._retire_by is None:
                    self._accept()
                else:
                    self._selector.unregister(self._listener)
            elif key.fileobj is self._waking:
                sockets.receive(self._waking, CHUNK)
            elif key.data in self._connections:  # and did not just have to make room
                self._receive(key.data)
        # Not all at once: others come meanwhile.
        self._look_at_arrived(BURST)
        self._hand_over()
        if (now := time.monotonic()) >= self._look:
            self._look = now + min(1.0, self._timeout / 4)
            self._give_up(now)
            if self._freed > FREED:
                self._freed = 0
                memory.release()
        if self._paused_until is not None and now >= self._paused_until:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._paused_until = None

    def _watch_all(self) -> None:
        """Have a new selector watch what there is to watch."""
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waking, selectors.EVENT_READ)
        if self._paused_until is None:
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in list(self._connections):
            if not self._watch(connection):
                self._close(connection)

    def _watch(self, connection: Connection) -> bool:
        """False if the system cannot watch one more."""
        try:
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        except (OSError, ValueError):
            connection.watched = False
            if not self._cannot_watch:  # once, not once a connection
                self._cannot_watch = True
                log.exception("new connections are turned away that cannot be watched")
        else:
            connection.watched = True
            self._cannot_watch = False
        return connection.watched

    def _idle(self) -> float | None:
        """For how many seconds nothing is due; None for ever."""
        if self._arrived or self._ready:
            return 0
        if self._paused_until is not None:
            return PAUSE
        if self._connections or self._freed > FREED:
            return min(1.0, self._timeout / 4)
        return None

    def _hand_over(self) -> None:
        ready, self._ready = self._ready, []
        try:
            if ready:
                self._deliver(ready)
        except Exception:
            log.exception("requests were lost by an error that there should not have been")

    def _end(self) -> None:
        self._look_at_arrived(len(self._arrived))
        self._hand_over()
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def close(self) -> None:
        """After `run`: close what wakes it, to which signals are written until then."""
        self._waking.close()
        self._waker.close()

    # New connections

    def _accept(self) -> None:
        # All that wait, before any of them is served: what overflows the listener's queue comes
        # again only after a second or more.
        for _ in range(BURSTS):
            if self._arrived_bytes > HELD or self._accept_some() < BURST:
                return

    def _accept_some(self) -> int:
        """Accept a burst, if so many wait; returns how many it were."""
        reserve = descriptors.limit() - descriptors.RESERVE
        try:
            arrivals = sockets.accept(self._listener, most=BURST, size=FIRST, highest=reserve)
        except OSError as error:
            if error.errno in sockets.BROKEN:
                raise
            # There is no descriptor to give.
            if not self._make_room():
                self._report_exhaustion()
                self._pause()
            return 0
        deadline = time.monotonic() + self._timeout
        for sock, received in arrivals:
            if sock.fileno() < reserve:
                self._exhausted = False
                self._arrive(sock, deadline, received)
            elif (lower := self._lower(sock)) is not None:
                self._arrive(lower, deadline, received)
            else:
                self._report_exhaustion()
                turn_away(sock, Busy())
        return len(arrivals)

    def _lower(self, sock: socket.socket) -> socket.socket | None:
        """The same connection by a number that another one had to give; None if there is none.
        Otherwise those of the reserve would go one by one."""
        if not self._make_room():
            return None
        try:
            lower = sock.dup()
        except OSError:  # another process was faster
            return None
        sock.close()
        return lower

    def _arrive(self, sock: socket.socket, deadline: float, received: bytes | None) -> None:
        if received:
            self._arrived.append((sock, deadline, received))
            self._arrived_bytes += len(received)
        else:
            self._welcome(Connection(sock, deadline, self._max_body), received)

    def _look_at_arrived(self, most: int) -> None:
        for _ in range(min(most, len(self._arrived))):
            sock, deadline, received = self._arrived.popleft()
            self._arrived_bytes -= len(received)
            self._welcome(Connection(sock, deadline, self._max_body), received)

    def _welcome(self, connection: Connection, received: bytes | None) -> None:
        """Most requests come whole, with their connection, which then need not be watched."""
        self._connections[connection] = None
        self._take(connection, received)
        if connection in self._connections and not self._watch(connection):
            self._forget(connection)
            turn_away(connection.sock, Busy())

    def _make_room(self) -> bool:
        """Close the connection that has been without a request the longest, if there is one."""
        for connection in self._connections:
            self._close(connection)
            return True
        return False

    def _report_exhaustion(self) -> None:
        if not self._exhausted:  # once, not once a connection
            self._exhausted = True
            log.error(
                "out of descriptors (the limit is %d): new connections are turned away until some"
                " are free; raise the limit with ulimit -n, or lower push.max_streams",
                descriptors.limit(),
            )

    def _pause(self) -> None:
        # The listener stays readable while connections wait there: to ask again at once is to spin.
        self._paused_until = time.monotonic() + PAUSE
        self._selector.unregister(self._listener)

    # What connections say

    def _receive(self, connection: Connection) -> None:
        self._take(connection, sockets.receive(connection.sock, CHUNK))

    def _take(self, connection: Connection, received: bytes | None) -> None:
        """What has come on a connection, as `sockets.receive` says it."""
        if received is None:
            return
        if not received:
            self._end_of(connection)
        elif not connection.refused:
            try:
                self._feed(connection, received)
            except Refused as refusal:
                self._refuse(connection, refusal)
            except Exception:
                log.exception("a connection is closed after an error that it should not have had")
                self._refuse(
                    connection,
                    Refused("500 Internal Server Error", "The server's log says what went wrong."),
                )
            if self._held > HELD:
                self._shed()

    def _end_of(self, connection: Connection) -> None:
        """A client that says no more may still read (RFC 9112, section 8)."""
        if connection.refused or connection.is_silent:
            self._close(connection)
        else:
            self._forget(connection)
            turn_away(
                connection.sock,
                Refused("400 Bad Request", "The request broke off: send the whole of it."),
            )

    def _feed(self, connection: Connection, received: bytes) -> None:
        before = connection.held
        request = connection.feed(received)
        self._held += connection.held - before
        if request is not None:
            self._forget(connection)
            self._freed += request.weight
            self._ready.append(Exchange(connection.sock, request))

    def _shed(self) -> None:
        """Refuse the largest of the incomplete requests; a request as browsers send them is not
        among them. Several at a time, or each chunk that comes would have all of them sorted."""
        for connection in sorted(self._connections, key=lambda one: one.held, reverse=True):
            if self._held <= SHED:
                return
            self._refuse(connection, Busy())

    def _refuse(self, connection: Connection, refusal: Refused) -> None:
        self._release(connection)
        try:
            connection.refuse(refusal)
        except OSError:
            self._close(connection)

    def _give_up(self, now: float) -> None:
        for connection in [one for one in self._connections if one.deadline <= now]:
            if connection.is_silent:
                self._close(connection)
            else:
                self._refuse(
                    connection, Refused("408 Request Timeout", "Send the request in one go.")
                )

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._release(connection)
        if connection.watched:
            connection.watched = False
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(connection.sock)

    def _release(self, connection: Connection) -> None:
        """It holds nothing any more."""
        self._held -= connection.held
        self._freed += connection.held
        connection.held = 0
