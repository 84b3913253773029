"""The README and docs/: they can be built, what they link to is there, every block of Python runs,
and every command is one that a test runs, or is said why not."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from pushdemo.commands.main import COMMANDS
from pushdemo.push.options import Options
from pushdemo.push.settings import Settings
from tests.servers import CHECKOUT, HANG, Paster

DOCUMENTS = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "deploy" / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]


class Block(NamedTuple):
    document: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        for language, text in re.findall(
            r"^```(\S*)[^\n]*\n(.*?)^```$", document.read_text(encoding="utf-8"), re.M | re.S
        ):
            yield Block(str(document.relative_to(CHECKOUT)), language, text)


# Building


def make_reference() -> ModuleType:
    sys.path.insert(0, str(CHECKOUT / "docs"))
    try:
        return importlib.import_module("make_reference")
    finally:
        sys.path.remove(str(CHECKOUT / "docs"))


def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d",
         str(tmp_path / "doctrees"), str(CHECKOUT / "docs"), str(tmp_path / "html")],
        capture_output=True, text=True, timeout=HANG, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    options = (tmp_path / "html" / "options.html").read_text()
    assert "push.X" in options
    assert "send_timeout" in options
    assert "server/index" in (tmp_path / "html" / "reference.html").read_text()


def test_the_reference_has_every_option() -> None:
    reference = make_reference()
    known = Options({}, "push.")
    Settings.read(known)
    assert set(reference.push_options()) == set(known._known)
    # And so has the README's table.
    readme = (CHECKOUT / "README.md").read_text()
    for name in known._known:
        assert f"| `push.{name}` |" in readme, name
    for name in reference.feed_options():
        assert f"| `feed.NAME.{name}` |" in readme, name


def test_what_is_linked_to_is_there() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), (document.name, target)


def test_anchors_are_headings() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", text):
            if target.startswith("http"):
                continue
            other = (document.parent / target) if target else document
            headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.M)
            slugs = {
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            }
            assert anchor in slugs, (document.name, target, anchor)


# Python


# Django is configured once in a process: tests/test_examples.py runs its example, as docs/django.md
# has it, in one of its own.
PYTHON = [
    block
    for block in blocks()
    if block.language == "python" and "settings.configure" not in block.text
]
# What a block needs that the text around it says.
BEFORE = "from pushdemo import Push\npush = Push()\n"


@pytest.mark.parametrize("number", range(len(PYTHON)), ids=[block.document for block in PYTHON])
def test_a_block_of_python_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PYTHON[number].text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.mako").write_text("${value}")
    if "import Push" not in text and ("Push(" in text or "push." in text):
        text = BEFORE + text
    paster = None
    if "http://127.0.0.1:5000" in text:
        paster = Paster(tmp_path)
        text = text.replace("http://127.0.0.1:5000", paster.url)
        text = re.sub(r"(for event in .*\n(?: .*\n)+)", r"\1    break\n", text)
    module = ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", module)
    try:
        exec(compile(text, PYTHON[number].document, "exec"), vars(module))
    finally:
        if paster is not None:
            paster.close()


# Commands


# By the first words: which test runs it, or why none does.
RUN = {
    "make serve": "tests/test_readme.py",
    "make test": "it is what runs this",
    "make tests": "it is what runs this",
    "make docs": "test_the_documentation_is_built_without_a_warning",
    "python docs/make_pictures.py": "test_the_drawings_are_made",
    "python3 -m venv": "tools/make-environment, which make test runs",
    "pip install": "tools/make-environment, and tests/test_new_command.py with the wheel",
    "paster serve": "tests/test_readme.py, tests/test_reload.py",
    "pytest": "tests/test_new_command.py",
    "curl -N http://127.0.0.1:5000/server/index": "test_what_curl_is_shown",
    "curl -N http://127.0.0.1:8000/live/orders?format=sse": "tests/test_examples.py",
    "curl -N 'http://127.0.0.1:8000/live/orders?format=ndjson'": "tests/test_new_command.py",
    "curl -N 'http://127.0.0.1:8000/server/index/orders?format=ndjson'": "tests/test_readme.py",
    "curl -H": "tests/test_publish.py",
    "gunicorn": "tests/test_examples.py, tests/test_wsgi_servers.py",
    "uwsgi": "tests/test_wsgi_servers.py",
    "flask": "tests/test_wsgi_servers.py",
    "python manage.py runserver": "tests/test_examples.py",
    "waitress-serve": "tests/test_wsgi_servers.py",
    "pushdemo run": "tests/test_run_command.py",
    "pushdemo broadcaster": "tests/test_run_command.py",
    "PUSHDEMO_BROADCASTER=": "tests/test_run_command.py",
    "pushdemo watch": "tests/test_client.py",
    "pushdemo status": "tests/test_status.py",
    "pushdemo new": "tests/test_new_command.py",
    "cd shop": "tests/test_new_command.py",
    ". venv/bin/activate": "tests/test_new_command.py, by the environment's own programs",
}


def commands() -> Iterator[tuple[str, str]]:
    """The document and the command."""
    for block in blocks():
        if block.language or block.text.lstrip().startswith(("location", "proxy_set_header", "{")):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command:
                yield block.document, command


def test_every_command_is_run_by_a_test() -> None:
    unknown = [
        (document, command)
        for document, command in commands()
        if not any(command.startswith(known) for known in RUN)
    ]
    assert unknown == []
    for where in RUN.values():
        for module in re.findall(r"tests/\w+\.py", where):
            assert (CHECKOUT / module).exists(), module


def test_each_subcommand_and_target_that_is_named_is_one() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"`make ([a-z]+)", text):
            assert re.search(rf"^{target}:", makefile, re.M), (document.name, target)
        for name in re.findall(r"`pushdemo ([a-z]+)", text):
            assert name in COMMANDS, (document.name, name)
        for module in re.findall(r"python -m (benchmarks\.\w+)", text):
            assert (CHECKOUT / f"{module.replace('.', '/')}.py").exists(), module


def test_what_curl_is_shown(tmp_path: Path) -> None:
    (command,) = {one for _, one in commands() if one.endswith(":5000/server/index")}
    paster = Paster(tmp_path)
    try:
        arguments = shlex.split(command.replace("http://127.0.0.1:5000", paster.url))
        arguments[1:1] = ["-sS", "--max-time", "4"]
        ended = subprocess.run(arguments, capture_output=True, timeout=HANG, check=False)
        assert b"<message>" in ended.stdout
    finally:
        paster.close()


def test_the_drawings_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs"))
    pictures = importlib.import_module("make_pictures")
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", "--drawings"])
    pictures.main()
    for name in ("steps.svg", "timeline.svg"):
        made = (tmp_path / name).read_text()
        assert made == (CHECKOUT / "docs" / "pictures" / name).read_text()
