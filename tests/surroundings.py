"""What a process inherits, made the same wherever the tests are run from: the programs that tests
start inherit it in turn."""

from __future__ import annotations

import os
import signal

# What changes how a program of Python runs, or where a client connects to. PYTHONPATH stays:
# somebody may need it to have the tests find what they use.
CHANGES = {
    "CURL_HOME", "PUSHDEMO_PURE_PYTHON", "PUSHDEMO_TOKEN", "PYTHONIOENCODING", "PYTHONOPTIMIZE",
    "PYTHONSAFEPATH", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONWARNINGS", "all_proxy", "ftp_proxy",
    "http_proxy", "https_proxy", "no_proxy",
}  # fmt: skip


def normalise() -> None:
    """In the main thread, before the first test."""
    _normalise_signals()
    for name in CHANGES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)


def _normalise_signals() -> None:
    """A shell that is not interactive has its background jobs ignore SIGINT, and nohup SIGHUP. A
    program inherits that, and which signals are blocked.

    To ignore a signal here by a handler is the same for this process; but it is not inherited.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    # Who ignores it cannot wait for its children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
