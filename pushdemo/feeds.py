"""The feeds that come with pushdemo."""

from __future__ import annotations

import datetime


def clock() -> str:
    """The seed's: the time of this machine."""
    return str(datetime.datetime.now())
