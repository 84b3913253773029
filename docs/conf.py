"""Sphinx: `make docs` writes build/docs/index.html."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

project = "pushdemo"
author = "the pushdemo authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["generated"]
html_theme = "furo"
html_title = "pushdemo"
myst_heading_anchors = 3
# Links out of docs/ are to files of the repository, which GitHub shows.
suppress_warnings = ["myst.xref_missing", "myst.header"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
nitpicky = False


def as_a_list(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """The code's docstrings describe a name as `name: text`, with more lines indented. Sphinx is
    given that as a list, and code as it is."""
    made: list[str] = []
    inside = ""  # of a description, or of code
    for line in lines:
        if re.match(r"[a-z_]+(, [a-z_]+)*: ", line):
            if inside != "description":
                made.append("")
            names, _, text = line.partition(": ")
            made.append(f"- **{names}**: {text}")
            inside = "description"
        elif line.startswith("    ") and inside == "description":
            made.append(f"  {line.strip()}")
        elif line.startswith("    ") and inside != "code":
            made += ["::", "", line]
            inside = "code"
        else:
            if line and not line.startswith("    "):
                if inside:
                    made.append("")
                inside = ""
            made.append(line)
    lines[:] = [*made, ""]


def setup(app: Any) -> None:
    import make_reference

    make_reference.main()
    app.connect("autodoc-process-docstring", as_a_list)
