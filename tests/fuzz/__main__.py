"""python -m tests.fuzz: exits with 1 where something is wrong. See the package."""

from __future__ import annotations

import argparse
import random
import signal
import sys
from pathlib import Path

from tests.fuzz.attacks import NAMES
from tests.fuzz.run import Settings, run


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="clients (default: 20000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--index", type=int, nargs="*", help="only these clients of the run")
    parser.add_argument("--only", choices=NAMES, nargs="*", default=[], metavar="KIND")
    parser.add_argument("--without", choices=NAMES, nargs="*", default=[], metavar="KIND")
    parser.add_argument("--warm-up", type=int, default=2000, help="clients before measuring")
    parser.add_argument("--attackers", type=int, default=2, help="processes")
    parser.add_argument("--streams", type=int, default=100, help="recorded meanwhile")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first fault")
    parser.add_argument("--log", type=Path, help="where to leave what the server printed")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable),
        help="of an environment whose pushdemo is to be attacked",
    )  # fmt: skip
    given = parser.parse_args()
    # What was started is ended then, too: the default ends this process alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    only = given.only or [name for name in NAMES if name not in given.without]
    print(f"seed {given.seed}", flush=True)
    settings = Settings(
        seed=given.seed,
        indexes=range(given.requests) if given.index is None else given.index,
        only=tuple(only),
        warm_up=given.warm_up if given.index is None else 0,
        python=given.python.absolute(),
        attackers=given.attackers,
        streams=given.streams,
        stop=not given.keep_going,
    )
    report = run(settings, lambda line: print(line, flush=True))
    print(report)
    if given.log:
        given.log.write_text(report.log)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
