"""Memoize: compute a value at most once per duration, however many ask at the same moment.

The rules:

1. One computation is in flight per function and key. A caller that comes meanwhile waits for it and
   shares its result, or its exception. Different keys do not wait for each other.
2. A value is fresh while `now < start + duration`, `start` being the clock when its computation
   began. The seed counted from the end; then a value may look fresher than what it was made from.
   So a function that is slower than its duration is shared by concurrent callers and never fresh.
3. After that, for `stale` longer, the caller that finds it expired refreshes it, in its own thread,
   and everybody else is served the old value at once. If the refresh fails within the window, that
   caller is served the old value too. Past the window callers wait, and get exceptions.
4. A failure is never kept. An exception that is not an `Exception` (KeyboardInterrupt, SystemExit)
   is meant for the thread it reached and not for the value: one of the waiting callers computes
   anew.
5. `invalidate` and `clear` cut a computation off: its result goes to the callers that came before,
   and is not kept. A later caller starts another.
6. A computation that would wait for itself, in one thread or by way of others, raises RuntimeError.

A key is the call's arguments, bound to the signature with the defaults applied, and typed: f(1),
f(1.0), f(True) and f('1') are four keys, and so are the same in tuples and frozensets, however
deep. What other containers (a frozen dataclass, say) hold is left to their own equality. A module
and a name are not in it, because each function has a store of its own: two functions of one name
cannot collide.

A method has a store per instance, so `maxsize` is per instance. It is found by identity and dies
with the instance, which is never held, hashed or compared; `a.get.clear()` is for one instance and
`A.get.clear()` for all. What does not come through an instance is an argument like any other: the
class below @classmethod, and self below @property or in `A.get(a)`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import threading
import time
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

log = logging.getLogger(__name__)

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

_Key = Callable[[tuple[Any, ...], dict[str, Any]], Hashable]


def memorize(
    duration: float = 10,
    *,
    stale: float = 0,
    maxsize: int | None = 1024,
    key: Callable[..., Hashable] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[Callable[P, R]], Memorized[P, R]]:
    """Decorate a function so that its value is computed at most once per `duration`.

    duration: how long a value is fresh, in the clock's unit: seconds, with the default clock. 0:
        never, but concurrent callers still share one computation.
    stale: for how long after that the old value is served while one caller refreshes it.
    maxsize: how many values are kept, 1 or more; None: no bound, and nothing is ever dropped.
    key: receives the call's arguments (without the instance, for a method), returns a hashable key.
    clock: returns a time that never goes back. Whole numbers stay exact.

    Raises TypeError or ValueError, at once, for what cannot be a setting or cannot be memoized: a
    generator or a coroutine, because it can be consumed once. A call raises what the function
    raises, TypeError if an argument is not hashable, RuntimeError if it would wait for itself.
    """
    if callable(duration):
        raise TypeError("write @memorize(duration=...), with parentheses, not bare @memorize")
    _check_span("duration", duration)
    _check_span("stale", stale)
    if maxsize is not None and (not isinstance(maxsize, int) or isinstance(maxsize, bool)):
        raise TypeError(f"maxsize must be a whole number or None, not {maxsize!r}")
    if maxsize is not None and maxsize < 1:
        raise ValueError(f"maxsize must be 1 or more, or None, not {maxsize!r}")

    def decorate(function: Callable[P, R]) -> Memorized[P, R]:
        _check_function(function)
        settings = _Settings(_name(function), duration, stale, maxsize, clock, key)
        return Memorized(function, settings, _key_for(function, settings))

    return decorate


def _check_span(name: str, span: object) -> None:
    if not isinstance(span, int | float) or isinstance(span, bool):
        raise TypeError(f"{name} must be a number, not {span!r}")
    if not span >= 0:  # and not `span < 0`, which is false for NaN
        raise ValueError(f"{name} must be 0 or more, not {span!r}")


def _check_function(function: object) -> None:
    if isinstance(function, classmethod | staticmethod):
        kind = type(function).__name__
        raise TypeError(f"{_name(function)}: write @{kind} above @memorize, not below it")
    if not callable(function):
        raise TypeError(f"memorize needs a function, not {function!r}")
    if (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise TypeError(
            f"{_name(function)} makes a generator or a coroutine, which its first caller would "
            "use up: memorize a function that returns a value"
        )


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


class Info(NamedTuple):
    """What became of the calls: each is one of the first four. `hits` may be a few short when
    threads race, for a statistic is not worth a lock."""

    hits: int  # served fresh
    shared: int  # waited for another caller's computation
    stale: int  # served the old value while another caller refreshed it
    misses: int  # computed
    errors: int  # of these computations, those that failed
    size: int  # values kept
    maxsize: int | None


class _Settings(NamedTuple):
    name: str
    duration: float
    stale: float
    maxsize: int | None
    clock: Callable[[], float]
    key: Callable[..., Hashable] | None


class Memorized(Generic[P, R]):
    """A memoized function: call it as before. Any thread."""

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        settings: _Settings,
        key: _Key,
        skip: int = 0,
    ) -> None:
        # First, since it copies the function's attributes, and that may be a Memorized itself.
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings
        self._key = key
        self._skip = skip  # leading arguments that `key` leaves out: 1 for an instance
        self._store: _Store[R] = _Store(settings)
        self._method_key: _Key | None = None
        self._bound: dict[int, tuple[weakref.ref[Any], Memorized[..., R]]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        # A hit takes no lock. Under the GIL a dict can be read while others change it; an entry's
        # value and expiry never change; and all that a race for `used` can cost is one eviction
        # too early or too late. Whatever is not a hit is looked up again, under the lock.
        key = self._key(args, kwargs)
        store = self._store
        try:
            entry = store.entries.get(key)
        except TypeError as error:
            raise self._unhashable(error) from error
        if entry is not None and store.clock() < entry.expires:
            entry.used = True
            store.hits += 1
            return entry.value
        return store.fetch(key, functools.partial(self._function, *args, **kwargs))

    @overload
    def __get__(self, instance: None, owner: type) -> Memorized[P, R]: ...

    @overload
    def __get__(
        self: Memorized[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> Memorized[Q, R]: ...

    def __get__(self, instance: object, owner: type | None = None) -> Memorized[Any, R]:
        if instance is None:
            return self
        # Until Python 3.12 classmethod comes by here, since 3.13 it does not: the same for both.
        if isinstance(instance, type):
            return cast("Memorized[Any, R]", types.MethodType(self, instance))
        # A dead instance's id is not given to another before its weak reference has called back.
        bound = self._bound.get(id(instance)) or self._bind(instance)
        # A bound method hands its attributes on: a.get.invalidate is the instance's own.
        return cast("Memorized[Any, R]", types.MethodType(bound[1], instance))

    def _bind(self, instance: object) -> tuple[weakref.ref[Any], Memorized[..., R]]:
        identity, bound = id(instance), self._bound
        try:
            reference = weakref.ref(instance, lambda _: bound.pop(identity, None))
        except TypeError as error:
            raise TypeError(
                f"{self._settings.name}: memorize needs a weak reference to the instance; "
                f"add '__weakref__' to the __slots__ of {type(instance).__qualname__}"
            ) from error
        if self._method_key is None:  # once: it takes longer than all the rest
            self._method_key = _key_for(self._function, self._settings, skip=1)
        method = Memorized(self._function, self._settings, self._method_key, skip=1)
        return bound.setdefault(identity, (reference, method))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the value for these arguments. Raises TypeError if one is not hashable."""
        key = self._key((None,) * self._skip + args, kwargs)
        try:
            self._store.invalidate(key)
        except TypeError as error:
            raise self._unhashable(error) from error

    def clear(self) -> None:
        """Forget all values; those of all instances, if this is a class's method."""
        for memorized in self._all():
            memorized._store.clear()

    def info(self) -> Info:
        """The counts so far; those of all living instances, if this is a class's method."""
        counts = zip(*(memorized._store.counts() for memorized in self._all()), strict=True)
        return Info._make((*map(sum, counts), self._settings.maxsize))

    def _all(self) -> list[Memorized[..., R]]:
        # Of a copy: an instance may die, and drop out of the original, at any moment.
        return [self, *(memorized for _, memorized in self._bound.copy().values())]

    def _unhashable(self, error: TypeError) -> TypeError:
        return TypeError(
            f"{self._settings.name}: {error}; pass memorize a key=, "
            "which receives the call's arguments and returns a hashable key"
        )


# --- Keys

# Of these types, and no other, equal values have equal types, so they need no type beside them.
# (bytes would do, but for `python -b`, which warns when they meet a str of the same hash.)
_PLAIN = frozenset({str, int, type(None)})

_KEYWORDS = object()  # parts f('a', 1) from f(a=1), for a function of *args and **kwargs


def _key_for(function: Callable[..., object], settings: _Settings, skip: int = 0) -> _Key:
    given = settings.key
    if given is not None:
        return lambda args, kwargs: given(*args[skip:], **kwargs)
    try:
        # What is called is what is bound: a wrapper need not have the defaults of what it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # it has none, like lru_cache's and our own, which hand on what they get
        signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if skip and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        del parameters[0]
    return _key_of(signature.replace(parameters=parameters), settings.name, skip)


def _key_of(signature: inspect.Signature, name: str, skip: int) -> _Key:
    def arrange(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if not bound.kwargs:
            return bound.args
        return (*bound.args, _KEYWORDS, *sorted(bound.kwargs.items()))

    # Binding takes some 4 µs, so what it would add to a call without keywords is looked up, by the
    # number of arguments.
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    most = sum(kind.name.startswith("POSITIONAL") for kind in kinds)
    tails: dict[int, tuple[Any, ...]] = {}
    for count in range(most + 1):
        with contextlib.suppress(TypeError):  # too few
            tails[count] = arrange((None,) * count, {})[count:]
    beyond = tails.get(most) if inspect.Parameter.VAR_POSITIONAL in kinds else None

    def key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        if skip:
            args = args[skip:]
        tail = None if kwargs else tails.get(len(args), beyond)
        try:
            args = arrange(args, kwargs) if tail is None else args + tail
        except TypeError as error:
            raise TypeError(f"{name}(): {error}") from None
        for value in args:
            if type(value) not in _PLAIN:
                return tuple(map(_typed, args))
        return args

    return key


def _typed(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if not isinstance(value, tuple | frozenset):
        return (kind, value)
    inside = map(_typed, value)
    # The value too, for a subclass may have an equality of its own.
    return (kind, value, tuple(inside) if isinstance(value, tuple) else frozenset(inside))


# --- Values, and the computations that make them


class _Entry(Generic[R]):
    __slots__ = ("expires", "used", "value")

    def __init__(self, value: R, expires: float) -> None:
        self.value = value
        self.expires = expires
        self.used = False


class _Flight(Generic[R]):
    """A computation under way. Its thread writes the outcome and lands it; others wait for it."""

    __slots__ = ("error", "finished", "landed", "thread", "traceback", "value")

    value: R

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.landed = threading.Event()
        self.finished = False  # landed without it: its thread was interrupted
        self.error: Exception | None = None
        self.traceback: types.TracebackType | None = None

    def succeed(self, value: R) -> None:
        self.value = value
        self.finished = True

    def fail(self, error: Exception) -> None:
        self.error, self.traceback = error, error.__traceback__
        self.finished = True

    def wait(self, name: str) -> None:
        me = threading.get_ident()
        with _waiting_lock:
            ahead: _Flight[Any] | None = self
            while ahead is not None and not ahead.landed.is_set():
                if ahead.thread == me:
                    raise RuntimeError(
                        f"{name} would wait for itself: it is called, for the same arguments, "
                        "by what computes it"
                    )
                ahead = _waiting.get(ahead.thread)
            _waiting[me] = self
        try:
            self.landed.wait()
        finally:
            _waiting.pop(me, None)

    def outcome(self) -> R:
        try:
            if self.error is not None:
                # Without the frames of this caller: each waiting caller would add its own to them
                # otherwise.
                raise self.error.with_traceback(self.traceback)
            return self.value
        finally:
            del self  # see fetch


# Which flight a thread waits for: of all functions, since two may wait for one another.
_waiting: dict[int, _Flight[Any]] = {}
_waiting_lock = threading.RLock()


_stores: weakref.WeakSet[_Store[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    global _waiting_lock
    _waiting_lock = threading.RLock()
    _waiting.clear()
    for store in list(_stores):
        store.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Store(Generic[R]):
    """The values of one function, and its flights. These are apart, so a flight is never evicted.

    Eviction is LRU by second chance: the oldest goes, but one that was used since it was last
    looked at is put behind the newest instead. Exact LRU would need a lock for each hit.
    """

    def __init__(self, settings: _Settings) -> None:
        self.clock = settings.clock
        self.hits = 0
        # Read without the lock. Ordered, because a dict finds its oldest key in linear time.
        self.entries: OrderedDict[Hashable, _Entry[R]] = OrderedDict()
        self._settings = settings
        self._flights: dict[Hashable, _Flight[R]] = {}
        self._shared = self._stale = self._misses = self._errors = 0
        # Re-entrant: a finalizer may run at any allocation, also while we hold it, and call us.
        self._lock = threading.RLock()
        _stores.add(self)

    def forget_threads(self) -> None:
        """In a process that was forked: computations of threads that are not here would be waited
        for without end, and so would a lock that one of them holds. The values stay."""
        self._lock = threading.RLock()
        self._flights = {}

    def fetch(self, key: Hashable, compute: Callable[[], R]) -> R:
        """The value that another thread has stored or computes now, or one that is computed
        here."""
        while True:
            now = self.clock()
            mine: _Flight[R] | None = None
            flight: _Flight[R] | None = None
            try:
                with self._lock:
                    entry, flight = self.entries.get(key), self._flights.get(key)
                    if entry is not None and now < entry.expires:
                        self.hits += 1
                        return entry.value
                    if flight is None:
                        self._misses += 1
                        # `mine` first, the dict last: whatever interrupts us, what others can see
                        # is landed below.
                        mine = flight = self._flights[key] = _Flight()
                    elif entry is not None and now < entry.expires + self._settings.stale:
                        self._stale += 1
                        return entry.value
                if mine is not None:
                    return self._compute(key, mine, compute, now, entry)
                flight.wait(self._settings.name)
                if flight.finished:
                    with self._lock:
                        self._shared += 1
                    return flight.outcome()
            finally:
                if mine is not None:
                    self._land(key, mine)
                # An exception holds the frames it came through, and a flight its exception: a
                # cycle, which would keep the arguments until the collector comes.
                mine = flight = None

    def _compute(
        self,
        key: Hashable,
        flight: _Flight[R],
        compute: Callable[[], R],
        start: float,
        old: _Entry[R] | None,
    ) -> R:
        try:
            value = compute()
            self._keep(key, flight, _Entry(value, start + self._settings.duration))
            flight.succeed(value)
            return value
        except Exception as error:
            flight.fail(error)
            fallback = self._fallback(key, flight, old)
            if fallback is None:
                raise
            log.warning("%s failed; its last value is served", self._settings.name, exc_info=True)
            return fallback.value
        finally:
            del flight  # see fetch

    def _keep(self, key: Hashable, flight: _Flight[R], entry: _Entry[R]) -> None:
        with self._lock:
            if self._flights.get(key) is not flight:
                return  # cut off by invalidate or clear
            self.entries.pop(key, None)
            most = self._settings.maxsize
            while most is not None and len(self.entries) >= most:
                oldest, candidate = self.entries.popitem(last=False)
                if candidate.used:
                    candidate.used = False
                    self.entries[oldest] = candidate
            self.entries[key] = entry

    def _fallback(
        self, key: Hashable, flight: _Flight[R], old: _Entry[R] | None
    ) -> _Entry[R] | None:
        """What may be served for a computation that failed."""
        with self._lock:
            self._errors += 1
            cut_off = self._flights.get(key) is not flight
        if old is None or cut_off or self.clock() >= old.expires + self._settings.stale:
            return None
        return old

    def _land(self, key: Hashable, flight: _Flight[R]) -> None:
        try:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
        finally:
            flight.landed.set()

    def invalidate(self, key: Hashable) -> None:
        with self._lock:
            self.entries.pop(key, None)
            self._flights.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self.entries.clear()
            self._flights.clear()

    def counts(self) -> tuple[int, ...]:
        """As in Info, without maxsize."""
        with self._lock:
            served = (self.hits, self._shared, self._stale)
            return (*served, self._misses, self._errors, len(self.entries))
