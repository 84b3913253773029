"""A gate: what changes the state of an engine goes through it, and it can be shut.

While it is shut nothing changes, so that the state can be read whole, and given to another process.
It is opened again, or, when the other process has the state, it is closed for good: then who comes
is told so, and turns to that process.
"""

from __future__ import annotations

import threading
import time

# Seconds for those that are inside to come out. None of them waits for a client or for a feed.
PATIENCE = 10.0


class Gone(Exception):
    """The state is another process's now."""


class Gate:
    """See the module. A context manager, for any number of threads at a time: it waits while the
    gate is shut, and raises Gone when it is closed for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._shut = False
        self._left = False

    def __enter__(self) -> None:
        with self._lock:  # the condition's, which is entered in Python
            while self._shut and not self._left:
                self._changed.wait()
            if self._left:
                raise Gone
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    @property
    def is_shut(self) -> bool:
        return self._shut

    def shut(self, patience: float = PATIENCE) -> None:
        """Let nobody in, and wait for those that are inside. Not by one that is.

        patience: seconds. Raises TimeoutError after them, and the gate is open again then;
        RuntimeError where it is shut already.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            if self._shut:
                raise RuntimeError("it is held already")
            self._shut = True
            while self._inside:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    self._shut = False
                    self._changed.notify_all()
                    raise TimeoutError(f"something is being done for more than {patience:g} s")

    def open(self) -> None:
        """The end of `shut`. Where it is open, nothing happens."""
        with self._changed:
            self._shut = False
            self._changed.notify_all()

    def leave(self) -> None:
        """Close it for good: all who wait, and all who come, are told."""
        with self._changed:
            self._left = self._shut = True
            self._changed.notify_all()


class Standstill:
    """Where a thread stands still between two turns of its loop, while another one wants that."""

    def __init__(self) -> None:
        self._asked = False
        self._stands = threading.Event()
        self._ended = threading.Event()

    def ask(self) -> None:
        """Have the thread stand still after its next turn, for which it must be woken."""
        self._stands.clear()
        self._ended.clear()
        self._asked = True

    def wait(self, patience: float) -> None:
        """Until it does. Raises TimeoutError after so many seconds, and takes the asking back."""
        if not self._stands.wait(patience):
            self.end()
            raise TimeoutError(f"a thread is busy for more than {patience:g} s")

    def end(self) -> None:
        """Let it go on."""
        self._asked = False
        self._ended.set()

    def stand(self) -> None:
        """Between two turns: stand still, if that is asked for."""
        if self._asked:
            self._stands.set()
            self._ended.wait()
