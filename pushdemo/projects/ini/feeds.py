"""The feeds of NAME: functions that return what is to be on every open page."""

import datetime
import random
import time

_orders = 0


def orders():
    """Slow, and computed once for all pages: put your query here."""
    global _orders
    time.sleep(0.5)
    _orders += random.randint(0, 5)
    return {"orders": _orders, "at": datetime.datetime.now().isoformat(timespec="seconds")}
