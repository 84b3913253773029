"""The feeds that come with pushdemo: the numbers, the picture, and the database behind a report."""

from __future__ import annotations

import configparser
import datetime
import gc
import itertools
import json
import logging
import os
import sqlite3
import statistics
import struct
import subprocess
import sys
import threading
import time
import weakref
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy
import psutil
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from pushdemo import feeds
from pushdemo.feeds import chart, machine, orders
from pushdemo.feeds.chart import Chart, Sample
from pushdemo.push.compute.payload import Blob, Data, payload_of
from tests.servers import CHECKOUT, HANG, Paster


def run(program: str, *arguments: str | Path, path: Path = CHECKOUT) -> str:
    """What a program prints, whose modules come from `path` first."""
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


# -- clock and the ini


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[datetime.timezone]:
    """This machine's time zone, for the test."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "EAST-9")
        time.tzset()
        yield datetime.timezone(datetime.timedelta(hours=9))
    time.tzset()


def test_the_clock_is_this_machines(far_east: datetime.timezone) -> None:
    before = datetime.datetime.now(far_east)
    told = datetime.datetime.fromisoformat(feeds.clock()).replace(tzinfo=far_east)
    assert before <= told <= datetime.datetime.now(far_east)


def test_development_ini_declares_them_all_the_clock_first() -> None:
    ini = configparser.RawConfigParser()
    ini.read(CHECKOUT / "development.ini")
    section = {key: value for key, value in ini["app:main"].items() if key.startswith("feed.")}
    assert {key: value for key, value in section.items() if key.count(".") == 1} == {
        f"feed.{name}": f"pushdemo.feeds:{name}" for name in ("clock", "load", "plot", "report")
    }
    assert list(section)[:3] == ["feed.clock", "feed.clock.interval", "feed.clock.duration"]
    assert [section[f"feed.{name}.interval"] for name in ("clock", "load", "plot", "report")] == [
        "5", "2", "5", "10",
    ]  # fmt: skip
    assert (section["feed.clock.duration"], section["feed.report.duration"]) == ("15", "60")


# -- load


class Times(NamedTuple):
    """What psutil.cpu_times() returns on Linux, in its order of importance."""

    user: float = 0.0
    system: float = 0.0
    idle: float = 0.0
    iowait: float = 0.0
    guest: float = 0.0
    guest_nice: float = 0.0


def percents(*times: Times) -> list[float]:
    """What a Cpu says that is asked at these times."""
    cpu = machine.Cpu(iter(times).__next__)
    return [cpu.percent() for _ in times]


def test_cpu_percent_is_since_the_last_call_and_at_first_since_the_start() -> None:
    assert percents(
        Times(user=10, system=10, idle=60),
        Times(user=11, system=12, idle=61),
        Times(user=11, system=12, idle=71),
        Times(user=11.01, system=12, idle=71.02),
    ) == [25, 75, 0, 33.3]


def test_waiting_for_a_disk_is_not_work() -> None:
    assert percents(Times(user=1, idle=1, iowait=2)) == [25]


def test_what_a_guest_spends_is_counted_once() -> None:
    # Half of the user's second is a guest's, and Linux has it in both numbers.
    assert percents(Times(user=1, idle=3, guest=0.3, guest_nice=0.2)) == [25]


def test_a_system_that_knows_less_will_do() -> None:
    class Plain(NamedTuple):
        user: float
        idle: float

    assert machine.Cpu(lambda: Plain(1, 3)).percent() == 25


def test_between_two_ticks_the_last_percentage_stays() -> None:
    assert percents(Times(user=1, idle=1), Times(user=1, idle=1)) == [50, 50]
    assert percents(Times(), Times(user=1)) == [0, 100]


def test_a_clock_that_is_corrected_gives_no_impossible_percentage() -> None:
    before = Times(user=5, idle=5, iowait=4)
    assert percents(before, Times(user=6, idle=5, iowait=3.5))[1] == 100
    assert percents(before, Times(user=4.5, idle=6, iowait=4))[1] == 0


def test_a_new_thread_for_each_call_makes_no_difference() -> None:
    cpu = machine.Cpu(iter([Times(user=1, idle=1), Times(user=2, idle=4)]).__next__)
    told = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: told.append(cpu.percent()))
        thread.start()
        thread.join()
    assert told == [50, 25]


def test_memory_that_can_be_given_back_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(total=3000, available=1000, used=2500, percent=99.0, free=1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: there)
    assert machine.memory() == (66.7, 2000, 3000)


def test_load_says_what_it_counts_and_in_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu", machine.Cpu(lambda: Times(user=1, idle=3)))
    monkeypatch.setattr(machine, "memory", lambda: (50.0, 2048, 4096))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.12345, 2.0, 30.0), raising=False)
    monkeypatch.setattr(machine, "process", lambda: {"process_threads": 3})
    assert feeds.load() == {
        "cpu_percent": 25,
        "cpu_count": 8,
        "memory_percent": 50,
        "memory_used_bytes": 2048,
        "memory_total_bytes": 4096,
        "load_average_1_minute": 0.12,
        "load_average_5_minutes": 2,
        "load_average_15_minutes": 30,
        "process_threads": 3,
    }


def test_a_system_without_load_averages_has_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def unobtainable() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unobtainable, raising=False)
    assert machine.load_averages() == {}
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load_averages() == {}
    assert "cpu_percent" in feeds.load()


HOLDING = """
import os, threading
from pushdemo.feeds.machine import process

before = process()
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
for _ in range(4):
    os.pipe()
after = process()
print({name: after[name] - before[name] for name in after})
"""


def test_a_process_knows_its_own_threads_and_descriptors() -> None:
    # In a process where nothing else comes and goes.
    assert run(HOLDING) == "{'process_descriptors': 8, 'process_threads': 3}\n"


def test_load_is_of_this_machine_and_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("load sleeps"))
    began = time.thread_time()
    for _ in range(50):
        told = feeds.load()
    assert time.thread_time() - began < 0.5
    assert isinstance(payload_of(told), Data)
    assert 0 <= told["cpu_percent"] <= 100
    assert 0 < told["memory_percent"] < 100
    assert 0 < told["memory_used_bytes"] < told["memory_total_bytes"]
    assert told["process_threads"] >= 1


# -- plot


def chunks(png: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks by their types, each with the right check sum."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, place = {}, 8
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        data = png[place + 8 : place + 8 + length]
        (check,) = struct.unpack_from(">I", png, place + 8 + length)
        assert check == zlib.crc32(kind + data)
        found[kind] = data
        place += 12 + length
    return found


def samples(*values: float) -> list[Sample]:
    """One every half minute, of these percentages of the processors."""
    return [Sample(30.0 * number, value, 40.0) for number, value in enumerate(values)]


class Fake:
    """A chart whose machine is as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu = itertools.count(1)
        self.chart = Chart(lambda: float(next(self.cpu)), lambda: 40.0, lambda: self.now)

    def sample(self, seconds: float) -> list[Sample]:
        self.now += seconds
        return self.chart.sample()


def test_a_plot_is_a_png_of_its_size() -> None:
    data, content_type = feeds.plot()
    assert content_type == "image/png"
    found = chunks(data)
    assert struct.unpack_from(">II", found[b"IHDR"]) == (640, 240)
    assert list(found)[-1] == b"IEND"
    Image.open(BytesIO(data)).load()  # type: ignore[no-untyped-call,unused-ignore]
    blob = payload_of((data, content_type))
    assert isinstance(blob, Blob)
    assert blob.is_image


def test_another_sample_is_another_picture_and_the_same_are_the_same() -> None:
    assert chart.draw(samples(10, 20)) == chart.draw(samples(10, 20))
    assert chart.draw(samples(10, 20)) != chart.draw(samples(10, 60))
    plot = Fake().chart
    (first, _), (second, _) = plot(), plot()
    assert first != second


def test_the_lines_are_the_samples_and_the_axes_say_in_what() -> None:
    figure = chart.figure_of([Sample(60, 10, 40), Sample(90, 20, 41), Sample(180, 70, 42)])
    (axes,) = figure.axes
    cpu, memory = axes.lines
    assert numpy.asarray(cpu.get_xydata()).tolist() == [[2, 10], [1.5, 20], [0, 70]]
    assert numpy.asarray(memory.get_xydata()).tolist() == [[2, 40], [1.5, 41], [0, 42]]
    assert cpu.get_drawstyle() == "steps-pre"
    (now,) = axes.collections
    assert numpy.asarray(now.get_offsets()).tolist() == [[0, 70], [0, 42]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("minutes ago", "percent")
    assert (axes.get_xlim(), axes.get_ylim()) == ((5, 0), (0, 100))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["CPU 70 %", "memory 42 %"]
    figure.draw_without_rendering()  # which is when the ticks get their numbers
    texts = [text for text in axes.findobj(Text) if isinstance(text, Text) and text.get_text()]
    assert {"minutes ago", "percent", "5", "100", "CPU 70 %"} < {text.get_text() for text in texts}
    assert {to_hex(text.get_color()) for text in texts} == {chart.INK}


def luminance(color: bytes) -> float:
    """By WCAG 2.1."""
    shares = [part / 255 for part in color]
    linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", [0.0, 1.0], ids=["black", "white"])
def test_it_can_be_read_on_any_page(page: float) -> None:
    data = Image.open(BytesIO(chart.draw(samples(10, 80, 30)))).convert("RGBA").tobytes()
    pixels = [data[place : place + 4] for place in range(0, len(data), 4)]
    assert pixels[0][3] == pixels[-1][3] == 0, "the page is not seen"
    assert sum(pixel[3] == 0 for pixel in pixels) > len(pixels) / 2
    # Without those that edges are smoothed with.
    drawn = Counter(pixel[:3] for pixel in pixels if pixel[3] == 255).most_common(3)
    assert {f"#{color.hex()}" for color, _ in drawn} == {chart.INK, chart.CPU, chart.MEMORY}
    for color, _ in drawn:
        light, dark = sorted([luminance(color), page], reverse=True)
        least = 4.5 if f"#{color.hex()}" == chart.INK else 3
        assert (light + 0.05) / (dark + 0.05) >= least


def test_a_chart_keeps_the_samples_of_its_minutes_and_the_one_before() -> None:
    fake = Fake()
    kept = [[sample.cpu_percent for sample in fake.sample(100)] for _ in range(6)]
    assert kept == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


def test_after_a_pause_the_line_begins_beyond_the_edge() -> None:
    fake = Fake()
    for _ in range(3):
        fake.sample(5)
    assert [sample.cpu_percent for sample in fake.sample(3600)] == [3, 4]


def test_a_chart_is_bounded_however_often_it_is_asked() -> None:
    fake = Fake()
    for _ in range(chart.MOST_SAMPLES + 100):
        kept = fake.sample(0.001)
    assert len(kept) == chart.MOST_SAMPLES
    assert kept[-1].cpu_percent == chart.MOST_SAMPLES + 100


def test_nothing_of_a_drawing_stays() -> None:
    figure = chart.figure_of(samples(1, 2))
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None


def test_threads_draw_without_disturbing_each_other() -> None:
    several = [samples(*range(n, 100, 10)) for n in range(8)]
    alone = [chart.draw(each) for each in several]
    with ThreadPoolExecutor(len(several)) as pool:
        assert list(pool.map(chart.draw, several)) == alone


def test_load_and_plot_do_not_share_what_the_last_call_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = itertools.count(1)
    monkeypatch.setattr(machine._cpu, "_times", lambda: Times(user=next(seconds)))
    feeds.plot()
    feeds.load()
    assert next(seconds) == 2, "both asked"


# -- report: the database

FEW = 3_000


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report makes a small database."""
    monkeypatch.setattr(orders, "ORDERS", FEW)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small order book."""
    path = tmp_path_factory.mktemp("book") / "orders.sqlite"
    orders.make(path, FEW)
    return path


def rows(path: Path, table: str = "orders") -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_a_database_is_a_plausible_day_of_as_many_orders_as_asked(book: Path) -> None:
    made = rows(book)
    ids, placed, customers, symbols, sides, prices, quantities = zip(*made, strict=True)
    assert list(ids) == list(range(1, FEW + 1))
    assert list(placed) == sorted(placed)
    day = datetime.datetime.fromtimestamp(placed[0], datetime.timezone.utc)
    assert day.isoformat() == "2009-02-04T08:00:00+00:00"
    assert 8 * 3600 < placed[-1] - placed[0] < 8.5 * 3600
    assert set(symbols) == set(orders.SYMBOLS)
    assert abs(sides.count("buy") - sides.count("sell")) < FEW / 10
    assert set(sides) == {"buy", "sell"}
    assert min(prices) > 0
    assert min(quantities) >= 10
    regions = dict(rows(book, "customers"))
    assert set(regions.values()) == set(orders.REGIONS)
    assert set(customers) <= set(regions)


def test_nobody_buys_for_more_than_somebody_sells_for_in_the_same_minute(book: Path) -> None:
    quotes: dict[tuple[str, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for _, placed, _, symbol, side, price, _ in rows(book):
        quotes[symbol, placed // 60][side].append(price)
    both = [quote for quote in quotes.values() if len(quote) == 2]
    assert len(both) > 100
    assert all(max(quote["buy"]) < min(quote["sell"]) for quote in both)


def test_databases_are_alike(tmp_path: Path, book: Path) -> None:
    again = tmp_path / "again.sqlite"
    orders.make(again, FEW)
    assert rows(again) == rows(book)
    assert rows(again, "customers") == rows(book, "customers")


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/var/xdg", "/var/xdg"), ("", "/home/me/.cache"), ("relative", "/home/me/.cache"),
     (None, "/home/me/.cache")],
)  # fmt: skip
def test_it_is_where_the_user_keeps_caches(
    variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if variable is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert orders.default_path() == Path(expected, "pushdemo/orders-1.sqlite")


@pytest.mark.usefixtures("few")
def test_the_first_report_makes_it_and_says_so_and_the_second_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = feeds.report()
    place = tmp_path / "pushdemo" / "orders-1.sqlite"
    assert len(rows(place)) == FEW
    making, made = caplog.messages
    assert making == f"making an order book of {FEW} orders, this once, in {place}"
    assert made.startswith("made it in 0.")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    caplog.clear()
    inode = place.stat().st_ino
    assert feeds.report() == first
    assert place.stat().st_ino == inode
    assert caplog.messages == []
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.usefixtures("few")
def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    feeds.report(path="~/some where?/100%/orders#1.sqlite")
    assert len(rows(tmp_path / "some where?" / "100%" / "orders#1.sqlite")) == FEW


def test_there_are_a_few_hundred_thousand_orders() -> None:
    assert orders.ORDERS == 300_000


def _nothing(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("so long a text that SQLite looks at it. " * 100)


def _database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (mine)")


@pytest.mark.parametrize("put", [_nothing, _text, _database])
def test_another_file_in_its_place_is_left_alone(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    path = tmp_path / "mine"
    put(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=str(path)):
        feeds.report(path=str(path))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_cannot_write(book: Path) -> None:
    with orders.opened(book) as connection, pytest.raises(sqlite3.OperationalError, match="readon"):
        connection.execute("DELETE FROM orders")


@pytest.mark.parametrize("error", [KeyboardInterrupt, sqlite3.OperationalError])
@pytest.mark.usefixtures("few")
def test_an_interrupted_creation_leaves_nothing_and_the_next_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: object) -> Iterator[orders.Order]:
        yield (1, 0, 1, "ELM", "buy", 1, 1)
        (part,) = tmp_path.iterdir()
        assert part.suffix == ".part"
        raise error

    path = tmp_path / "orders.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(orders, "trading", interrupted)
        with pytest.raises(error):
            feeds.report(path=str(path))
    assert list(tmp_path.iterdir()) == []
    assert feeds.report(path=str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_complete_database_is_renamed_into_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = []
    fill = orders.fill

    def watched(connection: sqlite3.Connection, count: int) -> None:
        (part,) = tmp_path.iterdir()
        inodes.append(part.stat().st_ino)
        fill(connection, count)

    monkeypatch.setattr(orders, "fill", watched)
    path = tmp_path / "orders.sqlite"
    orders.make(path, FEW)
    assert inodes == [path.stat().st_ino]


# Makes a report of a small order book, and stops when that is complete but not in its place.
STOPPED = f"""
import json, sys
from pushdemo.feeds import orders, report

fill = orders.fill

def filled(connection, count):
    fill(connection, {FEW})
    print("filled", flush=True)
    sys.stdin.readline()

orders.fill = filled
print(json.dumps(report(path=sys.argv[1])))
"""


class Making:
    """A process that makes an order book at `path`, stopped before it is done."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(path)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def wait(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "filled\n"

    def go_on(self) -> object:
        """Its report."""
        output, _ = self.process.communicate("\n", HANG)
        assert self.process.returncode == 0
        return json.loads(output)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def making() -> Iterator[Callable[[Path], Making]]:
    started: list[Making] = []

    def start(path: Path) -> Making:
        started.append(Making(path))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_two_processes_at_the_same_moment(
    tmp_path: Path, book: Path, making: Callable[[Path], Making]
) -> None:
    path = tmp_path / "orders.sqlite"
    both = [making(path), making(path)]
    for one in both:
        one.wait()
    assert not path.exists()
    assert [one.go_on() for one in both] == [feeds.report(path=str(book))] * 2
    assert list(tmp_path.iterdir()) == [path]
    assert rows(path) == rows(book)


@pytest.mark.usefixtures("few")
def test_a_killed_creation_leaves_no_half_database(
    tmp_path: Path, book: Path, making: Callable[[Path], Making]
) -> None:
    path = tmp_path / "orders.sqlite"
    killed = making(path)
    killed.wait()
    killed.kill()
    (part,) = tmp_path.iterdir()
    assert part.suffix == ".part"
    assert feeds.report(path=str(path)) == feeds.report(path=str(book))
    assert part.exists(), "it might be at work still"

    other = tmp_path / "another.sqlite.1.part"
    other.touch()
    hours_ago = time.time() - 2 * 3600
    for left in (part, other):
        os.utime(left, (hours_ago, hours_ago))
    path.unlink()
    feeds.report(path=str(path))
    assert sorted(tmp_path.iterdir()) == [other, path]


# -- report: the numbers


def by_hand(tmp_path: Path, *made: tuple[int, int, str, str, int, int]) -> Any:
    """The report on these orders (placed, customer, symbol, side, price_cents, quantity) of two
    customers, 1 in the eu and 2 in the us."""
    path = tmp_path / "by-hand.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(orders.TABLES)
        connection.executemany("INSERT INTO customers VALUES (?, ?)", [(1, "eu"), (2, "us")])
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(number, *order) for number, order in enumerate(made, 1)],
        )
    return feeds.report(path=str(path))


def test_a_report_by_hand(tmp_path: Path) -> None:
    assert by_hand(
        tmp_path,
        (0, 1, "ELM", "buy", 1000, 10),
        (59, 2, "ELM", "sell", 1030, 10),
        (59, 1, "ELM", "buy", 1010, 20),
        (60, 1, "ELM", "buy", 2000, 5),
        (7200, 2, "FIR", "sell", 100, 1),
    ) == {
        "region": "all",
        "regions": [
            {"region": "eu", "orders": 3, "customers": 1, "turnover_eur": 402.0,
             "median_order_eur": 100.0, "p99_order_eur": 202.0},
            {"region": "us", "orders": 2, "customers": 1, "turnover_eur": 104.0,
             "median_order_eur": 1.0, "p99_order_eur": 103.0},
        ],
        "symbols": [
            {"symbol": "ELM", "orders": 4, "turnover_eur": 505.0, "share_percent": 99.8,
             "vwap_eur": 11.2222, "mean_spread_eur": 0.2, "mean_step_eur": 5.0},
            {"symbol": "FIR", "orders": 1, "turnover_eur": 1.0, "share_percent": 0.2,
             "vwap_eur": 1.0, "mean_spread_eur": None, "mean_step_eur": None},
        ],
        "customers": [
            {"region": "eu", "customer": 1, "orders": 3, "turnover_eur": 402.0},
            {"region": "us", "customer": 2, "orders": 2, "turnover_eur": 104.0},
        ],
        "hours": [
            {"from_utc": "00:00", "orders": 4, "turnover_eur": 505.0,
             "share_until_then_percent": 99.8},
            {"from_utc": "02:00", "orders": 1, "turnover_eur": 1.0,
             "share_until_then_percent": 100.0},
        ],
    }  # fmt: skip


def test_a_report_on_nothing(tmp_path: Path) -> None:
    assert by_hand(tmp_path) == {
        "region": "all", "regions": [], "symbols": [], "customers": [], "hours": [],
    }  # fmt: skip


class Row(NamedTuple):
    id: int
    placed: int
    customer: int
    symbol: str
    side: str
    cents: int
    quantity: int
    region: str

    @property
    def value(self) -> int:
        return self.cents * self.quantity


Groups = dict[Any, list[Row]]


def groups(asked: Sequence[Row], key: Callable[[Row], object]) -> Groups:
    found: Groups = defaultdict(list)
    for row in asked:
        found[key(row)].append(row)
    return found


def euros(asked: Sequence[Row]) -> float:
    return sum(row.value for row in asked) / 100


def nearest_rank(asked: Sequence[Row], percent: int) -> float:
    ranked = sorted(row.value for row in asked)
    places = range(1, len(ranked) + 1)
    return ranked[next(n for n in places if 100 * n >= percent * len(ranked)) - 1] / 100


def mean_spread(asked: Sequence[Row]) -> float | None:
    spreads = []
    for minute in groups(asked, lambda row: row.placed // 60).values():
        asks = [row.cents for row in minute if row.side == "sell"]
        bids = [row.cents for row in minute if row.side == "buy"]
        if asks and bids:
            spreads.append(min(asks) - max(bids))
    return round(statistics.mean(spreads) / 100, 4) if spreads else None


def mean_step(asked: Sequence[Row]) -> float:
    steps = [
        abs(after.cents - before.cents)
        for side in groups(asked, lambda row: row.side).values()
        for before, after in itertools.pairwise(side)
    ]
    return round(statistics.mean(steps) / 100, 4)


def in_python(asked: Sequence[Row]) -> dict[str, Any]:
    """The report's four sections, each line as a tuple, computed as one would without SQL."""
    total = euros(asked)
    regions = groups(asked, lambda row: row.region)
    symbols = groups(asked, lambda row: row.symbol)
    hours = groups(asked, lambda row: row.placed // 3600)
    return {
        "regions": [
            (name, len(its), len({row.customer for row in its}), euros(its), nearest_rank(its, 50),
             nearest_rank(its, 99))
            for name, its in sorted(regions.items())
        ],
        "symbols": [
            (name, len(its), euros(its), round(100 * euros(its) / total, 2),
             round(euros(its) / sum(row.quantity for row in its), 4), mean_spread(its),
             mean_step(its))
            for name, its in sorted(symbols.items(), key=lambda item: (-euros(item[1]), item[0]))
        ][:10],
        "customers": [
            (name, customer, len(its), euros(its))
            for name, theirs in sorted(regions.items())
            for customer, its in sorted(
                groups(theirs, lambda row: row.customer).items(),
                key=lambda item: (-euros(item[1]), item[0]),
            )[:3]
        ],
        "hours": [
            (f"{hour % 24:02}:00", len(its), euros(its),
             round(100 * euros([row for row in asked if row.placed // 3600 <= hour]) / total, 2))
            for hour, its in sorted(hours.items())
        ],
    }  # fmt: skip


@pytest.mark.parametrize("region", [None, *orders.REGIONS])
def test_a_report_is_what_python_computes_from_the_same_rows(
    book: Path, region: str | None
) -> None:
    regions = dict(rows(book, "customers"))
    asked = [Row._make([*row, regions[row[2]]]) for row in rows(book)]
    if region is not None:
        asked = [row for row in asked if row.region == region]
    told: dict[str, Any] = dict(feeds.report(region, str(book)))
    assert told.pop("region") == (region or "all")
    assert {
        section: [tuple(line.values()) for line in lines] for section, lines in told.items()
    } == in_python(asked)


@pytest.mark.parametrize("region", ["mars", "EU", ""])
def test_an_unknown_region_is_an_error_that_names_the_known(tmp_path: Path, region: str) -> None:
    path = tmp_path / "orders.sqlite"
    expected = f"there is no region '{region}'; there are apac, eu, latam, us"
    with pytest.raises(ValueError, match=expected):
        feeds.report(region, str(path))
    assert not path.exists()


def test_a_report_is_small_and_always_the_same(book: Path) -> None:
    first, second = feeds.report(path=str(book)), feeds.report(path=str(book))
    assert first == second
    payload = payload_of(first)
    assert isinstance(payload, Data)
    assert 1_000 < len(payload.json) < 5_000
    assert payload.value == first


# -- without what the demo needs


def hide(directory: Path, *names: str) -> None:
    """With `directory` on PYTHONPATH, these modules are as if they were not installed."""
    for name in names:
        error = f"ModuleNotFoundError('No module named {name}', name={name!r})"
        (directory / f"{name}.py").write_text(f"raise {error}\n")


WITHOUT = """
import sys
from pushdemo import feeds

for feed in (feeds.load, feeds.plot):
    try:
        feed()
    except ImportError as error:
        print(error)
feeds.clock()
feeds.report(path=sys.argv[1])
"""


@pytest.mark.parametrize(("missing", "failing"), [("psutil", 2), ("matplotlib", 1)])
def test_who_misses_something_is_told_how_to_get_it(
    missing: str, failing: int, book: Path, tmp_path: Path
) -> None:
    hide(tmp_path, missing)
    line = f"{missing} is not installed: pip install 'pushdemo[demo]'\n"
    assert run(WITHOUT, book, path=tmp_path) == line * failing


WHAT_IS_THERE = """
import sys
from pushdemo import feeds

def there():
    return sorted({"matplotlib", "matplotlib.pyplot", "psutil"} & {*sys.modules})

feeds.clock(), feeds.report(path=sys.argv[1])
print(there())
feeds.load()
print(there())
feeds.plot()
print(there())
"""


def test_each_imports_only_what_it_needs_and_nobody_pyplot(book: Path) -> None:
    assert run(WHAT_IS_THERE, book).splitlines() == [
        "[]",
        "['psutil']",
        "['matplotlib', 'psutil']",
    ]


def test_development_ini_serves_the_rest_without_it(tmp_path: Path) -> None:
    hide(tmp_path, "psutil", "matplotlib")
    with closing(Paster(tmp_path)) as server:
        for name, missing in (("load", "psutil"), ("plot", "matplotlib")):
            status, _, _ = server.get(f"/server/index/{name}?format=json")
            assert status == 503
            server.wait_for_line(f"{missing} is not installed: pip install 'pushdemo\\[demo\\]'")
        status, _, body = server.get("/server/index?format=json")
        assert status == 200
        assert datetime.datetime.fromisoformat(json.loads(body))
