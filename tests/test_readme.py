"""What the README has a person do, word for word, in a fresh directory."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.servers import CHECKOUT
from tests.serving import Serving

README = (CHECKOUT / "README.md").read_text()


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of one language below a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S)
    return [body for kind, body in fenced if kind == language]


def test_your_own_feed(tmp_path: Path) -> None:
    (code,) = blocks("Your own feed, without a framework", "python")
    (ini,) = blocks("Your own feed, without a framework", "ini")
    (commands,) = blocks("Your own feed, without a framework", "")
    serve, curl = (shlex.split(line) for line in commands.splitlines())
    (tmp_path / "orders.py").write_text(code)
    # A port that is free here; the rest is as it stands.
    assert "port = 8000\n" in ini
    (tmp_path / "mine.ini").write_text(ini.replace("port = 8000", "port = 0"))
    assert serve[:2] == ["paster", "serve"]
    with Serving(tmp_path, *serve[2:]) as serving:
        target = curl[-1].removeprefix("http://127.0.0.1:8000")
        with serving.connect(target) as reader:
            assert reader.head()[0] == 200
            assert json.loads(reader.line())["value"]["orders"] == 42


def test_memorize_as_it_is_shown() -> None:
    (code,) = [block for block in blocks("In a controller", "python") if "memorize" in block]
    names: dict[str, object] = {}
    exec(code, names)
    report = names["report"]
    assert report("eu") is report(region="eu", year=2009)  # type: ignore[operator]


def test_the_two_commands_stand_first() -> None:
    first, *_ = blocks("Run it", "")
    assert [line.split("#")[0].split() for line in first.splitlines()] == [
        ["make", "serve"],
        ["make", "test"],
    ]
    targets = (CHECKOUT / "Makefile").read_text()
    assert re.search("^serve:", targets, re.M)
    assert re.search("^test:", targets, re.M)
