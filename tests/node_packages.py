"""The npm packages that tests use: tests/node/package.json names them. Pages of ours load none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

NODE = Path(__file__).with_name("node")
MODULES = NODE / "node_modules"


def missing(reason: str) -> NoReturn:
    """What is not installed is not tested; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def installed() -> bool:
    """Whether they are there; they are installed where they are not yet."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return False
    wanted = (NODE / "package.json").read_text()
    done = MODULES / ".installed"
    if not done.exists() or done.read_text() != wanted:
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        ended = subprocess.run([*install, "--ignore-scripts"], cwd=NODE, check=False, timeout=100)
        if ended.returncode:
            return False
        done.write_text(wanted)
    return True


def package(path: str) -> str:
    """A file of a package, as text."""
    if not installed():
        missing("node, npm or the packages of tests/node are not installed")
    return (MODULES / path).read_text(encoding="utf-8")
