"""The broadcaster's socket file: made, taken over from a broadcaster that has gone, and removed.

Which users may hand over connections is decided by the permissions of the file and of its directory
alone. The peer's user (SO_PEERCRED) is not asked for: it would be a second list of who may, beside
the file's owner, group and mode, and the two could differ. A worker does not ask for the
broadcaster's user either, so the directory must be one in which nobody else may create a socket:
/run/NAME, and not /tmp.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from pushdemo.handover.address import SCHEME, socket_path

BACKLOG = 4096  # connections; net.core.somaxconn may allow fewer
LONGEST_WAIT = 2.0  # seconds, for another broadcaster that starts in the same directory


class AddressTaken(OSError):
    """There is something at the address that must not be removed. The message says what."""


class Listener:
    """A listening socket at `address`, with its file.

    mode: the permissions of the file.

    Raises ValueError where the address is none; AddressTaken where another broadcaster listens, or
    where there is a file that is no socket; OSError where the socket cannot be made there.
    """

    def __init__(self, address: str, mode: int) -> None:
        self._path = Path(socket_path(address))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _alone_in(self._path.parent):
                _make_way(self._path)
                _bind(self.socket, self._path, mode)
                self.socket.listen(BACKLOG)
        except BaseException:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self._identity = _identity(self._path)

    @classmethod
    def inherited(cls, address: str, sock: socket.socket) -> Listener:
        """The one of a process that this one has taken over from. Raises ValueError where there is
        no such address, and OSError where the file has gone."""
        listener = cls.__new__(cls)
        listener._path = Path(socket_path(address))
        listener.socket = sock
        listener._identity = _identity(listener._path)
        return listener

    @property
    def address(self) -> str:
        return f"{SCHEME}{self._path}"

    def remove_file(self) -> None:
        """Nobody finds it from now on. A file that another broadcaster has put there stays."""
        with contextlib.suppress(OSError):
            if _identity(self._path) == self._identity:
                self._path.unlink()


def _make_way(path: Path) -> None:
    """Remove a socket at which no process listens."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressTaken(f"{SCHEME}{path}: there is a file that is no socket")
    if _is_live(path):
        raise AddressTaken(f"another broadcaster serves {SCHEME}{path}")
    path.unlink()


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its backlog is full
            pass
    return True


def _bind(unbound: socket.socket, path: Path, mode: int) -> None:
    # Made for nobody but the owner, and opened afterwards: at no time may more users connect than
    # in the end. The umask is the process's, and for this moment other threads have it too.
    before = os.umask(0o177)
    try:
        unbound.bind(str(path))
    finally:
        os.umask(before)
    path.chmod(mode)


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Of two broadcasters that start at once, the second sees what the first has made.

    Without it, both might find a file that nobody listens at, and the second would remove the
    first's new one. Where the lock cannot be had, they start all the same: somebody else may hold
    it for other reasons.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        deadline = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
