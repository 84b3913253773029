"""The wheel: what `pip install` of it would leave on a machine."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pushdemo.push.deliver import sockets

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Built from a copy of the checkout, because setuptools leaves its work where it builds."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    for name in ("pushdemo", "tests"):
        shutil.copytree(
            CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
    # As pip does it, without the network.
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (built,) = copy.glob("*.whl")
    with zipfile.ZipFile(built) as wheel:
        yield wheel


def test_what_is_in_c_is_in_the_wheel_compiled_for_this_python(wheel: zipfile.ZipFile) -> None:
    compiled = [name for name in wheel.namelist() if Path(name).suffix in (".so", ".c")]
    if not hasattr(sockets, "_sockets"):
        if os.environ.get("CI"):
            pytest.fail("there was no compiler")
        pytest.skip("there was no compiler")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert compiled == [f"pushdemo/push/deliver/_sockets{suffix}"]


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    # Without what was compiled here: for any Python that has an environment in this checkout.
    files = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "pushdemo").rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in (".c", ".h", ".so")
    }
    assert {
        "pushdemo/py.typed",
        "pushdemo/public/cards.js",
        "pushdemo/public/vendor/uplot.LICENSE",
        "pushdemo/templates/dashboard.mako",
        "pushdemo/templates/error.mako",
    } < files
    assert files - set(wheel.namelist()) == set()


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "pushdemo",
        "pushdemo-0.1.0.dist-info",
    }


def test_the_wheel_has_the_entry_points_that_an_ini_and_paster_look_for(
    wheel: zipfile.ZipFile,
) -> None:
    found = configparser.ConfigParser()
    found.read_string(wheel.read("pushdemo-0.1.0.dist-info/entry_points.txt").decode())
    assert {section: dict(found[section]) for section in found.sections()} == {
        "console_scripts": {"pushdemo": "pushdemo.commands.main:main"},
        "paste.app_factory": {"main": "pushdemo.config.middleware:make_app"},
        "paste.server_factory": {"http": "pushdemo.servers.paste_http:server_factory"},
        "paste.global_paster_command": {"serve": "pushdemo.commands.serve:ServeCommand"},
    }
