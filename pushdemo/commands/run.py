"""`pushdemo run app:push -- SERVER`: a broadcaster and a server, started and ended together."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from pushdemo.commands.broadcaster import add_push_argument
from pushdemo.commands.supervisor import Command, Supervisor
from pushdemo.handover import readiness
from pushdemo.handover.address import LONGEST_PATH, VARIABLE

HELP = "Run a server with several workers, and a broadcaster for them."
GRACE = 30.0  # seconds; gunicorn gives its workers as many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_push_argument(parser)
    parser.add_argument("--grace", type=float, default=GRACE, metavar="S",
        help="seconds for one to end after the other has, before it is killed "
        "(default: %(default)g)")  # fmt: skip
    parser.add_argument("server", nargs=argparse.REMAINDER, metavar="-- SERVER ...",
        help="the server's command: gunicorn -w 4 app:app")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    server = arguments.server[1:] if arguments.server[:1] == ["--"] else arguments.server
    if not server:
        arguments.usage_error("there is no server's command: pushdemo run PUSH -- gunicorn app:app")
    if not hasattr(signal, "sigwaitinfo"):
        arguments.usage_error("this system has no sigwaitinfo: start the broadcaster yourself")
    directory = _private_directory()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(directory / "ready"))
            ready.setblocking(False)
            environ = {**os.environ, VARIABLE: f"unix:{directory / 'socket'}"}
            broadcaster = Command(
                [sys.executable, "-m", "pushdemo", "broadcaster", arguments.push],
                {**environ, readiness.VARIABLE: str(directory / "ready")},
            )
            supervisor = Supervisor(
                broadcaster, Command(server, environ), ready=ready, grace=arguments.grace
            )
            return supervisor.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _private_directory() -> Path:
    """A new directory for this user alone, whose sockets have paths that are short enough."""
    directory = Path(tempfile.mkdtemp(prefix="pushdemo-"))
    if len(os.fsencode(directory)) + len("/socket") > LONGEST_PATH:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="pushdemo-", dir="/tmp"))
    return directory
