"""`pushdemo status`: how a server is, in a terminal."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pushdemo import logs
from pushdemo.client import Event, Watch, WatchError

HELP = "Print how a server is: its feeds, streams and clients."
URL = "http://127.0.0.1:5000"
CLEAR = "\x1b[H\x1b[2J"

Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", nargs="?", default=URL, metavar="URL", help="the server's (default: %(default)s)")
    add("--json", action="store_true", help="print JSON")
    add("--live", action="store_true", help="go on, every two seconds")


def run(arguments: argparse.Namespace) -> int:
    url = arguments.url.rstrip("/")
    if not url.endswith("/status"):
        url += "/status"
    try:
        watch = Watch(url, limit=None if arguments.live else 1, reconnect=arguments.live)
    except ValueError as error:
        arguments.usage_error(str(error))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logging.getLogger("pushdemo.client").setLevel(logging.WARNING)  # that it connects is no news
    with watch:
        try:
            for event in watch:
                if event.type == "message":
                    _print(event, as_json=arguments.json)
        except WatchError as error:
            print(f"pushdemo: {error}", file=sys.stderr)
            return 1
    return 0


def _print(event: Event, *, as_json: bool) -> None:
    if not isinstance(event.value, dict):
        raise WatchError(f"what came is no status: {str(event.value)[:80]!r}")
    if as_json:
        print(json.dumps(event.value, ensure_ascii=True, separators=(",", ":")), flush=True)
        return
    if sys.stdout.isatty():
        sys.stdout.write(CLEAR)
    print(page(event.value), flush=True)


def page(status: Row) -> str:
    """A status (see pushdemo.push.status.merged) as text."""
    several = len(status.get("processes", ())) > 1
    parts = [str(status.get("at", ""))]
    for name, rows in status.items():
        if isinstance(rows, list) and rows:
            parts.append(f"{name.upper()}\n{table(_without(rows, several))}")
    return logs.harmless("\n\n".join(parts))


def _without(rows: Sequence[Row], several: bool) -> list[Row]:
    """Without the name of the process, where there is only one."""
    left_out = () if several or len(rows[0]) < 3 else ("process",)
    return [{key: one[key] for key in one if key not in left_out} for one in rows]


def table(rows: Sequence[Row]) -> str:
    """Rows as columns of text; numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        cells = [_cell(value) for value in values]
        width = max(len(name), *map(len, cells))
        right = all(isinstance(value, int | float | None) for value in values)
        columns.append([one.rjust(width) if right else one.ljust(width) for one in (name, *cells)])
    return "\n".join(_line(line) for line in zip(*columns, strict=True))


def _line(cells: Iterable[str]) -> str:
    return "  ".join(cells).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())
