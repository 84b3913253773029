"""The feeds that come with pushdemo.

What a feed needs is imported by its first call and not here: without psutil and matplotlib there
are still a clock and a report, and an application that declares all four starts. The modules have
other names than the functions, because importing one of the same name would replace the function.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping


def clock() -> str:
    """The seed's: the time of this machine."""
    return str(datetime.datetime.now())


def load() -> Mapping[str, float]:
    """How busy this machine and this process are. Raises ImportError without psutil."""
    with _demo():
        from pushdemo.feeds import machine
    return machine.load()


def plot() -> tuple[bytes, str]:
    """The last minutes of the machine as a picture. Raises ImportError without psutil and
    matplotlib."""
    with _demo():
        from pushdemo.feeds import chart
    return chart.plot()


def report(region: str | None = None, path: str | None = None) -> Mapping[str, object]:
    """A day of trading, summed up from an order book that the first call makes: a few seconds of
    hard work.

    region: only the orders of that region's customers.
    path: the database; by default it is in the user's cache directory.

    Raises ValueError for a region that is not there, or a file that is no such database.
    """
    from pushdemo.feeds import analysis

    return analysis.report(region, path)


@contextlib.contextmanager
def _demo() -> Iterator[None]:
    """Imports in here may miss what only the demo needs: then the error says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed: pip install 'pushdemo[demo]'", name=error.name
        ) from None
