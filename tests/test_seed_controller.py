"""The seed's own controller, dropped into controllers/ of a checkout, and served.

tests/seed has its code word for word. What is changed here is what Python 3 demands.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import CHECKOUT, Reader
from tests.serving import Serving

SEED = Path(__file__).with_name("seed")

PART = re.compile(
    rb"--test\nContent-type: application/xml\n\n"
    rb"<\?xml version='1\.0' encoding='ISO-8859-1'\?>\n"
    rb"<message>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+</message>\n"
    rb"--test\n"
)
LINES = 6


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


IMPORTS = """\
import datetime, hashlib, pickle, time
from pushdemo.lib.base import BaseController, response
"""
CONTROLLER = (SEED / "controller.txt").read_text()
IN_BYTES = replaced(
    CONTROLLER,
    ("content = '", "content = b'"),
    ("content += '", "content += b'"),
    ("str(datetime.datetime.now())", "str(datetime.datetime.now()).encode()"),
    ("+ '</message>", "+ b'</message>"),
)
MEMORIZE = replaced((SEED / "memorize.txt").read_text(), ("func_name", "__name__"))
OURS = "from pushdemo.lib.memoize import memorize\n"

VARIANTS = {
    "in bytes, with the seed's memorize": IMPORTS + MEMORIZE + IN_BYTES,
    "in bytes, with our memorize": IMPORTS + OURS + IN_BYTES,
    "word for word, with our memorize": IMPORTS + OURS + CONTROLLER,
}


def checkout_with(controller: str, directory: Path) -> Path:
    """A copy of this checkout with that controller, and an ini that takes any free port."""
    shutil.copytree(
        CHECKOUT / "pushdemo", directory / "pushdemo", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(CHECKOUT / "development.ini", directory)
    (directory / "pushdemo" / "controllers" / "server.py").write_text(controller)
    (directory / "mine.ini").write_text(
        "[app:main]\nuse = config:development.ini\n"
        "[server:main]\nuse = config:development.ini\nport = 0\n"
    )
    return directory


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Serving]]:
    """A server of each variant, all started at once."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Serving(checkout_with(controller, tmp_path_factory.mktemp("checkout")), "mine.ini")
            )
            for name, controller in VARIANTS.items()
        }


def part(reader: Reader) -> bytes:
    return b"".join(reader.line() for _ in range(LINES))


def test_its_parts_are_the_seed_s_bytes_and_the_next_comes_after_its_sleep(
    servers: dict[str, Serving],
) -> None:
    # All variants together, for the seed sleeps for five seconds.
    with ExitStack() as stack:
        readers = {
            name: stack.enter_context(server.connect("/server/index"))
            for name, server in servers.items()
        }
        for reader in readers.values():
            status, headers = reader.head()
            assert status == 200
            assert headers["content-type"] == "multipart/x-mixed-replace;boundary=test"
        first = {name: part(reader) for name, reader in readers.items()}
        for name, received in first.items():
            assert PART.fullmatch(received), name
        # Memorized for fifteen seconds: the same bytes again.
        assert {name: part(reader) for name, reader in readers.items()} == first


@pytest.mark.parametrize("name", VARIANTS)
def test_thirty_clients_are_served_at_the_same_time(servers: dict[str, Serving], name: str) -> None:
    # The seed's author wanted so many; on real Pylons ten of them held all ten workers.
    with ExitStack() as stack:
        readers = [stack.enter_context(servers[name].connect("/server/index")) for _ in range(30)]
        parts = []
        for reader in readers:
            assert reader.head()[0] == 200
            parts.append(part(reader))
        assert all(PART.fullmatch(received) for received in parts)
        if "our memorize" in name:
            assert len(set(parts)) == 1, "computed once, however many ask at the same moment"
        # And the workers are free for what is not a stream.
        assert "<html" in servers[name].get("/")
