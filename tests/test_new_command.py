"""`pushdemo new`, `check` and `serve`, from the wheel, in a fresh environment: as the tutorial
has it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import CHECKOUT, HANG, Reader, free_port, listens, until

INSTALL = 300.0  # seconds


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of an environment in which the wheel is installed, with what the tutorial names."""
    directory = tmp_path_factory.mktemp("fresh")
    source = directory / "source"
    for name in ("pushdemo", "setup.py", "pyproject.toml", "README.md"):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(
                CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        else:
            shutil.copy(CHECKOUT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory / "dist", source],
        check=True, timeout=INSTALL,
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True, timeout=INSTALL)
    (wheel,) = (directory / "dist").glob("*.whl")
    subprocess.run(
        [directory / "venv" / "bin" / "pip", "install", "-q", wheel, "flask", "gunicorn", "pytest"],
        check=True, timeout=INSTALL,
    )  # fmt: skip
    return directory / "venv" / "bin"


@pytest.fixture(scope="module", params=["ini", "flask"])
def project(
    request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    options = ["--flask"] if request.param == "flask" else []
    said = run(programs, directory, "pushdemo", "new", "shop", *options)
    assert said == "made shop/; its README.md says how to run it\n"
    return request.param, directory / "shop"


def environment(programs: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def run(programs: Path, directory: Path, *command: str) -> str:
    ended = subprocess.run(
        [programs / command[0], *command[1:]], cwd=directory, env=environment(programs),
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.timeout(600)
def test_its_test_passes_at_once(programs: Path, project: tuple[str, Path]) -> None:
    said = run(programs, project[1], "pytest", "-q", "-p", "no:cacheprovider")
    assert "2 passed" in said


def test_it_runs(programs: Path, project: tuple[str, Path]) -> None:
    kind, directory = project
    port = free_port()
    if kind == "flask":
        server: list[str | Path] = [
            programs / "gunicorn",
            "-w",
            "2",
            "-b",
            f"127.0.0.1:{port}",
            "app:app",
        ]
        command: list[str | Path] = [programs / "pushdemo", "run", "app:push", "--", *server]
        target = "/live/orders"
    else:
        ini = directory / "development.ini"
        ini.write_text(ini.read_text().replace("port = 5000", f"port = {port}"))
        command = [str(programs / "pushdemo"), "serve", "development.ini"]
        target = "/server/index/orders"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment(programs), stdout=log, stderr=log
        )
    try:
        until(lambda: listens(port) or process.poll() is not None, "the server")
        assert process.poll() is None, (directory / "log").read_text()
        ask = f"GET {target}?format=ndjson&limit=2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with Reader(("127.0.0.1", port), ask.encode()) as reader:
            assert reader.head()[0] == 200
            assert json.loads(reader.line())["value"].keys() == {"orders", "at"}
        page = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with Reader(("127.0.0.1", port), page) as reader:
            assert reader.head()[0] == 200
            assert b"<title>shop</title>" in reader.rest()
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait(HANG)


def test_check_says_what_would_run(programs: Path, tmp_path: Path) -> None:
    run(programs, tmp_path, "pushdemo", "new", "shop")
    said = run(programs, tmp_path / "shop", "pushdemo", "check", "development.ini")
    assert re.search(r"^orders +feeds:orders +2\.0 +2\.0 +thread +1 +-$", said, re.M)
    assert re.search(r"^server: egg:pushdemo#http at 127\.0\.0\.1:\d+$", said, re.M)


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("[app:main]\nuse = egg:pushdemo\nfeed.x = feeds:nothing\n", "feed.x = feeds:nothing: "),
        ("[app:main]\nuse = egg:pushdemo\npush.hartbeat = 1\n", "push.hartbeat: there is no such"),
        ("[app:main]\nuse = egg:pushdemo\nfeed.x = push\n", "feed.x = push: nobody could push"),
        ("[app:main]\nuse = egg:nothing\n", "pushdemo: wrong.ini: "),
        ("nonsense", "pushdemo: wrong.ini: "),
        (None, "pushdemo: there is no file wrong.ini"),
    ],
)
def test_check_says_what_is_wrong_in_a_line(tmp_path: Path, ini: str | None, said: str) -> None:
    (tmp_path / "feeds.py").write_text("")
    if ini is not None:
        (tmp_path / "wrong.ini").write_text(ini)
    ended = subprocess.run(
        [sys.executable, "-m", "pushdemo", "check", "wrong.ini"], cwd=tmp_path,
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith(said), ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "code"), [("shop", 1), ("../shop", 2), ("", 2), ("a b", 2), ("-x", 2)]
)
def test_new_says_what_is_wrong(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "shop").mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "pushdemo", "new", name], cwd=tmp_path,
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "shop").iterdir()) == []


def test_serve_is_paster_serve(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pushdemo", "serve", "nothing.ini"], cwd=tmp_path,
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "nothing.ini" in ended.stderr
    assert "Traceback" not in ended.stderr
