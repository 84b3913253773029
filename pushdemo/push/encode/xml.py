"""XML 1.0 for values: a root named message.

For text, its first child is the text: that is what the seed's page shows. Data has an element for
each member of a mapping, named by its key where XML lets it be, and one named item for each member
of a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pushdemo.push.compute.payload import Data, Text

# The Char production (XML 1.0, section 2.2), turned round: these cannot stand in a document at all.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# In UTF-8: all bytes but those of control characters, and what U+FFFE and U+FFFF begin with.
_HARMLESS = bytes({*b"\t\n\r", *range(0x20, 0x100)})
_PERHAPS_NOT_XML = "\uffff".encode()[:2]
# A raw CR would be read back as LF (section 2.11). `&` is first, for the others bring some.
_IN_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
# And in an attribute each white space as a blank (section 3.3.3).
_IN_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
_NAME = re.compile(r"(?!xml)[A-Za-z_][A-Za-z0-9_.-]*", re.IGNORECASE | re.ASCII)


def xml_message(payload: Text | Data) -> bytes:
    """The document for a value, in UTF-8.

    Characters that XML has no place for (most control characters) become U+FFFD; all others
    survive the way there and back.
    """
    value = payload.text if isinstance(payload, Text) else payload.value
    content = "".join(_content(value))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<message>{content}</message>\n'.encode()


def _content(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, member in value.items():
                if _NAME.fullmatch(key):
                    yield from (f"<{key}>", *_content(member), f"</{key}>")
                else:
                    safe = _NOT_XML.sub("\ufffd", key).translate(_IN_ATTRIBUTE)
                    yield from (f'<item key="{safe}">', *_content(member), "</item>")
        case list():
            for member in value:
                yield from ("<item>", *_content(member), "</item>")
        case None:
            pass
        case bool():
            yield "true" if value else "false"
        case _:
            yield _text(str(value))


def _is_xml(text: str) -> bool:
    """Whether there is nothing in it that cannot stand in a document. Now and then it is wrong, and
    says no: to look more closely takes ten times as long."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # surrogates
        return False
    return not encoded.translate(None, _HARMLESS) and _PERHAPS_NOT_XML not in encoded


def _text(text: str) -> str:
    if not _is_xml(text):
        text = _NOT_XML.sub("\ufffd", text)
    # str.translate would look at each character in turn, a hundred times as slowly.
    for character, reference in _IN_TEXT.items():
        text = text.replace(character, reference)
    return text
