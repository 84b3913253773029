"""Who computes a feed: this process alone, or the one that holds the feed's lease.

Rule: beats are counted by the engine's clock, beat n being from n * interval on; whoever watches
competes for the lease; who holds it computes for a beat unless the log's newest entry is of that
beat. Nobody counts who watches elsewhere, and no node's own clock matters.

    resting    nobody watches here
    waiting    another process holds the lease: it is asked for again and again
    holding    beats are this process's; the lease is prolonged, by a thread that never computes

What is published is an errand, for a thread that never computes. There is one at a time for each
feed, in order, and while the engine is away the same is sent again, until the next beat or the end
of the lease. A value that could not be sent is kept: it is sent, and not computed again, if the
lease is had again while it is still good.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

from pushdemo.push.broker.body import Sent, Status, encode_sent, encode_status
from pushdemo.push.broker.line import Line
from pushdemo.push.broker.protocol import (
    Broker,
    BrokerError,
    Fenced,
    Lease,
)
from pushdemo.push.channel import Channel
from pushdemo.push.compute.feed import SECOND
from pushdemo.push.event import Value
from pushdemo.push.failure import failure_of

log = logging.getLogger(__name__)

Task = Callable[[], None]

# A lease is for this share of the interval, and between these seconds: an hourly feed must not wait
# for an hour when its process is gone, and a quick one must survive a slow answer.
OF_INTERVAL = 1.5
SHORTEST, LONGEST = 1.0, 10.0
# Who was granted the lease waits for so long to hear what is in the log already.
HEARING = SECOND
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, while the engine is away
MOST_BYTES = 4 * 1024 * 1024  # of a log, but for its last 8
MOST_ENTRIES = 256
FEWEST_ENTRIES = 8


class Standing(NamedTuple):
    """leads: beats are this process's.
    anew: since now.
    due: when it is to be looked at again, in the clock's nanoseconds; None where it will call.
    """

    leads: bool
    anew: bool = False
    due: int | None = None


class Leader(Protocol):
    """Decides for one feed, and is told what its function gave. For the publisher's thread, but for
    `begin`. Times are nanoseconds of the monotonic clock.

    slack: by how much the moment at which a value expires may be wrong. It came by the engine's
        clock, and expires on a beat.
    """

    @property
    def slack(self) -> int: ...

    def begin(self) -> None:
        """Somebody watches, and nobody did. Any thread."""

    def look(self, now: int, *, watched: bool, busy: bool) -> Standing:
        """busy: a computation is under way."""

    def origin(self, now: int, before: int | None) -> int:
        """Where the grid of beats begins.

        before: where it did; None where that need not be kept.
        """

    def has(self, beat: int) -> bool:
        """Whether that beat was published already, by another process."""

    def unsent(self, now: int) -> Value | None:
        """A value that was computed and could not be published. Returned once."""

    def publish(self, value: Value, beat: int) -> None: ...

    def renew(self, value: Value, beat: int) -> None:
        """The value came out the same."""

    def fail(self, failing_since: float, retry_at: int) -> None: ...

    def recover(self) -> None: ...

    def step_aside(self, now: int, failures: int) -> bool:
        """After so many failures in a row, and before the next try: whether another process may try
        first."""

    def keep(self) -> str:
        """What a successor of this process goes on with; empty for nothing."""

    def restore(self, kept: str) -> None: ...

    def close(self, *, give_back: bool) -> None:
        """There will be no more. give_back: another process may go on at once."""


class Alone:
    """One process: it leads whenever somebody watches, and its events need no broker."""

    slack = 0

    def __init__(self, channel: Channel, call: Task) -> None:
        self._channel = channel
        self._call = call
        self._anew = False

    def begin(self) -> None:
        self._anew = True
        self._call()

    def look(self, now: int, *, watched: bool, busy: bool) -> Standing:  # noqa: ARG002
        # It may have been without watchers between two looks.
        anew, self._anew = self._anew, False
        return Standing(watched, anew)

    def origin(self, now: int, before: int | None) -> int:
        return now if before is None else before

    def has(self, beat: int) -> bool:  # noqa: ARG002
        return False

    def unsent(self, now: int) -> Value | None:  # noqa: ARG002
        return None

    def publish(self, value: Value, beat: int) -> None:  # noqa: ARG002
        self._channel.publish(value)

    def renew(self, value: Value, beat: int) -> None:  # noqa: ARG002
        self._channel.renew(value.fresh_until)

    def fail(self, failing_since: float, retry_at: int) -> None:
        self._channel.fail(failing_since, retry_at)

    def recover(self) -> None:
        self._channel.recover()

    def step_aside(self, now: int, failures: int) -> bool:  # noqa: ARG002
        return False

    def keep(self) -> str:
        return ""

    def restore(self, kept: str) -> None:  # noqa: ARG002
        self._anew = False  # its watchers were there before

    def close(self, *, give_back: bool) -> None:
        pass


class _Errand(NamedTuple):
    """Something to do at the broker.

    run: does it. Raises BrokerError.
    lease: under which.
    until: when it is given up, in nanoseconds.
    value: what is lost with it, and its beat.
    """

    run: Task
    lease: Lease
    until: int
    value: tuple[Value, int] | None = None


class Elected:
    """One of many processes. See the module.

    interval: of the feed, in nanoseconds.
    call: has the feed looked at soon. Any thread.
    execute: runs a task in a thread that never computes.
    """

    def __init__(
        self,
        channel: Channel,
        interval: int,
        broker: Broker,
        line: Line,
        *,
        call: Task,
        execute: Callable[[Task], None],
        random: Callable[[], float] = random.random,
    ) -> None:
        self._channel = channel
        self._feed = channel.name
        self._interval = interval
        self._broker = broker
        self._line = line
        self._call = call
        self._random = random
        self._execute = execute
        self._errands: deque[_Errand] = deque()
        self._runs = threading.Lock()  # held while one is run
        self._sending = False
        self._send_at = 0
        self._pause = SHORTEST_PAUSE
        self.slack = interval // 10
        self._seconds = min(LONGEST, max(SHORTEST, OF_INTERVAL * interval / SECOND))
        self._term = round(self._seconds * SECOND)
        self._answers: deque[Callable[[int], None]] = deque()
        self._caught_up = False
        self._heard = 0  # the newest beat that was heard of
        self._held: Lease | None = None
        self._expires = 0
        self._granted_at: int | None = None  # until it has been looked at
        self._published = 0  # the newest beat when the lease was granted
        self._fresh = _token()
        self._asking = False
        self._ask_at = 0
        self._failures = 0
        self._unsent: tuple[Value, int] | None = None
        self._failing_since: float | None = None
        self._retry_at = 0
        self._stood_aside = 0

    # What comes from elsewhere. Any thread.

    def begin(self) -> None:
        self._call()

    def hear(self, beat: int) -> None:
        """An entry or a notice of that beat was heard."""
        if beat > self._heard or beat < self._heard - 2:  # the engine's clock may be set back
            self._heard = beat

    def catch_up(self) -> None:
        """All that the log has was heard: what is there need not be computed."""
        if not self._caught_up:
            self._caught_up = True
            self._call()

    # In the publisher's thread

    def look(self, now: int, *, watched: bool, busy: bool) -> Standing:
        while self._answers:
            self._answers.popleft()(now)
        if self._held is not None and now >= self._expires:
            log.info("feed %s: its lease has ended without an answer", self._feed)
            self._lose(now)
        wanted = watched or (busy and self._held is not None)
        if not wanted:
            self._rest()
        elif self._caught_up and not self._asking and now >= self._ask_at:
            self._ask(now)
        self._send(now)
        leads, anew = self._leads(now, watched)
        return Standing(leads, anew, self._due(now, wanted))

    def _leads(self, now: int, watched: bool) -> tuple[bool, bool]:
        """Whether beats are this process's, and whether since now."""
        if self._held is None or not watched:
            return False, False
        if self._granted_at is None:
            return True, False
        if self._hears(now):
            return False, False
        self._granted_at = None
        return True, True

    def _hears(self, now: int) -> bool:
        """Whether the lease is new, and what is in the log has not come here yet."""
        granted = self._granted_at
        return granted is not None and self._heard < self._published and now < granted + HEARING

    def _due(self, now: int, wanted: bool) -> int | None:
        dues = []
        if wanted and self._caught_up and not self._asking:
            dues.append(self._ask_at)
        if self._held is not None:
            dues.append(self._expires)
        if self._hears(now):
            dues.append(now + SECOND // 100)
        if self._errands and not self._sending:
            dues.append(self._send_at)
        return min(dues, default=None)

    def origin(self, now: int, before: int | None) -> int:
        offset = self._broker.clock.offset
        if offset is None:
            return now if before is None else before
        return now - (now + offset) % self._interval

    def has(self, beat: int) -> bool:
        # A clock that was set back must not silence the feed until it is there again.
        number = self._number(beat)
        return self._published != 0 and number <= self._published <= number + 2

    def unsent(self, now: int) -> Value | None:
        unsent, self._unsent = self._unsent, None
        if unsent is None:
            return None
        value, beat = unsent
        last = self._channel.last
        newer = last is None or value.computed > last.value.computed
        return value if newer and value.fresh_until > now and not self.has(beat) else None

    def publish(self, value: Value, beat: int) -> None:
        number, once, lease = self._number(beat), _token(), self._held
        sent = Sent(value, self._interval / SECOND, Status(self._failing_since, self._retry_at))
        if lease is None:
            self._unsent = value, beat
            return

        def publish() -> None:
            body = encode_sent(sent, self._broker.clock)
            keep = entries_to_keep(self._channel.history, len(body))
            self._broker.publish(self._feed, body, once=once, beat=number, keep=keep, lease=lease)

        until = max(self._until(), beat + self._interval)  # then there is a newer one
        self._add(_Errand(publish, lease, until, (value, beat)))

    def renew(self, value: Value, beat: int) -> None:
        self._tell(Status(None, fresh_until=value.fresh_until), self._number(beat))

    def fail(self, failing_since: float, retry_at: int) -> None:
        self._failing_since, self._retry_at = failing_since, retry_at
        self._tell(Status(failing_since, retry_at))

    def recover(self) -> None:
        self._failing_since, self._retry_at, self._stood_aside = None, 0, 0
        self._tell(Status(None))

    def step_aside(self, now: int, failures: int) -> bool:
        if self._stood_aside == failures:
            return False
        self._stood_aside = failures
        self._give_back()
        self._ask_at = now + self._term // 2
        return True

    def keep(self) -> str:
        return "" if self._held is None else self._held.token

    def restore(self, kept: str) -> None:
        if kept:
            self._held = Lease(self._feed, kept, 0)  # if it is still that: the first answer tells
            self._expires = self._broker.clock.now() + self._term
            self._fresh = kept

    def close(self, *, give_back: bool) -> None:
        if give_back:
            self._give_back()
        # After what is under way: first the values, and then the lease, or they would be fenced.
        # What a successor goes on with, by the same lease, is its own to send.
        errands, self._errands = list(self._errands), deque()
        if errands and give_back:
            with suppress(OSError, RuntimeError):
                self._execute(lambda: self._run_all(errands))

    # Parts of these

    def _number(self, beat: int) -> int:
        """Of a beat that is on the grid, more or less: the clock may have been corrected since."""
        engine = self._broker.clock.engine(beat)
        return 0 if engine is None else max(1, (engine + self._interval // 2) // self._interval)

    def _ask(self, now: int) -> None:
        self._asking = True
        held, fresh, term = self._held, self._fresh, self._seconds

        def ask() -> None:
            try:
                lease = self._broker.lease(self._feed, held, fresh, term)
            except Exception as error:  # whatever it is, the feed must go on
                self._line.fails(f"lease {self._feed}", _why(error))
                self._answer(self._wait)
            else:
                self._line.works(f"lease {self._feed}")
                self._answer(lambda later: self._granted(lease, now, later))

        try:
            self._execute(ask)
        except (OSError, RuntimeError):  # the system has no thread to give
            self._wait(now)

    def _granted(self, lease: Lease | None, asked: int, now: int) -> None:
        self._asking = False
        self._failures = 0
        self._ask_at = now + self._term // 3
        if lease is None:
            if self._held is not None:
                log.info("feed %s is computed by another process now", self._feed)
            self._lose(now, self._ask_at)
            return
        if self._held is None or self._held.token != lease.token or lease.token == self._fresh:
            self._granted_at, self._published = now, lease.beat
            self._fresh = _token()
        self._held, self._expires = lease, asked + self._term

    def _wait(self, now: int) -> None:
        """The engine is away."""
        self._asking = False
        pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._failures, 8))
        self._failures += 1
        self._ask_at = now + round(pause * (1 + self._random()) / 2 * SECOND)

    def _lose(self, now: int, ask_at: int | None = None) -> None:
        self._held = self._granted_at = None
        self._ask_at = now if ask_at is None else ask_at

    def _rest(self) -> None:
        """Nobody watches: nothing is asked of the engine any more, so nothing of that fails."""
        self._give_back()
        self._line.works(f"lease {self._feed}")
        if not self._errands:
            self._line.works(f"publish {self._feed}")

    def _give_back(self) -> None:
        lease, self._held, self._granted_at = self._held, None, None
        self._ask_at = 0
        if lease is None:
            return

        self._add(_Errand(lambda: self._broker.release(lease), lease, 0))

    def _tell(self, status: Status, beat: int = 0) -> None:
        lease = self._held
        if lease is None:
            return

        def tell() -> None:
            body = encode_status(status, self._broker.clock)
            self._broker.tell(self._feed, body, lease=lease, beat=beat)

        self._add(_Errand(tell, lease, self._until()))

    # Errands

    def _until(self) -> int:
        return self._broker.clock.now() + self._term

    def _add(self, errand: _Errand) -> None:
        self._errands.append(errand)
        self._call()

    def _send(self, now: int) -> None:
        """Have the next errand run, if it is time."""
        if not self._errands or self._sending or now < self._send_at:
            return
        errand = self._errands.popleft()
        self._sending = True
        try:
            self._execute(lambda: self._run(errand))
        except (OSError, RuntimeError) as error:  # the system has no thread to give
            self._failed(errand, str(error), now)

    def _run(self, errand: _Errand) -> None:
        """In whatever thread it was given."""
        try:
            with self._runs:
                errand.run()
        except Fenced:
            self._answer(lambda now: self._fenced(errand, now))
        except Exception as error:  # whatever it is, the feed must go on
            why = _why(error)
            self._answer(lambda now: self._failed(errand, why, now))
        else:
            if errand.until:  # a full engine still takes a lease back
                self._line.works(f"publish {self._feed}")
            self._answer(self._sent)

    def _run_all(self, errands: Iterable[_Errand]) -> None:
        with self._runs, suppress(BrokerError):
            for errand in errands:
                errand.run()

    def _sent(self, now: int) -> None:
        self._sending, self._pause = False, SHORTEST_PAUSE
        self._send(now)

    def _failed(self, errand: _Errand, why: str, now: int) -> None:
        """The engine is away: send the same again, or give it up."""
        self._sending = False
        held = self._held is not None and self._held.token == errand.lease.token
        # A feed is state: what it has now is all that is worth sending.
        newer = errand.value is not None and any(one.value for one in self._errands)
        if now < errand.until and held and not newer:
            self._line.fails(f"publish {self._feed}", why)
            self._errands.appendleft(errand)
            self._send_at = now + round(self._pause * (1 + self._random()) / 2 * SECOND)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        elif not newer:
            self._unsent = errand.value or self._unsent
            self._send_at = now

    def _fenced(self, errand: _Errand, now: int) -> None:
        self._sending = False
        log.info("feed %s: a value is left out: another process may compute it now", self._feed)
        self._unsent = errand.value or self._unsent
        if self._held is not None and self._held.token == errand.lease.token:
            self._lose(now)

    def _answer(self, answer: Callable[[int], None]) -> None:
        self._answers.append(answer)
        self._call()


def entries_to_keep(history: int, size: int) -> int:
    """How many entries of that size a log is to have: for a burst, and for clients that come back,
    but no more memory of the engine than a feed is worth."""
    by_size = min(MOST_ENTRIES, MOST_BYTES // max(size, 1))
    return max(FEWEST_ENTRIES, min(history, 100_000), by_size)


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, BrokerError) else failure_of(error).summary


def _token() -> str:
    return secrets.token_hex(12)
