"""`pushdemo new NAME`: a project that runs, with a feed, a page and a test."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

HELP = "Make a directory with a project that runs: a feed, a page and a test."
PROJECTS = Path(__file__).resolve().parent.parent / "projects"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLACEHOLDER = "NAME"  # in the files of a project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the project and its directory")
    parser.add_argument("--flask", action="store_const", const="flask", default="ini", dest="kind",
        help="a Flask application, in place of an ini")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    name: str = arguments.name
    if not _NAME.fullmatch(name):
        arguments.usage_error(f"{name!r} is no name: letters, digits, _ and -, a letter first")
    directory = Path(name)
    try:
        make(PROJECTS / arguments.kind, directory, name)
    except FileExistsError:
        print(f"pushdemo: {directory} is there already: choose another name", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"pushdemo: {error}", file=sys.stderr)
        return 1
    print(f"made {directory}/; its README.md says how to run it")
    return 0


def make(project: Path, directory: Path, name: str) -> None:
    """Copy a project. Raises FileExistsError where the directory is there, and OSError."""
    directory.mkdir()
    for file in sorted(project.rglob("*")):
        if not file.is_file() or "__pycache__" in file.parts:
            continue
        copy = directory / file.relative_to(project)
        copy.parent.mkdir(exist_ok=True)
        text = file.read_text(encoding="utf-8")
        copy.write_text(re.sub(rf"\b{_PLACEHOLDER}\b", name, text), encoding="utf-8")
