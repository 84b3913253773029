"""tools/sanitize: the part in C has no fault that the sanitizers see, and they would see one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import CHECKOUT, HANG

SOURCES = "pushdemo/push/deliver"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy, for a fault to be planted in it."""
    if shutil.which(os.environ.get("CC", "cc")) is None:
        if os.environ.get("CI"):
            pytest.fail("there is no compiler")
        pytest.skip("there is no compiler")
    copy = tmp_path / "a checkout"
    for name in ("pushdemo", "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "development.ini"):
        shutil.copy(CHECKOUT / name, copy)
    return copy


def sanitize(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["tools/sanitize", "build/sanitized", "-q", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def test_the_part_in_c_has_no_fault_that_they_see(checkout: Path) -> None:
    done = sanitize(
        checkout,
        "tests/test_sockets.py",
        "tests/test_recipients.py",
        "tests/test_senders.py",
        "-k",
        "not share",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(checkout.glob("pushdemo/push/deliver/*.so")) == []


FAULTS = {
    "beyond the descriptors": (
        "senders.c", "d->stop - 1 - number", "d->stop - number", "heap-buffer-overflow",
    ),
    "an address that is not aligned": (
        "senders.c",
        "memcpy(&fd, d->fds + index * (ptrdiff_t)sizeof fd, sizeof fd);",
        "fd = ((const int *)d->fds)[index];",
        "load of misaligned address",
    ),
    "memory that is not freed": ("_sockets.c", "    free(found);\n", "", "memory is lost"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(checkout: Path, fault: str) -> None:
    name, right, wrong, said = FAULTS[fault]
    source = checkout / SOURCES / name
    code = source.read_text()
    assert code.count(right) == 1
    source.write_text(code.replace(right, wrong))
    done = sanitize(checkout, "tests/test_sockets.py")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_a_part_that_is_not_instrumented_is_an_error(checkout: Path) -> None:
    tool = checkout / "tools" / "sanitize"
    tool.write_text(tool.read_text().replace("CFLAGS=$flags LDFLAGS=$flags", ""))
    done = sanitize(checkout, "tests/test_sockets.py")
    assert done.returncode != 0
    assert "is not instrumented" in done.stdout + done.stderr
