"""What the commands inherit, and what they do with it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pushdemo
from tests import surroundings
from tests.servers import CHECKOUT, HANG, until
from tests.serving import PASTER, Serving, environment
from tests.test_client import SSE, Exchange, Server, sse

INI = "[app:main]\nuse = egg:pushdemo\nfeed.clock = pushdemo.feeds:clock\n"
SERVER = "[server:main]\nuse = egg:pushdemo#http\nport = 0\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with mine.ini, which has no sections for logging."""
    (tmp_path / "mine.ini").write_text(INI + SERVER)
    return tmp_path


@contextlib.contextmanager
def ignoring(*numbers: int) -> Iterator[None]:
    """What is started here ignores these signals, as a background job does."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Signals


def test_an_interrupt_that_is_ignored_from_the_start_does_not_stop_the_server(
    directory: Path,
) -> None:
    with ignoring(signal.SIGINT):
        serving = Serving(directory, "mine.ini")
    with serving:
        for _ in range(2):
            assert "clock" in serving.get("/server/feeds")
            serving.process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # what must not happen in the meantime
        assert "clock" in serving.get("/server/feeds")
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(HANG) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_otherwise_each_stops_it(directory: Path, number: int) -> None:
    ignored = {signal.SIGTERM} - {number}  # which the server changes
    with ignoring(*ignored):
        serving = Serving(directory, "mine.ini")
    with serving:
        assert serving.port
        serving.process.send_signal(number)
        assert serving.process.wait(HANG) == 0


def test_sigterm_stops_it_also_where_that_was_ignored(directory: Path) -> None:
    with ignoring(signal.SIGINT, signal.SIGTERM):
        serving = Serving(directory, "mine.ini")
    with serving:
        assert serving.port
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(HANG) == 0


def test_a_daemon_is_stopped_at_once_wherever_it_was_started(directory: Path) -> None:
    pid_file, log = directory / "mine.pid", directory / "mine.log"
    command = [PASTER, "serve", f"--pid-file={pid_file}", f"--log-file={log}"]

    def run(*arguments: str) -> None:
        subprocess.run(
            [*command, *arguments], cwd=directory, env=environment(directory), check=True
        )

    with ignoring(signal.SIGINT):
        run("--daemon", "mine.ini")
    until(lambda: log.exists() and "serving on" in log.read_text(), "the daemon")
    began = time.monotonic()
    run("--stop-daemon")
    # PasteScript sends ten interrupts, one each second, before it sends SIGTERM.
    assert time.monotonic() - began < 8
    assert not pid_file.exists()


def test_watch_goes_on_where_an_interrupt_was_ignored(tmp_path: Path) -> None:
    interrupted: list[bool] = []

    def script(exchange: Exchange) -> None:
        exchange.start(SSE)
        exchange.send(sse(1))
        until(lambda: interrupted, "the interrupt")
        time.sleep(0.2)  # what must not happen in the meantime
        exchange.send(sse(2))
        exchange.wait_for_hangup()

    with Server(script) as server:
        with ignoring(signal.SIGINT):
            process = subprocess.Popen(
                [sys.executable, "-m", "pushdemo.commands.main", "watch", server.url],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        with process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"1\n"
                process.send_signal(signal.SIGINT)
                interrupted.append(True)
                assert process.stdout.readline() == b"2\n"
                process.terminate()
                assert process.wait(HANG) == -signal.SIGTERM
            finally:
                process.kill()


PROBE = """
import os, signal, sys
from tests import surroundings
surroundings.normalise()
os.kill(os.getpid(), signal.SIGINT)  # is still ignored here
os.execv(sys.executable, [sys.executable, "-c", '''
import os, signal
ignored = [number.name for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD)
           if signal.getsignal(number) is signal.SIG_IGN]
print(ignored, signal.pthread_sigmask(signal.SIG_BLOCK, ()), "http_proxy" in os.environ)
'''])
"""


def test_what_tests_start_inherits_none_of_it() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with ignoring(signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            started = subprocess.Popen(
                [sys.executable, "-c", PROBE],
                cwd=CHECKOUT,
                env={**os.environ, "http_proxy": "http://nowhere.invalid", "PYTHONPATH": "."},
                stdout=subprocess.PIPE,
                text=True,
            )
    finally:
        surroundings.normalise()
    output, _ = started.communicate(timeout=HANG)
    assert (output, started.returncode) == ("[] set() False\n", 0)


# Warnings

PACKAGE = Path(pushdemo.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "projects" not in path.parts  # which are users'
)
# PasteScript imports pkg_resources before anything of ours is asked.
PASTESCRIPT = {"pushdemo.commands.serve"}
ALLOWED = (
    "-W", "ignore:pkg_resources is deprecated as an API:DeprecationWarning",
    "-W", "ignore:Deprecated call to `pkg_resources:DeprecationWarning",
)  # fmt: skip

EACH = """
import importlib, sys
for name in sys.argv[1:]:
    # Each is the first to be imported.
    for loaded in list(sys.modules):
        if loaded.partition(".")[0] in ("pushdemo", "webob", "routes", "paste", "cgi"):
            del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Warning as warning:
        print(name, warning)
"""


def test_no_module_warns() -> None:
    assert set(MODULES) > PASTESCRIPT
    imported = subprocess.run(
        [sys.executable, "-W", "error", "-c", EACH, *(set(MODULES) - PASTESCRIPT)],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert (imported.stdout, imported.stderr, imported.returncode) == ("", "", 0)


def test_a_server_warns_only_of_what_pastescript_does(directory: Path) -> None:
    command = (sys.executable, "-W", "error", *ALLOWED, PASTER)
    with Serving(directory, "mine.ini", command=command) as serving:
        assert "<message>" in serving.get("/server/index/clock?limit=1")
        assert "clock" in serving.get("/server/feeds")
        assert serving.get("/nothing")
        serving.process.terminate()
        assert serving.process.wait(HANG) == 0
        assert "Warning" not in serving.output


# No compiler

MISSING = r"the part in C is missing \(.*_sockets.*\): .*apt install gcc libc6-dev python3-dev.*"
HIDDEN = "import sys; sys.modules['pushdemo.push.deliver._sockets'] = None"


@pytest.mark.parametrize(("chosen", "lines"), [("", 1), ("1", 0)])
def test_a_server_says_once_that_it_runs_without_its_part_in_c(
    directory: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, lines: int
) -> None:
    (directory / "usercustomize.py").write_text(HIDDEN)
    (directory / "sitecustomize.py").write_text(HIDDEN)
    monkeypatch.setenv("PUSHDEMO_PURE_PYTHON", chosen)
    two = INI.replace("main", "one") + INI.replace("main", "two")
    cascade = "[composite:main]\nuse = egg:Paste#urlmap\n/ = one\n/two = two\n"
    (directory / "mine.ini").write_text(two + cascade + SERVER)
    with Serving(directory, "mine.ini") as serving:
        assert "<message>" in serving.get("/server/index/clock?limit=1")
        assert serving.output.count("the part in C is missing") == lines
        assert len(re.findall(f"{MISSING}$", serving.output, re.M)) == lines


def test_a_server_that_has_it_says_nothing(directory: Path, in_c: bool) -> None:
    with Serving(directory, "mine.ini") as serving:
        assert serving.port
        assert "in C" not in serving.output, in_c
