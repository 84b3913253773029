"""A broker on Redis 6.2 or newer, or on Valkey: streams, and three scripts.

Keys, for the feed F; the braces keep them in one slot of a cluster:

    {prefix}:log:F      stream: after, beat, body
    {prefix}:tip:F      hash: id, beat, once of the newest entry
    {prefix}:lease:F    token of who computes it, with a time to live
    {prefix}:notice:F   stream of one: beat, body
    {prefix}:once:F:K   the id of the entry that was published as K, with a time to live

An entry's id is the engine's time and a number, which is random. The engine's own ids would count
on from the last one while its clock is behind that: after a rollback the same ids would name other
entries then, and nobody could tell.

A script does what must not be two steps: to check the lease and to append; to see that an entry is
there already and not to append. One thread reads all feeds, by a command that waits in the engine.

The client library is told not to repeat a command by itself: one that was not answered may have
been done, and only who asked knows how to ask again so that it is not done twice.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from pushdemo.push.broker.clock import EngineClock
from pushdemo.push.broker.protocol import (
    BrokerError,
    BrokerUnavailable,
    Entry,
    Fenced,
    Follower,
    Lease,
    Misconfigured,
    Notice,
    hear,
)
from pushdemo.push.loop import Health, Loop

log = logging.getLogger(__name__)

# The schemes of our addresses, and the client library's for them.
SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
OLDEST = (6, 2)
PREFIX = "pushdemo"

TIMEOUT = 1.5  # seconds for an answer
BLOCK = 0.8  # seconds that the engine waits for something to read: `close` takes as long
COUNT = 64  # entries of one feed in an answer
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts to connect
# Milliseconds. A lease that has more to go is from before the engine's clock was set back, and
# would keep the feed from everybody for as long as that.
LONGEST_LEASE = 60_000
JUMP = 1 << 24  # by how much the number in an id grows at most, from one entry to the next
START = "0-0"

_LEASE = """
local holder = redis.call('GET', KEYS[1])
local token = ARGV[2]
if holder and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4]) then holder = false end
if holder and holder ~= ARGV[1] and holder ~= token then return false end
if holder then
  token = holder
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
end
local now = redis.call('TIME')
return {token, redis.call('HGET', KEYS[2], 'beat') or '0', now[1], now[2]}
"""
_PUBLISH = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return redis.error_reply('FENCED the lease is not held any more')
end
local tip = redis.call('HMGET', KEYS[2], 'id', 'once')
local known = false
if ARGV[1] ~= '' then
  if tip[2] == ARGV[5] then known = tip[1] end
elseif ARGV[6] ~= '0' then
  known = redis.call('GET', KEYS[4])
end
if known then return known end
local time = redis.call('TIME')
local now, number = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[7])
local last, sequence = string.match(tip[1] or '', '^(%d+)-(%d+)$')
if last and tonumber(last) >= now then
  now, number = tonumber(last), tonumber(sequence) + 1 + number
end
local fields = {'after', tip[1] or '', 'beat', ARGV[2], 'body', ARGV[4]}
local id = string.format('%.0f-%.0f', now, number)
local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], id, unpack(fields))
if type(added) == 'table' then
  id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[3], '*', unpack(fields))
end
redis.call('HSET', KEYS[2], 'id', id, 'once', ARGV[5])
if ARGV[2] ~= '0' then redis.call('HSET', KEYS[2], 'beat', ARGV[2]) end
if ARGV[6] ~= '0' then redis.call('SET', KEYS[4], id, 'PX', ARGV[6]) end
return id
"""
_TELL = """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then
  return redis.error_reply('FENCED the lease is not held any more')
end
redis.call('XADD', KEYS[1], 'MAXLEN', '=', '1', '*', 'beat', ARGV[2], 'body', ARGV[3])
if ARGV[2] ~= '0' then redis.call('HSET', KEYS[2], 'beat', ARGV[2]) end
return ''
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return ''
"""


@dataclass(frozen=True)
class Address:
    """Where an engine is, as a URL has it, and what the keys begin with there.

    url: as the client library takes it, with the password.
    said: for a log, without it.
    """

    url: str
    said: str
    prefix: str = PREFIX

    @classmethod
    def of(cls, url: str) -> Address:
        """Raises Misconfigured for what is no such URL."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise Misconfigured(f"this is no URL: {error}") from None
        scheme = SCHEMES.get(parts.scheme)
        if scheme is None:
            raise Misconfigured(f"{parts.scheme}:// is none of {', '.join(SCHEMES)}")
        prefix = query.pop("prefix", [PREFIX])[-1]
        if not re.fullmatch(r"[\w.-]{1,64}", prefix):
            raise Misconfigured("prefix must be 1 to 64 letters, digits, points and hyphens")
        if unknown := set(query) - {"db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname"}:
            raise Misconfigured(f"{min(unknown)} is no option that is known: prefix, db, ssl_… are")
        database = (query.get("db") or [parts.path.strip("/")])[-1] if scheme != "unix" else "0"
        if database and not (database.isascii() and database.isdigit()):
            raise Misconfigured(f"/{database} is no number of a database")
        if scheme == "unix" and not parts.path.strip("/"):
            raise Misconfigured("there is no path of a socket")
        rest = "&".join(
            f"{name}={quote(value, safe='/')}" for name, values in query.items() for value in values
        )
        where = parts.netloc if scheme == "unix" or host else f"{parts.netloc}127.0.0.1"
        said = parts.path
        if scheme != "unix":
            name = host or "127.0.0.1"
            name = f"[{name}]" if ":" in name else name
            said = f"{name}:{port or 6379}" + (f"/{database}" if database else "")
        return cls(
            f"{scheme}://{where}{parts.path}" + (f"?{rest}" if rest else ""),
            f"{parts.scheme}://{said}",
            prefix,
        )


class RedisBroker:
    """See the module. url: `redis://[user:password@]host[:port][/database][?prefix=NAME]`, or with
    rediss, valkey and valkeys, or `unix:///path`. Raises Misconfigured."""

    def __init__(self, url: str) -> None:
        self._at = Address.of(url)
        self.clock = EngineClock()
        self._lock = threading.Lock()
        self._client: Any = None
        self._scripts: dict[str, Any] = {}
        self._reader = _Reader(self._at, self.clock)

    @property
    def address(self) -> str:
        return self._at.said

    @property
    def health(self) -> Health:
        """How the thread is that reads."""
        return self._reader.health

    def check(self) -> None:
        with _one_kind_of_error(self.address):
            client = _connect(self._at, TIMEOUT)
            try:
                client.ping()
                _check_version(client)
                _check_policy(client, self.address)
            finally:
                client.close()

    def follow(self, feed: str, follower: Follower, after: str = "") -> None:
        self._reader.follow(feed, follower, after)

    def publish(
        self,
        feed: str,
        body: bytes,
        *,
        once: str,
        beat: int = 0,
        keep: int = 8,
        lease: Lease | None = None,
        remember: float = 0.0,
    ) -> str:
        once_of = self._key("once", f"{quote(feed, safe='')}:{once}")  # a name may have a colon
        keys = [*self._keys(feed, "log", "tip", "lease"), once_of]
        token = "" if lease is None else lease.token
        milliseconds = 0 if lease is not None else round(remember * 1000)
        arguments = [token, beat, keep, body, once, milliseconds, secrets.randbelow(JUMP)]
        return str(self._run(_PUBLISH, keys, arguments).decode())

    def tell(self, feed: str, body: bytes, *, lease: Lease, beat: int = 0) -> None:
        self._run(_TELL, self._keys(feed, "notice", "tip", "lease"), [lease.token, beat, body])

    def lease(self, feed: str, held: Lease | None, fresh: str, seconds: float) -> Lease | None:
        before = self.clock.now()
        token = "" if held is None else held.token
        answer = self._run(
            _LEASE,
            self._keys(feed, "lease", "tip"),
            [token, fresh, max(1, round(seconds * 1000)), LONGEST_LEASE],
        )
        if answer is None:
            return None
        token, beat, *now = answer
        self.clock.note(_nanoseconds(now), before, self.clock.now())
        return Lease(feed, token.decode(), int(beat))

    def release(self, lease: Lease) -> None:
        self._run(_RELEASE, self._keys(lease.feed, "lease"), [lease.token])

    def close(self) -> None:
        self._reader.close()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _key(self, kind: str, name: str) -> str:
        return f"{{{self._at.prefix}}}:{kind}:{name}"

    def _keys(self, feed: str, *kinds: str) -> list[str]:
        return [self._key(kind, feed) for kind in kinds]

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        with _one_kind_of_error(self.address):
            with self._lock:
                if self._client is None:
                    self._client = _connect(self._at, TIMEOUT)
                    self._scripts = {}
                client = self._client
                known = self._scripts.get(script)
                if known is None:
                    known = self._scripts[script] = client.register_script(script)
            try:
                return known(keys=keys, args=arguments)
            except exceptions.ReadOnlyError:
                # What was the master is a replica now, and so may the reader's engine be.
                client.connection_pool.disconnect(inuse_connections=False)
                self._reader.reconnect()
                raise


@dataclass
class _Position:
    """Where the reader is with a feed.

    rewound: the tip for which it has begun anew.
    """

    follower: Follower
    log: str
    notice: str = START
    rewound: bytes | bool | None = False


class _Reader:
    """The thread that reads all feeds."""

    def __init__(self, at: Address, clock: EngineClock) -> None:
        self._at = at
        self._clock = clock
        self._lock = threading.Lock()
        self._feeds: dict[str, _Position] = {}
        self._client: Any = None
        self._reconnect = False
        self._closing = threading.Event()
        self._failures = 0
        self._loop = Loop("pushdemo-broker", self._turn, farewell=self._end)

    @property
    def health(self) -> Health:
        return self._loop.health

    def follow(self, feed: str, follower: Follower, after: str) -> None:
        with self._lock:
            self._feeds = {**self._feeds, feed: _Position(follower, after or START)}
        self._loop.ensure()

    def reconnect(self) -> None:
        """Any thread. A connection is closed by the thread that reads it, and by no other."""
        self._reconnect = True

    def close(self) -> None:
        thread = self._loop.stop()
        self._closing.set()
        if thread is not None:
            thread.join(BLOCK + 0.1)

    def _end(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close()

    def _turn(self) -> None:
        feeds = self._feeds
        try:
            with _one_kind_of_error(self._at.said):
                anew = self._client is None or self._reconnect
                if anew:
                    self._reconnect = False
                    self._end()
                    self._client = None
                    self._client = _connect(self._at, BLOCK + TIMEOUT)
                    self._compare(feeds)
                    while self._read(feeds, None) and not self._closing.is_set():
                        pass
                    caught_up = True
                else:
                    caught_up = not self._read(feeds, BLOCK)
                    if caught_up:
                        self._compare(feeds)
        except Exception as error:
            self._end()
            self._client = None
            if not isinstance(error, BrokerError):
                raise  # the loop goes on after it
            self._failures += 1
            for follower in {position.follower for position in feeds.values()}:
                follower.cut_off(str(error))
            pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._failures - 1, 8))
            self._closing.wait(pause)
            return
        self._failures = 0
        if caught_up:
            for follower in {position.follower for position in feeds.values()}:
                follower.caught_up()

    def _read(self, feeds: dict[str, _Position], block: float | None) -> bool:
        """Hear what there is, and whether there was anything."""
        where = {}
        for feed, position in feeds.items():
            where[self._key("log", feed)] = position.log
            where[self._key("notice", feed)] = position.notice
        milliseconds = None if block is None else round(block * 1000)
        answer = self._client.xread(where, count=COUNT, block=milliseconds)
        heard: list[tuple[tuple[int, int], _Position, Entry | Notice]] = []
        for key, entries in answer:
            kind, feed = self._name(key)
            position = feeds[feed]
            for entry_id, fields in entries:
                heard.append((_order(entry_id), position, _said(kind, feed, entry_id, fields)))
            last = entries[-1][0].decode()
            if kind == "log":
                position.log = last
            else:
                position.notice = last
        # An answer has feed after feed: nodes are to have the events in nearly the same order.
        for _, position, said in sorted(heard, key=lambda one: one[0]):
            hear(position.follower, said)
        return bool(heard)

    def _compare(self, feeds: dict[str, _Position]) -> None:
        """Begin anew where the log ends before the place to which it was read: what was there is
        lost, and reading on would wait for ids that come late, or never."""
        pipeline = self._client.pipeline(transaction=False)
        for feed in feeds:
            pipeline.hget(self._key("tip", feed), "id")
        pipeline.time()
        before = self._clock.now()
        *tips, now = pipeline.execute()
        self._clock.note(_nanoseconds(now), before, self._clock.now())
        for position, tip in zip(feeds.values(), tips, strict=True):
            lost = position.log != START and (tip is None or _order(tip) < _order(position.log))
            if not lost:
                position.rewound = False
            elif tip != position.rewound:
                position.log = position.notice = START
                position.rewound = tip

    def _key(self, kind: str, feed: str) -> str:
        return f"{{{self._at.prefix}}}:{kind}:{feed}"

    def _name(self, key: bytes) -> tuple[str, str]:
        _, kind, feed = key.decode().split(":", 2)
        return kind, feed


def _said(kind: str, feed: str, entry_id: bytes, fields: dict[bytes, bytes]) -> Entry | Notice:
    said, body = fields.get(b"beat", b"0"), fields.get(b"body", b"")
    beat = int(said) if said.isdigit() and len(said) < 19 else 0
    if kind == "notice":
        return Notice(feed, beat, body)
    after = fields.get(b"after", b"").decode("ascii", "replace")
    return Entry(feed, entry_id.decode(), after, beat, body)


def _order(entry_id: bytes | str) -> tuple[int, int]:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


def _nanoseconds(now: Any) -> int:
    """What TIME has answered, or a script has passed on: seconds, microseconds."""
    seconds, microseconds = now
    return int(seconds) * 1_000_000_000 + int(microseconds) * 1000


def _connect(at: Address, timeout: float) -> Any:
    return redis.Redis.from_url(
        at.url,
        protocol=2,
        socket_connect_timeout=TIMEOUT,
        socket_timeout=timeout,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )


def _check_version(client: Any) -> None:
    try:
        info = client.info("server")
    except exceptions.ResponseError:  # it may be forbidden
        return
    said = str(info.get("redis_version", ""))
    found = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
    if len(found) == 2 and found < OLDEST:
        raise Misconfigured(
            f"it is Redis {said}, and {OLDEST[0]}.{OLDEST[1]} is the oldest that will do"
        )


def _check_policy(client: Any, address: str) -> None:
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
    except exceptions.ResponseError:  # a managed Redis has no CONFIG
        return
    if policy not in (None, "noeviction"):
        log.warning(
            "the broker %s may drop what pushdemo keeps there, and clients are told of gaps then:"
            " its maxmemory-policy is %s; set noeviction", address, policy,
        )  # fmt: skip


# What the engine says, as the beginning of an error.
_LATER = ("OOM", "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "BUSY", "MISCONF",
          "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "MAX NUMBER OF CLIENTS")  # fmt: skip


@contextlib.contextmanager
def _one_kind_of_error(address: str) -> Iterator[None]:
    try:
        yield
    except BrokerError as error:
        raise type(error)(f"{address}: {error}") from None
    except exceptions.AuthenticationError:
        # "HELLO must be called with the client already authenticated", among others.
        raise Misconfigured(
            f"{address}: it wants another password, or a user: redis://user:password@host"
        ) from None
    except exceptions.NoPermissionError as error:
        raise Misconfigured(f"{address}: its user may not do what is needed: {error}") from None
    except exceptions.TimeoutError:
        raise BrokerUnavailable(f"{address}: no answer in time") from None
    except exceptions.ConnectionError as error:
        raise _away(address, error) from None
    except exceptions.RedisError as error:
        raise _refusal(address, error) from None
    except OSError as error:  # of what the client library passes on
        raise _away(address, error) from None


def _away(address: str, error: BaseException) -> BrokerError:
    """That the engine cannot be reached, in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    if said.upper().startswith(("NOAUTH", "WRONGPASS")):
        return Misconfigured(f"{address}: it wants another password")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            return Misconfigured(f"{address}: there is no such host")
        cause = cause.__cause__ or cause.__context__
    return BrokerUnavailable(f"{address}: {said}")


def _refusal(address: str, error: Exception) -> BrokerError:
    """What an error of the engine's means."""
    said = " ".join(str(error).split())
    if said.startswith("FENCED"):
        return Fenced(said.removeprefix("FENCED "))
    if said.upper().startswith(("NOAUTH", "WRONGPASS")):
        return Misconfigured(f"{address}: it wants another password")
    if isinstance(error, _PASSING) or said.upper().startswith(_LATER):
        return BrokerUnavailable(f"{address}: {said}")
    return Misconfigured(f"{address}: {said}")


_PASSING = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.InvalidResponse,
    exceptions.NoScriptError,
)
