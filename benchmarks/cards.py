"""What an open page of all feeds costs a browser: whether time and memory stay flat.

A server sends a page three thousand rounds of three events, as fast as the page takes them: a
text, a mapping with numbers that have charts, and a picture. After each five hundred, this prints
the milliseconds that the page needed for a round, the elements in the page, and the memory of all
processes of the browser (anonymous, resident). After each thousand the page rests: a browser
collects what is not needed any more when it has time.

    python -m benchmarks.cards
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from pushdemo.push.compute.payload import Blob, Data, Text
from tests.browsers import Browser, Chromium, Firefox
from tests.preloading import preloaded
from tests.scripted_server import ScriptedServer
from tests.test_cards import FEEDS, PRELOADED, STREAM, Stage, png

ROUNDS = 3000
BATCH = 500
REST_AFTER = 1000
REST = 20.0  # seconds
MIB = 1024 * 1024


def processes(mark: str) -> Iterator[Path]:
    """All whose command line has the browser's profile in it, and their children."""
    children: dict[int, list[int]] = {}
    roots = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(directory.name))
            if mark in (directory / "cmdline").read_text():
                roots.append(int(directory.name))
    seen: set[int] = set()
    while roots:
        pid = roots.pop()
        if pid not in seen:
            seen.add(pid)
            roots += children.get(pid, [])
            yield Path(f"/proc/{pid}")


def memory(mark: str) -> float:
    """MiB."""
    total = 0
    for directory in processes(mark):
        with suppress(OSError):
            found = re.search(r"RssAnon:\s+(\d+) kB", (directory / "status").read_text())
            total += int(found[1]) * 1024 if found else 0
    return total / MIB


def run(browser: Browser) -> None:
    name = type(browser).__name__
    print(f"{name}: rounds, ms a round, elements, MiB")
    picture = Blob(png(600, 200), "image/png")
    with ScriptedServer() as scripted, preloaded(browser, PRELOADED):
        scripted.declared = FEEDS
        stage = Stage(browser, scripted, "/", STREAM)
        for start in range(0, ROUNDS, BATCH):
            began = time.monotonic()
            for number in range(start, start + BATCH):
                stage.server.send("clock", Text(f"value {number}"))
                stage.server.send("load", Data(json.dumps({"n": number % 7, "m": number})))
                stage.server.send("plot", picture)
            last = start + BATCH - 1
            browser.wait_for(
                f"document.querySelector('#container li')?.textContent === 'value {last}'", 120
            )
            took = (time.monotonic() - began) / BATCH * 1000
            elements = browser.evaluate("document.getElementsByTagName('*').length")
            used = memory("pushdemo-browser-")
            print(f"{start + BATCH:>6} {took:>8.2f} {elements:>8} {used:>8.1f}", flush=True)
            if (start + BATCH) % REST_AFTER == 0:
                time.sleep(REST)
                print(f"  rest {'':>17} {memory('pushdemo-browser-'):>8.1f}", flush=True)
    browser.open("about:blank")


def main() -> None:
    for kind in (Chromium, Firefox):
        with closing(kind()) as browser:
            run(browser)


if __name__ == "__main__":
    main()
