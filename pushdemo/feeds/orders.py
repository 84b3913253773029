"""The order book that `report` reports on: a day of made-up trading in an SQLite database.

It is made when it is first asked for, in a file beside its place, and renamed into it when it is
complete: who finds it finds all of it. Nobody locks anything. Two processes that come at the same
moment make one each, both the same, and the last to rename wins; that costs a few seconds once,
and a lock would have to be taken from somebody who was killed while he held it.

Prices are whole cents, so that sums are exact in whatever order they are made.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

log = logging.getLogger(__name__)

# Of the tables and of what is in them: a database of another version is not used.
VERSION = 1

ORDERS = 300_000
CUSTOMERS = 2_000
REGIONS = ("apac", "eu", "latam", "us")
SYMBOLS = (
    "ACER", "ALDER", "ASH", "ASPEN", "BEECH", "BIRCH", "CEDAR", "ELM", "FIR", "HAZEL",
    "HOLLY", "LARCH", "LIME", "MAPLE", "OAK", "PINE", "ROWAN", "SPRUCE", "WILLOW", "YEW",
)  # fmt: skip
OPENING = int(datetime.datetime(2009, 2, 4, 8, tzinfo=datetime.timezone.utc).timestamp())
DAY = 510 * 60  # seconds of trading

# No index: a report reads every order, and is to be work.
TABLES = f"""
PRAGMA journal_mode = OFF; -- a half database is removed, not rolled back
PRAGMA user_version = {VERSION};
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    region TEXT NOT NULL
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    placed INTEGER NOT NULL, -- seconds since the epoch
    customer INTEGER NOT NULL REFERENCES customers,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL, -- buy or sell
    price_cents INTEGER NOT NULL,
    quantity INTEGER NOT NULL
);
"""

Order = tuple[int, int, int, str, str, int, int]


def default_path() -> Path:
    """In the user's cache directory, by the XDG Base Directory Specification."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # then it is to be ignored, says the specification
        cache = Path.home() / ".cache"
    return cache / "pushdemo" / f"orders-{VERSION}.sqlite"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The order book at `path`, to read; made first, where there is none. Raises ValueError for a
    file that is something else."""
    if not path.exists():
        make(path, ORDERS)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: {error}") from None
        if version != VERSION:
            raise ValueError(f"{path} is no order book of this pushdemo: move it, or name another")
        yield connection


def make(path: Path, count: int) -> None:
    """Make an order book of `count` orders, whatever is at `path`."""
    # A warning, because that is what is seen where nobody has set up logging, as in a feed's own
    # process: a program that fills a disk and lets its user wait says so.
    log.warning("making an order book of %d orders, this once, in %s", count, path)
    began = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_remains(path)
    descriptor, name = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        with contextlib.closing(sqlite3.connect(part)) as connection:
            fill(connection, count)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    log.warning("made it in %.1f s", time.monotonic() - began)


def _remove_remains(path: Path) -> None:
    # Of those who were killed while they made one. Nobody takes an hour.
    for part in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(OSError):
            if part.stat().st_mtime < time.time() - 3600:
                part.unlink()


def fill(connection: sqlite3.Connection, count: int) -> None:
    """The tables, and `count` orders; the same for the same count."""
    random = Random(2009)
    connection.executescript(TABLES)
    with connection:  # one transaction, at whose end SQLite waits for the disk
        connection.executemany(
            "INSERT INTO customers VALUES (?, ?)",
            ((number, random.choice(REGIONS)) for number in range(1, CUSTOMERS + 1)),
        )
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)",
                               trading(random, count))  # fmt: skip


def trading(random: Random, count: int) -> Iterator[Order]:
    """A day's orders. Each symbol has a price that wanders a little every minute, and its orders
    are placed around it; a few customers and a few symbols have most of them."""
    cents = {symbol: 10 ** random.uniform(3, 4.5) for symbol in SYMBOLS}
    shares = [1 / rank for rank in range(1, len(SYMBOLS) + 1)]
    minute = -1
    for number in range(count):
        seconds = number * DAY // count
        if seconds // 60 != minute:
            minute = seconds // 60
            cents = {symbol: price * random.gauss(1, 0.0005) for symbol, price in cents.items()}
        (symbol,) = random.choices(SYMBOLS, shares)
        customer = 1 + int(CUSTOMERS * random.random() ** 2)
        quantity = 10 + int(990 * random.random() ** 4)
        away = 0.0002 + random.expovariate(1000)
        if random.random() < 0.5:
            side, price = "buy", math.floor(cents[symbol] * (1 - away))
        else:
            side, price = "sell", math.ceil(cents[symbol] * (1 + away))
        yield number + 1, OPENING + seconds, customer, symbol, side, price, quantity
