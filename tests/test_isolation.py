"""An error in the broadcaster's work for one client, or one audience of them, reaches no other."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest

from pushdemo.push.channel import Channel
from pushdemo.push.deliver.answer import Beginning
from pushdemo.push.event import Event, FeedStatus
from tests.servers import HANG, until
from tests.test_broadcaster import Begins, Client, Lines, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.publish("one")
    yield stage
    stage.close()


@pytest.fixture
def watcher(stage: Stage) -> Client:
    """One of the others."""
    client = stage.attach("watcher")
    assert [client.line(), client.line()] == ["open\n", "one\n"]
    return client


class Failing(Begins):
    """An answer that has no beginning."""

    def begin(self, event: Event | None) -> Beginning:  # noqa: ARG002
        raise LookupError("no beginning")


def goes_on(stage: Stage, client: Client) -> None:
    """The client gets what comes next, and so does one that comes now."""
    assert stage.broadcaster.health.alive
    stage.publish("next")
    assert client.line() == "next\n"
    later = stage.attach()
    assert [later.line(), later.line()] == ["open\n", "next\n"]


def test_an_answer_that_fails_ends_its_clients(
    stage: Stage, watcher: Client, caplog: pytest.LogCaptureFixture
) -> None:
    odd = stage.attach_all(3, "odd", answer=Failing(b"", 0))
    assert [client.rest() for client in odd] == ["", "", ""]
    until(lambda: stage.closed == ["odd"] * 3, "their places to be free")
    goes_on(stage, watcher)
    (record,) = caplog.records
    assert record.getMessage().startswith("clients are dropped (3) after an error")
    assert "LookupError: no beginning" in record.getMessage()


def test_an_answer_that_fails_while_others_wait_ends_its_clients(stage: Stage) -> None:
    stage.channel = Channel("empty")
    patient = stage.attach("patient", patience=1000)
    odd = stage.attach("odd", answer=Failing(b"", 1000))
    stage.publish("first")
    assert [patient.line(), patient.line()] == ["open\n", "first\n"]
    assert odd.rest() == ""


def test_an_answer_that_fails_when_it_is_late_ends_its_clients(stage: Stage) -> None:
    channel, stage.channel = stage.channel, Channel("empty")
    patient = stage.attach("patient", patience=100)
    odd = stage.attach("odd", answer=Failing(b"", 100))
    stage.channel = channel
    stage.poke()
    stage.now = 101
    stage.poke()
    assert patient.line() == "open\n"
    assert odd.rest() == ""


def test_a_source_that_fails_ends_those_who_came_for_it(
    stage: Stage, watcher: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("subscribe", "state"):
        broken = Channel("broken")
        monkeypatch.setattr(broken, method, lambda *_: 1 / 0)
        channel, stage.channel = stage.channel, broken
        assert stage.attach(method).rest() == ""
        stage.channel = channel
    until(lambda: stage.closed == ["subscribe", "state"], "their places to be free")
    goes_on(stage, watcher)


def test_a_resumption_that_fails_ends_that_client(
    stage: Stage, watcher: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage.channel, "resume", lambda *_: 1 / 0)
        assert stage.attach(last_id="e-1").rest() == ""
    goes_on(stage, watcher)


class Refusing(list[str]):
    def append(self, name: str) -> None:
        raise LookupError(name)


def test_a_callback_that_fails_holds_nobody_up(
    stage: Stage, watcher: Client, caplog: pytest.LogCaptureFixture
) -> None:
    stage.closed = Refusing()
    assert stage.attach(limit=1).rest() == "open\none\nend\n"
    until(lambda: "the end of a client's stream" in caplog.text, "the callback")
    goes_on(stage, watcher)


class Mute(Lines):
    """A format that fails whenever there is no event to send."""

    @property
    def heartbeat(self) -> bytes:  # type: ignore[override]
        raise LookupError

    def encode_status(self, status: FeedStatus) -> bytes:
        raise LookupError(status.feed)


def test_a_format_that_fails_leaves_the_other_formats_theirs(
    stage: Stage, watcher: Client, caplog: pytest.LogCaptureFixture
) -> None:
    lines, stage.lines = stage.lines, Mute()
    mute = stage.attach("mute")
    assert [mute.line(), mute.line()] == ["open\n", "one\n"]
    stage.lines = lines
    stage.channel.fail(123.0, 0)
    assert watcher.line() == "trouble\n"
    stage.publish("two")
    assert (watcher.line(), mute.line()) == ("two\n", "two\n")
    assert "the streams of x go on after an error" in caplog.text
    stage.now += 15
    stage.poke()
    assert watcher.line() == "heartbeat\n"


def raise_in(stage: Stage, error: type[BaseException]) -> None:
    """Raise an exception in the broadcaster's thread, wherever it is."""
    thread = stage.broadcaster._loop._thread
    assert thread is not None
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(error)
    )


def test_what_another_thread_raises_in_it_loses_no_stream_and_no_event(
    stage: Stage, watcher: Client
) -> None:
    for number in range(20):
        raise_in(stage, SystemExit)
        stage.publish(str(number))
        assert watcher.line() == f"{number}\n"
    until(lambda: stage.broadcaster.health.errors > 0, "an error")
    assert stage.closed == []


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.parametrize(
    ("part", "step"), [(None, "_broadcast"), (None, "_admit"), ("_connections", "drop_late")]
)
def test_a_turn_that_fails_anywhere_is_made_up_for_by_the_next(
    stage: Stage, watcher: Client, part: str | None, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = getattr(stage.broadcaster, part) if part else stage.broadcaster
    work: Callable[..., object] = getattr(owner, step)
    failures = iter([MemoryError(), SystemExit(), OSError()])

    def fail(*arguments: object) -> object:
        if (error := next(failures, None)) is not None:
            raise error
        return work(*arguments)

    monkeypatch.setattr(owner, step, fail)
    stage.attach()  # a newcomer to admit, who does not read: soon one that may be late
    big = "x" * 1_000_000
    stage.publish(big)
    assert watcher.line() == f"{big}\n"
    stage.now += 29  # less than the time for sending
    stage.publish("two")
    assert watcher.line() == "two\n"
    until(lambda: stage.broadcaster.health.errors == 3, "the errors")
    goes_on(stage, watcher)


def test_it_is_closed_however_it_is(stage: Stage, watcher: Client) -> None:
    for _ in range(3):
        raise_in(stage, KeyboardInterrupt)
    stage.broadcaster.close()
    watcher.sock.settimeout(HANG)
    assert watcher.rest() == ""
    assert not stage.broadcaster.health.alive
