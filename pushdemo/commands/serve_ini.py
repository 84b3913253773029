"""`pushdemo serve INI`: what `paster serve INI` does, without Paste's command."""

from __future__ import annotations

import argparse
import sys
import warnings

HELP = "Serve the application of an ini, as `paster serve` does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ini", metavar="INI", help="such as development.ini")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...",
        help="as for `paster serve`: --reload, --take-over, --daemon, name=value")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    # PasteScript's own, at each start, which tell nobody anything that he could do.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    warnings.filterwarnings("ignore", "Deprecated call to")
    from paste.script.command import BadCommand

    from pushdemo.commands.serve import ServeCommand

    command = ServeCommand("serve")
    try:
        return int(command.run([arguments.ini, *arguments.options]) or 0)
    except BadCommand as error:
        print(f"pushdemo: {error}", file=sys.stderr)
        return int(error.exit_code or 2)
