"""Signals that end a process in its own way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


def at_once(*numbers: signal.Signals) -> None:
    """Have these signals end the process at once, from now on: it is about to end anyway. In the
    main thread."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def stopping(
    stop: Callable[[], object], wakeup_fd: int, *numbers: signal.Signals
) -> Iterator[None]:
    """Have these signals call `stop`. In the main thread.

    wakeup_fd: a descriptor that the loop to be stopped waits for, see signal.set_wakeup_fd. A
        signal that comes just before the loop begins to wait has its handler run only after that.

    An interrupt that was ignored from the start stays so: a shell starts a background job like
    that, for Ctrl-C to end what is in the foreground, and nothing else. SIGTERM always works.
    """
    for number in numbers:
        if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop())
    before = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
