"""The charsets that text from outside may come in.

Python knows more codecs than these, and takes any of their names. Some are no charsets (zip, rot13,
unicode_escape), some take quadratic time (idna), and Python remembers each unknown name for ever.
So a name from outside is looked up here first.
"""

from __future__ import annotations

import re

# The labels of the WHATWG's Encoding Standard that are in use, where Python has the codec, and
# UTF-32. Names are compared without case, `_` as `-`.
_CHARSETS = frozenset(
    ["utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"]
    + ["us-ascii", "ascii", "latin1", "latin-1", "koi8-r", "koi8-u", "macintosh", "tis-620"]
    + ["cp437", "cp850", "cp866", "shift-jis", "euc-jp", "iso-2022-jp", "euc-kr"]
    + ["gb2312", "gbk", "gb18030", "big5"]
    + [f"iso-8859-{part}" for part in range(1, 17) if part != 12]
    + [f"{prefix}{page}" for prefix in ("windows-", "cp") for page in range(1250, 1259)]
)
_CHARSET = re.compile(r'(?:^|;)[ \t]*charset[ \t]*=[ \t]*"?([^\s;"]*)', re.IGNORECASE)


def codec_of(parameters: str) -> str:
    """The codec for what follows the first semicolon of a Content-Type; UTF-8, if it names none.
    Raises LookupError."""
    found = _CHARSET.search(parameters)
    if found is None:
        return "utf-8"
    name = found[1].lower().replace("_", "-")
    if name not in _CHARSETS:
        raise LookupError
    return name
