"""The broadcaster's side of the handover: one loop that serves all workers.

Nothing that one caller does reaches another: it sends what it likes, and is answered, or dropped
after some seconds. An error in the work for one caller is its answer, and the loop goes on.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from pushdemo.handover import takeover
from pushdemo.handover.caller import Caller, NoDescriptors
from pushdemo.handover.listening import Listener
from pushdemo.handover.messages import (
    Adoption,
    Answer,
    Call,
    Publication,
    Refused,
    Request,
    TakeOver,
    answer_message,
    read_call,
)
from pushdemo.handover.spare import Spare
from pushdemo.handover.takeover import Estate
from pushdemo.handover.wire import Malformed, Message
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

BURST = 64  # callers that are accepted before others are served
MAX_CALLERS = 256  # at once; more wait in the backlog
SLOW = 1.0  # seconds after which a caller is dropped for others, when there are too many
MAX_BODIES = 256 * 1024 * 1024  # bytes of values that come at once, or one value of `max_body`
PAUSE = 0.25  # seconds without accepting when there is no descriptor, or after an error in the loop
SWEEP = 1.0  # seconds between two looks at the deadlines


def _unavailable(why: str) -> bytes:
    return answer_message(Answer("unavailable", why))


NO_DESCRIPTORS = _unavailable(
    "the broadcaster has no descriptors left: raise its limit of open files (ulimit -n)"
)
TOO_SLOW = _unavailable("the call did not come in time")
TOO_MUCH = _unavailable("too many large values come at once")
STOPPING = _unavailable("the broadcaster is being stopped")


class Handler(Protocol):
    """What the broadcaster does with the calls. All of it in the receiver's thread, so no method
    may block. Refused is answered as such; any other exception is logged, and the worker is told
    that the broadcaster cannot do it."""

    def take(self, sock: socket.socket, request: Request) -> None:
        """Serve a client. The connection is the handler's from now on; where an exception is
        raised, the receiver closes it.

        Until it is sure to serve the client, the handler changes nothing of the connection, not
        even its mode: the worker has it too, and answers in the handler's place.
        """

    def adopt(self, sock: socket.socket, state: bytes) -> None:
        """Serve a client whose stream was to begin in a process before this one. As `take`."""

    def publish(self, feed: str, content_type: str, body: bytes, key: str | None) -> str:
        """Push a value to the watchers of a feed; returns the event's id."""

    def health(self) -> Mapping[str, object]:
        """How the broadcaster is: names and values that JSON has."""


class Receiver:
    """Accepts at `listener`, and has `handler` do what the workers ask for.

    estate: what another process may take over; by default nothing.
    max_body: bytes of a value that is published.
    patience: seconds for a call to come; one more for each mebibyte of it.

    successor: the id of the process that has taken over, if one has.
    """

    def __init__(
        self,
        listener: Listener,
        handler: Handler,
        *,
        estate: Estate | None = None,
        max_body: int = 64 * 1024 * 1024,
        patience: float = 5.0,
    ) -> None:
        self.successor: int | None = None
        self._handler = handler
        self._estate = estate
        self._max_body = max_body
        self._patience = patience
        self._callers: dict[Caller, None] = {}  # that are waited for, oldest first
        self._listener = listener
        self._accepting = False
        self._resume_at = 0.0
        self._next_sweep = 0.0
        self._failures = 0  # calls in a row
        self._stopping = False
        self._spare = Spare()
        self._waking, self._waker = socket.socketpair()
        self._waking.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waking, selectors.EVENT_READ, self._wake)

    def run(self) -> None:
        """Serve until `stop`, and remove the socket file; or until another process has taken over,
        and those that have called here are served. Can be called once."""
        try:
            log.info("the broadcaster listens at %s", self._listener.address)
            while not self._stopping and (self.successor is None or self._callers):
                try:
                    self._turn()
                except Exception as error:
                    log.error("the receiver goes on after an error: %s", failure_of(error))
                    time.sleep(PAUSE)
        finally:
            self._end()

    def stop(self) -> None:
        """End `run`. Any thread, and signal handlers; also before `run`, and after it."""
        self._stopping = True
        with contextlib.suppress(OSError):  # closed: it has ended; full: it will wake up
            self._waker.send(b"\0")

    def wakeup_fd(self) -> int:
        """For signal.set_wakeup_fd."""
        return self._waker.fileno()

    # The loop

    def _turn(self) -> None:
        self._resume()
        for key, _ in self._selector.select(self._idle()):
            key.data()
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP
            for caller in [caller for caller in self._callers if caller.deadline <= now]:
                self._finish(caller, TOO_SLOW)

    def _idle(self) -> float | None:
        if not self._accepting:
            return PAUSE
        return SWEEP if self._callers else None

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waking.recv(1024)

    # Accepting

    def _resume(self) -> None:
        if (
            self.successor is None
            and not self._accepting
            and time.monotonic() >= self._resume_at
            and self._has_room()
        ):
            self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)
            self._accepting = True

    def _pause(self, seconds: float) -> None:
        self._selector.unregister(self._listener.socket)
        self._accepting = False
        self._resume_at = time.monotonic() + seconds

    def _accept(self) -> None:
        for _ in range(BURST):
            if self.successor is not None:  # who calls from now on has called there
                return
            if not self._has_room():
                self._pause(0)
                return
            try:
                accepted, _ = self._listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor, or no memory
                if not self._turn_away(NO_DESCRIPTORS):
                    self._pause(PAUSE)
                return
            accepted.setblocking(False)
            deadline = time.monotonic() + self._patience
            self._serve(Caller(accepted, self._max_body, deadline))

    def _has_room(self) -> bool:
        if len(self._callers) < MAX_CALLERS:
            return True
        oldest = next(iter(self._callers))
        if time.monotonic() < oldest.deadline - self._patience + SLOW:
            return False
        self._finish(oldest, TOO_SLOW)
        return True

    def _turn_away(self, answer: bytes) -> bool:
        """Accept a caller with the spare descriptor, and tell it. Whether that could be done: there
        may be no caller, and other threads want descriptors too."""
        try:
            with self._spare.lent():
                accepted, _ = self._listener.socket.accept()
                accepted.setblocking(False)
                self._finish(Caller(accepted, 0, 0), answer)
        except OSError:
            return False
        return True

    # One caller. Nothing in here raises.

    def _serve(self, caller: Caller) -> None:
        """Read from it once, and do what it asks for, if that has come."""
        try:
            message = caller.receive()
        except BlockingIOError:
            message = None
        except OSError:  # it has gone
            self._drop(caller)
            return
        except NoDescriptors:
            self._finish(caller, NO_DESCRIPTORS)
            return
        except Exception as error:
            self._finish(caller, self._answer_to_error(error))
            return
        if message is not None:
            self._complete(caller, message)
        elif self._has_memory(caller):
            self._wait_for(caller)
        else:
            self._finish(caller, TOO_MUCH)

    def _complete(self, caller: Caller, message: Message) -> None:
        try:
            call = read_call(message)
        except Malformed as error:
            self._finish(caller, self._answer_to_error(error))
            return
        if isinstance(call, TakeOver):
            self._give(caller, call.version)
        else:
            self._finish(caller, self._answer(caller, call))

    def _give(self, caller: Caller, version: int) -> None:
        """Have the caller take over. All others wait meanwhile, in the system's backlog most of
        them, which goes with the listener."""
        self._forget(caller)
        sock = caller.detach()
        if self._estate is None:
            takeover.refuse(sock, "this process has nothing that can be taken over")
        elif self.successor is not None:
            takeover.refuse(sock, f"process {self.successor} has taken over already")
        elif (why := takeover.refusal(sock)) is not None:
            log.warning("a process was not given what this one has: %s", why)
            takeover.refuse(sock, why)
        elif version != takeover.VERSION:
            takeover.say_leaving(sock, self._estate.end())
        else:
            self.successor = takeover.give(sock, self._listener.socket, self._estate)
            if self.successor is not None and self._accepting:
                self._selector.unregister(self._listener.socket)
                self._accepting = False

    def _answer(self, caller: Caller, call: Call) -> bytes:
        try:
            answer = answer_message(Answer("done", result=self._do(caller, call)))
        except (Exception, SystemExit) as error:
            return self._answer_to_error(error)
        self._failures = 0
        return answer

    def _do(self, caller: Caller, call: Call) -> object:
        match call:
            case Request() as request:
                _board(caller, lambda sock: self._handler.take(sock, request))
            case Adoption(state):
                _board(caller, lambda sock: self._handler.adopt(sock, state))
            case Publication(feed, content_type, body, key):
                return self._handler.publish(feed, content_type, body, key)
            case _:
                return dict(self._handler.health())
        return None

    def _answer_to_error(self, error: BaseException) -> bytes:
        if isinstance(error, Malformed | Refused):
            return answer_message(Answer("refused", str(error)))
        failure = failure_of(error)
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, … in a row
            log.error("a worker's call failed: %s", failure)
        return _unavailable(f"the broadcaster failed: {failure.summary}")

    def _has_memory(self, caller: Caller) -> bool:
        """For its body beside those of the others. One that was let in is not put out."""
        if not caller.body_length:
            return True
        others = sum(other.body_length for other in self._callers if other is not caller)
        return caller.body_length + others <= max(MAX_BODIES, self._max_body)

    def _wait_for(self, caller: Caller) -> None:
        if caller in self._callers:
            return
        serve = functools.partial(self._serve, caller)
        try:
            self._selector.register(caller, selectors.EVENT_READ, serve)
        except OSError as error:  # of memory, or of what epoll may watch
            self._finish(caller, self._answer_to_error(error))
            return
        self._callers[caller] = None

    def _finish(self, caller: Caller, answer: bytes) -> None:
        caller.answer(answer)
        self._drop(caller)

    def _drop(self, caller: Caller) -> None:
        self._forget(caller)
        caller.close()

    def _forget(self, caller: Caller) -> None:
        if caller in self._callers:
            del self._callers[caller]
            self._selector.unregister(caller)

    def _end(self) -> None:
        """Callers that were not answered are told at once."""
        if self.successor is None:
            self._listener.remove_file()
        for caller in list(self._callers):
            self._finish(caller, STOPPING)
        while self.successor is None and self._turn_away(STOPPING):
            pass
        self._listener.socket.close()
        self._selector.close()
        self._waking.close()
        self._waker.close()
        self._spare.close()


def _board(caller: Caller, serve: Callable[[socket.socket], None]) -> None:
    """Have a caller's passenger served."""
    passenger = caller.passenger()
    try:
        serve(passenger)
    except BaseException:
        passenger.close()
        raise
