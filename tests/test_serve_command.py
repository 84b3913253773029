"""`paster serve`: real processes. Each mistake in an ini is one line; what works in Paste works."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import CHECKOUT, HANG, until
from tests.serving import PASTER, Serving, environment

APP = "[app:main]\nuse = config:development.ini\n"
SERVER = "[server:main]\nuse = config:development.ini\nport = 0\n"
TAKEN = "the port that is taken"

# The ini, and the line that is said of it; its file is mistake.ini.
MISTAKES = {
    "an unknown option of a feed": (
        APP + "feed.clock.intervall = 3\n" + SERVER,
        r"feed\.clock\.intervall: there is no such option; did you mean feed\.clock\.interval\?",
    ),
    "no number": (
        APP + "feed.clock.interval = soon\n" + SERVER,
        "feed.clock.interval = soon: this must be a number of seconds, more than 0",
    ),
    "an indented line, which goes on with the one before": (
        APP + "feed.clock.interval = 5\n  feed.clock.duration = 15\n" + SERVER,
        "feed.clock.interval = 5 feed.clock.duration = 15: this must be a number of seconds, .*",
    ),
    "a missing function": (
        APP + "feed.clock = pushdemo.feeds:klock\n" + SERVER,
        "feed.clock = pushdemo.feeds:klock: pushdemo.feeds has no klock",
    ),
    "a missing module": (
        APP + "feed.clock = nowhere:clock\n" + SERVER,
        "feed.clock = nowhere:clock: there is no module nowhere; .*",
    ),
    "a bad boundary": (
        APP + "push.boundary = two words\n" + SERVER,
        "push.boundary: 'two words' cannot be a boundary: .*",
    ),
    "an unknown option of the server": (
        APP + SERVER + "prot = 8000\n",
        r"prot: there is no such option; did you mean port\?",
    ),
    "a port that is no number": (
        APP + SERVER.replace("port = 0", "port = http"),
        "port = http: this must be a whole number from 0 to 65535",
    ),
    "a port in use": (
        APP + SERVER.replace("port = 0", f"port = {TAKEN}"),
        r"cannot listen on 127\.0\.0\.1 port \d+: Address already in use; set host and port .*",
    ),
    "a host that is not there": (
        APP + SERVER + "host = nowhere.invalid\n",
        r"cannot listen on nowhere\.invalid port 0: .*; set host and port in the server's section",
    ),
    "an ini that uses a missing one": (
        "[app:main]\nuse = config:missing.ini\n" + SERVER,
        r".*/missing\.ini: No such file or directory",
    ),
    "no ini at all": ("", r"mistake\.ini: No section 'main' .*"),
    "no section of a server": (APP, r"mistake\.ini: No section 'main' \(prefixed by 'server'\) .*"),
    "a broken ini": ("app:main\n", r"mistake\.ini: File contains no section headers\. .*"),
    "a line that is no option": (APP + "clock\n", r"mistake\.ini: Source contains parsing .*"),
    "an ini that is not in UTF-8": (
        "# gr\udcfcezi\n" + APP + SERVER,
        r"mistake\.ini: 'utf-8' codec can't decode byte 0xfc .*",
    ),
    "a lone %": (APP + "push.boundary = 50%\n" + SERVER, r"mistake\.ini: .*'%' must be followed.*"),
    "an unknown entry point": (
        "[app:main]\nuse = egg:pushdemo#mine\n" + SERVER,
        r"mistake\.ini: Entry point 'mine' not found in egg 'pushdemo' .*",
    ),
    "an unknown entry point of a server": (
        APP + "[server:main]\nuse = egg:pushdemo#https\n",
        r"mistake\.ini: Entry point 'https' not found in egg 'pushdemo' .*",
    ),
    "an unknown egg": (
        "[app:main]\nuse = egg:nothing-of-the-kind\n" + SERVER,
        r"mistake\.ini: .*nothing-of-the-kind.*",
    ),
    "a logger without its section": (
        APP + SERVER + "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n",
        r"mistake\.ini: there is no section 'logger_root'",
    ),
    "a level that is none": (
        APP + SERVER + "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = LOUD\nhandlers =\n",
        r"mistake\.ini: Unknown level: 'LOUD'",
    ),
}  # fmt: skip

BUGS = {
    "a module that fails": "1 / 0",
    "a module that misses another": "import nowhere",
    "a module that reads a file that is not there": "open('nothing.txt')",
    "a module that reads what is not there": "{}['key']",
    "a module that reads a broken ini of its own": (
        "import configparser; configparser.ConfigParser().read_string('nonsense')"
    ),
}


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PASTER, "serve", *arguments],
        cwd=directory,
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with development.ini and one that builds on it."""
    shutil.copy(CHECKOUT / "development.ini", tmp_path)
    (tmp_path / "mine.ini").write_text(APP + SERVER)
    return tmp_path


@pytest.fixture(scope="module")
def endings(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, subprocess.CompletedProcess[str]]]:
    """How `paster serve` ended for each mistake and bug; all of them are run side by side."""
    inis = {name: (ini, "") for name, (ini, _) in MISTAKES.items()}
    inis |= {name: (APP + "feed.mine = mine:feed\n" + SERVER, mine) for name, mine in BUGS.items()}
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(4) as executor:
        runs = {}
        for name, (ini, module) in inis.items():
            directory = tmp_path_factory.mktemp("ini")
            shutil.copy(CHECKOUT / "development.ini", directory)
            text = ini.replace(TAKEN, str(taken.getsockname()[1]))
            (directory / "mistake.ini").write_text(text, "utf-8", "surrogateescape")
            (directory / "mine.py").write_text(module)
            runs[name] = executor.submit(run, directory, "mistake.ini")
        yield {name: run.result() for name, run in runs.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key_or_the_file(
    endings: dict[str, subprocess.CompletedProcess[str]], name: str
) -> None:
    ended = endings[name]
    assert re.fullmatch(MISTAKES[name][1] + "\n", ended.stderr), ended.stderr
    assert ended.stdout == ""
    assert ended.returncode == 1


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_a_feed_s_module_keeps_its_traceback(
    endings: dict[str, subprocess.CompletedProcess[str]], name: str
) -> None:
    ended = endings[name]
    assert ended.stderr.startswith("Traceback (most recent call last):\n")
    assert '/mine.py", line 1, in <module>\n' in ended.stderr
    assert ended.returncode == 1


def test_an_ini_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = run(tmp_path, "missing.ini")
    assert re.fullmatch(r".*/missing\.ini: No such file or directory\n", ended.stderr)
    assert ended.returncode == 1


def test_an_ini_of_one_s_own_builds_on_development_ini(directory: Path) -> None:
    (directory / "mine.py").write_text("def answer(): return 42")
    ini = APP + "feed.answer = mine:answer\npush.boundary = mine\n" + SERVER
    (directory / "mine.ini").write_text(ini)
    with Serving(directory, "mine.ini") as serving:
        assert "<message>42</message>" in serving.get("/server/index/answer?limit=1")
        with serving.connect("/server/index/clock?limit=1") as reader:
            _, headers = reader.head()
            assert headers["content-type"] == "multipart/x-mixed-replace;boundary=mine"


def test_reload_serves_again_what_was_edited(directory: Path) -> None:
    module, ini = directory / "mine.py", directory / "mine.ini"
    module.write_text("def answer(): return 'the first'")
    ini.write_text(APP + "feed.answer = mine:answer\n" + SERVER)

    def edit(path: Path, text: str) -> None:
        """Write it, and again with later times: the monitor may not have looked at it yet."""
        served = len(serving.ports)
        path.write_text(text)

        def restarted() -> bool:
            later = path.stat().st_mtime + 1
            os.utime(path, (later, later))
            return len(serving.ports) > served

        until(restarted, "a restart")

    with Serving(directory, "--reload", "mine.ini") as serving:
        assert "<message>the first</message>" in serving.get("/server/index/answer?limit=1")
        edit(module, "def answer(): return 'the second'")
        assert "<message>the second</message>" in serving.get("/server/index/answer?limit=1")
        edit(ini, APP + "feed.renamed = mine:answer\n" + SERVER)
        assert "<message>the second</message>" in serving.get("/server/index/renamed?limit=1")


def test_a_daemon_is_started_asked_for_and_stopped(directory: Path) -> None:
    pid_file, log = directory / "mine.pid", directory / "mine.log"
    options = (f"--pid-file={pid_file}", f"--log-file={log}")

    assert run(directory, "--status", *options, "mine.ini").returncode == 1
    assert run(directory, "--daemon", *options, "mine.ini").returncode == 0
    until(lambda: log.exists() and "serving on" in log.read_text(), "the daemon")
    pid = int(pid_file.read_text())
    port = int(log.read_text().rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()

    status = run(directory, "--status", *options, "mine.ini")
    assert status.stdout == f"Server running in PID {pid}\n"
    assert status.returncode == 0

    stopped = run(directory, "--stop-daemon", *options, "mine.ini")
    assert stopped.returncode == 0, stopped.stdout
    assert not pid_file.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
