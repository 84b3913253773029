"""A wall clock that a process sees shifted: see shifted_clock.c. libfaketime does the same for more
programs, but not for those that bring an allocator of their own, as Redis does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """One clock. directory: for its files. environ: for the processes that are to see it."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            if os.environ.get("CI"):
                pytest.fail("there is no compiler")
            pytest.skip("there is no compiler")
        library, self._file = directory / "shifted_clock.so", directory / "shift"
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True
        )
        self.seconds = 0
        self.shift(0)
        self.environ = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """Set it forward, or back where that is negative, at once."""
        self.seconds += seconds
        if not self._file.exists():
            self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as file:  # the same file: it is mapped
            file.write(self.seconds.to_bytes(8, "little", signed=True))
