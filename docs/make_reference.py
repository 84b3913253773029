"""Writes docs/generated/: the options and the wire formats, as the code has them."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pushdemo import Push  # noqa: E402
from pushdemo.push.compute.payload import Data, Text  # noqa: E402
from pushdemo.push.encode.document import Document  # noqa: E402
from pushdemo.push.encode.event_stream import EventStream  # noqa: E402
from pushdemo.push.encode.framing import Framing  # noqa: E402
from pushdemo.push.encode.html_stream import HtmlStream  # noqa: E402
from pushdemo.push.encode.multipart import Multipart  # noqa: E402
from pushdemo.push.encode.ndjson import NdJson  # noqa: E402
from pushdemo.push.event import Event, FeedStatus, Value  # noqa: E402
from pushdemo.push.settings import Settings  # noqa: E402

GENERATED = HERE / "generated"


def described(docstring: str) -> dict[str, str]:
    """The names that a docstring describes, `name: text`, and the texts."""
    text = inspect.cleandoc(docstring)
    found = re.findall(r"^([a-z_]+): (.*(?:\n    .*)*)", text, re.M)
    return {name: " ".join(said.split()) for name, said in found}


def push_options() -> dict[str, str]:
    """Of all streams."""
    return described(Settings.read.__doc__ or "")


def feed_options() -> dict[str, str]:
    """Of one feed, but for its name."""
    found = described(Push.feed.__doc__ or "")
    found.pop("name")
    return found


def options() -> str:
    rows = [
        "Of one feed: `feed.NAME.X = …` in an ini, `@push.feed(X=…)` in Python.\n",
        *_table(feed_options()),
        "\nIn an ini alone: `feed.NAME.arg.X` is text that the function is given as its argument",
        "`X`, and `feed.NAME.header.X` is the header `X` of a relay's requests.\n",
        "Of all streams: `push.X = …` in an ini, `Push(X=…)` in Python.\n",
        *_table(push_options()),
    ]
    return "\n".join(rows) + "\n"


def _table(found: dict[str, str]) -> list[str]:
    return ["| option | |", "|-|-|", *(f"| `{name}` | {said} |" for name, said in found.items())]


def formats() -> str:
    """One event, and a notice, in each format."""
    html = "<b>42</b>"
    value = Value(Data('{"orders":42}'), 1785412800.5, 0, took=0.25, html=html)
    event = Event(1, "1f0c9b2a-7", "orders", value)
    text = Event(1, "1f0c9b2a-7", "orders", Value(Text("two\nlines"), 1785412800.5, 0))
    failing = FeedStatus(1, "orders", 1785412800.5)
    framings: dict[str, Framing] = {
        "multipart": Multipart("test"),
        "sse": EventStream(),
        "ndjson": NdJson(),
        **{kind: HtmlStream(kind=kind) for kind in HtmlStream.KINDS},
    }
    parts = []
    for name, framing in framings.items():
        parts += [
            f"## {name}\n\n`{framing.content_type}`\n",
            _block("The beginning of a stream", framing.opening),
            _block("An event", framing.encode(event)),
        ]
        if name not in HtmlStream.KINDS:
            parts += [
                _block("An event whose value is text of two lines", framing.encode(text)),
                _block("The feed fails", framing.encode_status(failing)),
                _block("Events may be missing", framing.reset),
                _block("After a silence", framing.heartbeat),
            ]
    for content_type in ("application/json", "application/xml"):
        body = Document(content_type).response(event).body
        parts += [f"## {content_type.partition('/')[2]}\n", _block(f"`{content_type}`", body)]
    return "\n".join(parts)


def _block(title: str, data: bytes) -> str:
    shown = data.decode().replace("\r\n", "\n").rstrip("\n")
    return f"{title}:\n\n```text\n{shown}\n```\n" if shown.strip() else ""


def main() -> None:
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "options.md").write_text(options())
    (GENERATED / "formats.md").write_text(formats())


if __name__ == "__main__":
    main()
