"""`paster serve` as a user runs it: with an ini and options of their own, in their directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

from tests.servers import HANG, Reader, until

PASTER = str(Path(sys.executable).with_name("paster"))


def environment(directory: Path) -> dict[str, str]:
    """Where modules in `directory` come before all others, also before the installed pushdemo.

    This checkout, which is installed, is not on PYTHONPATH: found there, pushdemo would come before
    PasteScript, and of two commands called serve the last is taken.
    """
    return {
        **os.environ,
        "PYTHONPATH": f"{directory}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(directory),  # where the demo keeps its database
        # Bytecode is told from old bytecode by the second: not enough for a test that edits.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Serving:
    """`paster serve` in `directory`, with what it says in a file there."""

    def __init__(
        self, directory: Path, *arguments: str, command: Sequence[str] = (PASTER,)
    ) -> None:
        with NamedTemporaryFile(dir=directory, prefix="output-", delete=False) as output:
            self._output = Path(output.name)
            self.process = subprocess.Popen(
                [*command, "serve", *arguments],
                cwd=directory,
                env=environment(directory),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def ports(self) -> list[int]:
        """Where it served, the latest last."""
        return [int(port) for port in re.findall(r"serving on http://127.0.0.1:(\d+)", self.output)]

    @property
    def port(self) -> int:
        """Its latest port, as soon as it serves."""
        until(lambda: self.ports or self.process.poll() is not None, "a server")
        assert self.ports, self.output
        return self.ports[-1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, target: str) -> Reader:
        """A connection to its latest port, on which a request has been sent."""
        request = f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode()
        return Reader(("127.0.0.1", self.port), request)

    def get(self, target: str) -> str:
        """What comes after the head of an answer that ends."""
        with self.connect(target) as reader:
            reader.head()
            return reader.rest().decode()

    def close(self) -> None:
        """End it, and what it started: a reloader passes SIGTERM on."""
        self.process.terminate()
        self.process.wait(HANG)
