"""A directory of this user alone, where processes of the user find each other."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def users_directory() -> Path:
    """Where it is by default. Not made by this."""
    return Path(f"/tmp/pushdemo-{os.getuid()}")


def make_private(directory: Path) -> None:
    """Make it, if it is not there. Raises OSError; PermissionError where it could be another
    user's."""
    try:
        directory.mkdir(0o700)
    except FileExistsError:
        status = directory.lstat()
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != os.getuid()
            or status.st_mode & 0o077
        ):
            raise PermissionError(f"{directory} is no directory of this user alone") from None
