"""Chromium and Firefox, headless, for tests.

Both speak WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), so they differ only in how they
are started: Firefox listens by itself, Chromium through chromedriver.

    with closing(Firefox()) as browser:
        browser.open("http://127.0.0.1:8080/")
        browser.wait_for("document.title === 'ready'")
        second = browser.new_tab()
        second.open(...)
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import websocket

# Seconds. Whoever waits longer than a command may take waits for ever.
STARTUP = 30.0
COMMAND = 60.0
CAPTURE = 20.0  # until the browser can show what it shows


class MissingBrowser(Exception):
    """A program that a browser's tests need is not installed."""


class BrowserError(Exception):
    """The browser refused a command, or the page threw an exception."""


class Connection:
    """WebDriver BiDi, one command at a time; events are not subscribed to."""

    def __init__(self, url: str) -> None:
        # Chromium and Firefox refuse a WebSocket that names an origin they were not told of.
        self._socket = websocket.create_connection(url, timeout=COMMAND, suppress_origin=True)
        self._id = 0

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") != self._id:
                continue  # to a command whose answer was not waited for
            if answer["type"] == "error":
                raise BrowserError(f"{method}: {answer['error']}: {answer['message']}")
            result: dict[str, Any] = answer["result"]
            return result

    def close(self) -> None:
        self._socket.close()


class Tab:
    """One tab. `evaluate` and `wait_for` take an expression: wrap statements in a function."""

    def __init__(self, connection: Connection, context: str) -> None:
        self._connection = connection
        self._context = context

    def open(self, url: str) -> None:
        """Returns when the page has fired `load`."""
        self._connection.command(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    def back(self) -> None:
        """To the page before; returns at once."""
        self._connection.command("browsingContext.traverseHistory", context=self._context, delta=-1)

    def evaluate(self, expression: str) -> Any:
        """The expression's value, or what its promise comes to, as JSON has it.

        BrowserError if it throws; undefined is None.
        """
        answer = self._connection.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})) ?? 'null')()",
            target={"context": self._context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise BrowserError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def wait_for(self, expression: str, timeout: float = 10.0) -> Any:
        """Evaluates the expression until it is truthy, and returns that value."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                last = self.evaluate(expression)
            except BrowserError as error:  # an element that is not there yet, a page on its way
                last = error
            else:
                if last:
                    return last
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {expression}\nlast seen: {last!r}")
            time.sleep(0.02)

    def screenshot(self, path: str | Path) -> None:
        """Writes what the tab shows as PNG, as soon as the browser can: Firefox cannot while it
        goes from one document to the next."""
        deadline = time.monotonic() + CAPTURE
        while True:
            try:
                answer = self._connection.command(
                    "browsingContext.captureScreenshot", context=self._context
                )
            except BrowserError as error:
                if "Unable to capture" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                break
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the viewport, in CSS pixels."""
        self._connection.command(
            "browsingContext.setViewport",
            context=self._context,
            viewport={"width": width, "height": height},
        )

    def close(self) -> None:
        self._connection.command("browsingContext.close", context=self._context)


class Browser(Tab):
    """A browser of its own, and its first tab; `new_tab` gives more of them."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            profile = Path(tempfile.mkdtemp(prefix="pushdemo-browser-"))
            stack.callback(shutil.rmtree, profile, ignore_errors=True)
            connection = self._start(profile, stack)
            contexts = connection.command("browsingContext.getTree")["contexts"]
            super().__init__(connection, contexts[0]["context"])
            self._stack = stack.pop_all()

    def _start(self, profile: Path, stack: ExitStack) -> Connection:
        """Starts the browser with this profile; the stack learns how to end it."""
        raise NotImplementedError

    def new_tab(self) -> Tab:
        """Another tab, in front of the others; `close` it, since tests share the browser."""
        answer = self._connection.command("browsingContext.create", type="tab")
        return Tab(self._connection, answer["context"])

    @property
    def tabs(self) -> list[Tab]:
        """All that are open, also those that a page opened."""
        contexts = self._connection.command("browsingContext.getTree")["contexts"]
        return [Tab(self._connection, context["context"]) for context in contexts]

    def close(self) -> None:
        """Ends the browser, all its processes and its profile."""
        with suppress(Exception):  # it may have gone by itself
            self._connection.command("browser.close")
        self._stack.close()


class Firefox(Browser):
    def _start(self, profile: Path, stack: ExitStack) -> Connection:
        options = ("--headless", "--no-remote", "--remote-debugging-port=0")
        command = [_find("firefox-esr", "firefox"), *options, "--profile", str(profile)]
        url = _launch(command, profile / "log", r"WebDriver BiDi listening on (ws://\S+)", stack)
        connection = Connection(f"{url}/session")
        stack.callback(connection.close)
        connection.command("session.new", capabilities={})
        return connection


class Chromium(Browser):
    def _start(self, profile: Path, stack: ExitStack) -> Connection:
        binary = _find("chromium", "chromium-browser", "google-chrome")
        command = [_find("chromedriver"), "--port=0"]
        port = _launch(command, profile / "log", r"started successfully on port (\d+)", stack)
        arguments = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
            " --disable-background-networking --disable-component-update --disable-sync"
        )
        options = {
            "binary": binary,
            "args": [*arguments.split(), f"--user-data-dir={profile / 'data'}"],
        }
        wanted = {"alwaysMatch": {"webSocketUrl": True, "goog:chromeOptions": options}}
        request = Request(
            f"http://127.0.0.1:{port}/session",
            data=json.dumps({"capabilities": wanted}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=STARTUP) as answer:
            session = json.load(answer)["value"]
        connection = Connection(session["capabilities"]["webSocketUrl"])
        stack.callback(connection.close)
        return connection


def _find(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingBrowser(f"{' or '.join(names)} is not installed (see tools/install-packages)")


def _launch(command: Sequence[str], log: Path, pattern: str, stack: ExitStack) -> str:
    """Starts a program and waits for a line of its output; returns the pattern's group."""
    # To a file, for nobody has to empty that, and it still says why a start failed.
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    stack.callback(_end, process)
    deadline = time.monotonic() + STARTUP
    while not (found := re.search(pattern, log.read_text(errors="replace"))):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BrowserError(f"{command[0]} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)
    return found[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the program and the children that stayed in the session made for it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
