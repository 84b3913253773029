"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings

from pushdemo.push.deliver import sockets
from tests import surroundings
from tests.browsers import Browser, Chromium, Firefox, MissingBrowser
from tests.scripted_server import ScriptedServer
from tests.servers import CHECKOUT

# How long an example takes says nothing on a busy machine.
settings.register_profile("pushdemo", deadline=None)
settings.load_profile("pushdemo")
if not os.access(CHECKOUT, os.W_OK):  # it is somebody else's
    settings.register_profile("pushdemo", settings.get_profile("pushdemo"), database=None)
    settings.load_profile("pushdemo")


def pytest_configure() -> None:
    surroundings.normalise()


@pytest.fixture(scope="session", params=[Chromium, Firefox], ids=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Each browser in turn, started once. Without it the test is skipped; in CI it fails."""
    try:
        started: Browser = request.param()
    except MissingBrowser as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    with closing(started):
        yield started


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that does what the test tells it, and serves the files of pushdemo/public."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=["c", "python"])
def in_c(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to make the calls for many sockets, in this process and in those it starts. Where
    there was no compiler, one of them is skipped; in CI it fails."""
    wanted: bool = request.param == "c"
    if wanted and not hasattr(sockets, "_sockets"):
        if os.environ.get("CI"):
            pytest.fail("there was no compiler")
        pytest.skip("there was no compiler")
    monkeypatch.setattr(sockets, "IN_C", wanted)
    monkeypatch.setenv("PUSHDEMO_PURE_PYTHON", "" if wanted else "1")
    return wanted


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel keeps little of what a client does not read."""
    monkeypatch.setattr(sockets, "SEND_BUFFER", 4096)
