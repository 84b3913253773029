"""What stands in the log, and how."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from pathlib import Path

import pytest

from pushdemo import logs
from pushdemo.push.channel import Channel
from pushdemo.push.compute.payload import Text
from pushdemo.push.counting import Counts
from pushdemo.push.deliver.audience import Audiences, Newcomers, Subscriber
from pushdemo.push.deliver.lives import BURST, Lives
from pushdemo.push.deliver.subscription import Subscription
from pushdemo.push.encode.ndjson import NdJson
from pushdemo.push.event import Value
from tests.servers import until
from tests.serving import Serving

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}"


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("shop.orders", logging.WARNING, "x", 1, message, arguments, None)
    vars(made).update(more)
    return made


def test_a_line_has_time_level_and_name() -> None:
    line = logs.TextFormatter().format(record("%d orders", 3))
    assert re.fullmatch(TIME + " WARNING shop.orders: 3 orders", line)


HOSTILE = "a\x1b[2J\x1b]0;title\x07b\r\nERROR forged: line\x9b31m\u202eright\u2066to left\x00\x7f"


def test_hostile_text_cannot_act() -> None:
    line = logs.TextFormatter().format(record("%s", HOSTILE))
    first, second = line.split("\n")
    assert first.isprintable()
    assert second.startswith("    ERROR forged")  # not at the margin, where records begin
    assert second.isprintable()
    encoded = logs.JsonFormatter().format(record("%s", HOSTILE))
    assert encoded.isascii()
    assert encoded.isprintable()
    assert json.loads(encoded)["message"] == HOSTILE


def test_a_record_as_json() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        made = record("it fails", user="me", things={1, 2})
        made.exc_info = sys.exc_info()
    said = json.loads(logs.JsonFormatter().format(made))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said.pop("error").endswith("ValueError: no")
    assert said == {"level": "WARNING", "name": "shop.orders", "message": "it fails", "user": "me",
                    "things": "{1, 2}"}  # fmt: skip


# The life of a stream


class Stage:
    """Clients, whose streams end when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lives = Lives(lambda: self.now)
        self.channel = Channel("x")
        self.audiences = Audiences(lambda _: None, lambda: self.now, 1, Counts())

    def client(self) -> tuple[Subscriber, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        subscription = Subscription(self.channel, NdJson())
        one = Subscriber(ours, None, subscription, lambda: None)
        self.audiences.admit(Newcomers([one], subscription))
        return one, theirs


def test_a_line_for_each_life(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pushdemo.streams")
    stage = Stage()
    one, theirs = stage.client()
    one.before, one.seat = 2, 0
    assert one.audience is not None
    one.audience.sent_events = 7
    one.sock.sendall(b"12345")
    assert theirs.recv(5) == b"12345"
    stage.now += 12.34
    stage.lives.end(one, "the client closed it")
    (line,) = caplog.messages
    assert re.fullmatch(
        r"127\.0\.0\.1 watched x as ndjson for 12\.3 s, 5 events(, \d+ bytes)?:"
        r" the client closed it",
        line,
    )
    one.sock.close()
    theirs.close()


def test_there_are_no_lines_above_a_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pushdemo.streams")
    stage = Stage()
    one, theirs = stage.client()
    for _ in range(BURST + 1000):
        stage.lives.end(one, "the client closed it")
    assert len(caplog.messages) == BURST
    stage.now += 1
    stage.lives.end(one, "the client closed it")
    assert caplog.messages[BURST] == "1000 more streams ended"
    assert len(caplog.messages) == BURST + 2
    one.sock.close()
    theirs.close()


def test_who_does_not_listen_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pushdemo.streams")
    stage = Stage()
    one, theirs = stage.client()
    stage.lives.end(one, "the client closed it")
    assert not caplog.messages
    one.sock.close()
    theirs.close()


# As a server writes it


INI = """\
[app:main]
use = egg:pushdemo
feed.clock = pushdemo.feeds:clock
feed.clock.interval = 0.2
[server:main]
use = egg:pushdemo#http
port = 0
"""
AS_JSON = """\
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = json
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = json
[formatter_json]
class = pushdemo.logs.JsonFormatter
"""


def test_clients_that_come_and_go_leave_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "mine.ini").write_text(INI)
    with Serving(tmp_path, "mine.ini") as serving:
        with serving.connect("/server/index/clock?limit=2") as reader:
            assert reader.rest().count(b"<message>") == 2
        with serving.connect("/server/index/clock?format=sse") as reader:
            assert reader.head()[0] == 200
        life = TIME + r" INFO pushdemo\.streams: 127\.0\.0\.1 watched clock as "
        complete = r"multipart for \d+\.\d s, 2 events, \d+ bytes: complete\n"
        left = r"sse for \d+\.\d s, \d+ events, \d+ bytes: the c.*\n"
        until(lambda: re.search(life + complete, serving.output), "the first one's line")
        until(lambda: re.search(life + left, serving.output), "the second one's")


def test_the_ini_decides_how(tmp_path: Path) -> None:
    (tmp_path / "mine.ini").write_text(INI + AS_JSON)
    with Serving(tmp_path, "mine.ini") as serving:
        with serving.connect("/server/index/clock?limit=1") as reader:
            reader.rest()

        def lives() -> list[dict[str, str]]:
            lines = [line for line in serving.output.splitlines() if line.startswith("{")]
            said = [json.loads(line) for line in lines]
            return [one for one in said if one["name"] == "pushdemo.streams"]

        until(lives, "the line")
        assert lives()[0]["level"] == "INFO"
        assert "watched clock as multipart" in lives()[0]["message"]


def test_values_are_published_as_they_are_but_for_a_terminal() -> None:
    channel = Channel("x")
    event = channel.publish(Value(Text(HOSTILE), computed=0.0, fresh_until=0))
    assert event.value.payload == Text(HOSTILE)
    assert logs.harmless(HOSTILE).count("\n") == 1
    assert logs.harmless("größe\tx\n") == "größe\tx\n"
