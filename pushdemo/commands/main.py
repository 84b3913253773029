"""The `pushdemo` command. COMMANDS names its subcommands: each is two functions, of which one adds
its arguments to a parser, and the other does it and returns the exit code.

What is asked for goes to stdout, and everything about it to stderr, so that pipes work. An error is
one line and exit code 1; a mistake in the arguments, 2; an interrupt, 130, without a word. A reader
that has enough (`head`) is no error.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import mimetypes
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pushdemo import logs
from pushdemo.client import FORMATS, Event, Watch, WatchError, publish
from pushdemo.client.watcher import TIMEOUT
from pushdemo.commands import broadcaster, check, new, run, serve_ini, status

TOKEN = "PUSHDEMO_TOKEN"


class Command(NamedTuple):
    """serves: it is a server, whose log lines have a time."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    serves: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's; returns its exit code."""
    parsed = _parser().parse_args(arguments)
    command = COMMANDS[parsed.command]
    if command.serves:
        logs.configure()
    else:
        logging.basicConfig(level=logging.INFO, format="pushdemo: %(message)s", stream=sys.stderr)
    try:
        return command.run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pushdemo", description="Push events, and watch them.")
    parser.add_argument("--version", action="version", version=f"pushdemo {version('pushdemo')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(usage_error=subparser.error)
    return parser


# pushdemo watch


def _add_watch_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", help="http or https; without a path, the server's first feed")
    add("--format", choices=FORMATS, help="ask for this format (default: what the server can)")
    add("--limit", type=int, metavar="N", help="end after N values")
    add("--json", action="store_true", help="print a JSON object for each event")
    add("--last-event-id", metavar="ID", help="begin after this event")
    add("--timeout", type=float, default=TIMEOUT, metavar="S",
        help="a connection silent for S seconds is dead (default: %(default)g)")  # fmt: skip
    add("--no-reconnect", action="store_true", help="end with an error when the connection breaks")


def _watch(arguments: argparse.Namespace) -> int:
    try:
        watch = Watch(
            arguments.url,
            accept=arguments.format,
            last_event_id=arguments.last_event_id,
            limit=arguments.limit,
            reconnect=not arguments.no_reconnect,
            timeout=arguments.timeout,
        )
    except ValueError as error:
        arguments.usage_error(str(error))
    # A terminal or a locale that cannot show a character must not end it.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with watch:
        try:
            for event in watch:
                if arguments.json:
                    print(_shown(_event_as_json(event)), flush=True)
                elif event.type == "message":
                    print(_shown(_value_as_text(event)), flush=True)
                else:
                    logging.getLogger(__name__).warning("%s", logs.harmless(_notice(event)))
        except WatchError as error:
            print(f"pushdemo: {error}", file=sys.stderr)
            return 1
    return 0


def _shown(text: str) -> str:
    """What a value says must not act on a terminal. A file or a program is given it as it is."""
    return logs.harmless(text) if sys.stdout.isatty() else text


def _value_as_text(event: Event) -> str:
    if isinstance(event.value, str):
        return event.value
    if isinstance(event.value, bytes):
        return f"<{event.content_type}, {len(event.value)} bytes>"
    return _compact(event.value)


def _event_as_json(event: Event) -> str:
    """The fields that are the same in every format. Bytes say that they are base64, and of what."""
    said: dict[str, Any] = {
        "id": event.id, "feed": event.feed, "type": event.type, "computed": event.computed
    }  # fmt: skip
    if isinstance(event.value, bytes):
        encoded = base64.b64encode(event.value).decode()
        said |= {"value": encoded, "encoding": "base64", "content_type": event.content_type}
    else:
        said["value"] = event.value
    return _compact(said)


def _notice(event: Event) -> str:
    if event.type == "reset":
        return "events may be missing here"
    feed = "" if event.feed is None else f" of feed {event.feed}"
    more = "" if event.value is None else f": {_value_as_text(event)}"
    return f"{event.type}{feed}{more}"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# pushdemo publish


def _add_publish_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("feed", metavar="FEED", help="a feed that is declared feed.FEED = push")
    add("file", metavar="FILE", help="the value; - for standard input")
    add("--url", default="http://127.0.0.1:5000", help="the server's (default: %(default)s)")
    add("--type", metavar="TYPE", help="what the value is (default: by FILE's name, or text/plain)")
    add("--key", metavar="KEY", help="name the value: published again with the same key, it is one "
        "event (default: a random one, for the tries of this command)")  # fmt: skip
    # Arguments are for every user of the machine to see, and the environment is not.
    add("--token", default=os.environ.get(TOKEN), help=f"push.token (default: ${TOKEN})")


def _publish(arguments: argparse.Namespace) -> int:
    if not arguments.token:
        arguments.usage_error(f"there is no token: set {TOKEN}, or give --token")
    guessed, _ = mimetypes.guess_type(arguments.file)
    try:
        if arguments.file == "-":
            value = sys.stdin.buffer.read()
        else:
            value = Path(arguments.file).read_bytes()
        event_id = publish(
            arguments.url,
            arguments.feed,
            value,
            content_type=arguments.type or guessed or "text/plain",
            token=arguments.token,
            key=arguments.key,
        )
    except ValueError as error:
        arguments.usage_error(str(error))
    except (OSError, WatchError) as error:
        print(f"pushdemo: {error}", file=sys.stderr)
        return 1
    print(event_id)
    return 0


COMMANDS = {
    "watch": Command("Print the events of an address as they come.", _add_watch_arguments, _watch),
    "publish": Command("Send a value to a feed.", _add_publish_arguments, _publish),
    "status": Command(status.HELP, status.add_arguments, status.run),
    "serve": Command(serve_ini.HELP, serve_ini.add_arguments, serve_ini.run, serves=True),
    "check": Command(check.HELP, check.add_arguments, check.run),
    "new": Command(new.HELP, new.add_arguments, new.run),
    "broadcaster": Command(
        broadcaster.HELP, broadcaster.add_arguments, broadcaster.run, serves=True
    ),
    "run": Command(run.HELP, run.add_arguments, run.run, serves=True),
}

if __name__ == "__main__":
    sys.exit(main())
