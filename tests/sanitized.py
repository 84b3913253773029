"""A plugin for pytest (`-p tests.sanitized`): what tools/sanitize asks for beside the tests.

The compiled part must be this checkout's and instrumented, or the tests say nothing. At the end,
LeakSanitizer looks for memory that the compiled part has allocated and nobody can reach. What
Python and its libraries never free is not counted: it differs by version.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

SOURCES = ("/_sockets.c:", "/senders.c:")


def pytest_collection_finish(session: pytest.Session) -> None:
    from pushdemo.push.deliver import sockets

    if not hasattr(sockets, "_sockets"):
        raise pytest.UsageError("there is no compiled part to test")
    compiled = Path(sys.modules["pushdemo.push.deliver._sockets"].__file__ or "")
    if compiled.parent != session.config.rootpath / "pushdemo" / "push" / "deliver":
        raise pytest.UsageError(f"the compiled part is that of another checkout: {compiled}")
    code = compiled.read_bytes()
    for wanted in ("__asan_report_", "__ubsan_handle_"):
        if wanted.encode() not in code:
            raise pytest.UsageError(f"{compiled} is not instrumented: it has no {wanted}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if leaks := _leaks(session.config.rootpath / "leaks"):
        raise pytest.UsageError("memory is lost:\n\n" + "\n\n".join(leaks))


def _leaks(report: Path) -> list[str]:
    """What the compiled part has lost, as LeakSanitizer says it. report: where that is to be."""
    sanitizer = ctypes.CDLL(None)
    sanitizer.__sanitizer_set_report_path(str(report).encode())
    sanitizer.__lsan_do_recoverable_leak_check()
    sanitizer.__sanitizer_set_report_path(b"stderr")
    texts = [path.read_text() for path in report.parent.glob(f"{report.name}.*")]
    return [
        leak
        for text in texts
        for leak in text.split("\n\n")
        if any(source in leak for source in SOURCES)
    ]
