"""A day of trading, summed up: joins and window functions over the whole order book.

It is slow by its work, and lets other threads run meanwhile: SQLite does it without the
interpreter's lock, and gives back a few dozen rows.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from pushdemo.feeds import orders

TOP_SYMBOLS = 10
TOP_CUSTOMERS = 3  # of each region

# What all queries are about.
ASKED = """
WITH asked AS (
    SELECT orders.*, region, price_cents * quantity AS value_cents
    FROM orders JOIN customers ON customers.id = orders.customer
    WHERE region = :region OR :region IS NULL
)
"""

# A percentile is the smallest value that so many percent of all do not exceed (the nearest rank).
REGIONS = """
, ranked AS (
    SELECT region, customer, value_cents,
        row_number() OVER (PARTITION BY region ORDER BY value_cents) AS place,
        count(*) OVER (PARTITION BY region) AS orders
    FROM asked
)
SELECT region,
    count(*) AS orders,
    count(DISTINCT customer) AS customers,
    sum(value_cents) / 100.0 AS turnover_eur,
    max(value_cents) FILTER (WHERE place = (orders * 50 + 99) / 100) / 100.0 AS median_order_eur,
    max(value_cents) FILTER (WHERE place = (orders * 99 + 99) / 100) / 100.0 AS p99_order_eur
FROM ranked
GROUP BY region
ORDER BY region
"""

# The spread is between the best ask and the best bid of a minute, on average over the minutes that
# have both. The step is from an order's price to the next one's on the same side.
SYMBOLS = """
, quotes AS (
    SELECT symbol,
        min(price_cents) FILTER (WHERE side = 'sell') - max(price_cents) FILTER (WHERE side = 'buy')
            AS spread_cents
    FROM asked
    GROUP BY symbol, placed / 60
), spreads AS (
    SELECT symbol, avg(spread_cents) AS spread_cents FROM quotes GROUP BY symbol
), steps AS (
    SELECT symbol, quantity, value_cents,
        abs(price_cents - lag(price_cents) OVER (PARTITION BY symbol, side ORDER BY id))
            AS step_cents
    FROM asked
), totals AS (
    SELECT symbol,
        count(*) AS orders,
        sum(value_cents) AS value_cents,
        sum(quantity) AS quantity,
        avg(step_cents) AS step_cents
    FROM steps
    GROUP BY symbol
)
SELECT symbol,
    orders,
    value_cents / 100.0 AS turnover_eur,
    round(100.0 * value_cents / sum(value_cents) OVER (), 2) AS share_percent,
    round(value_cents / 100.0 / quantity, 4) AS vwap_eur,
    round(spread_cents / 100.0, 4) AS mean_spread_eur,
    round(step_cents / 100.0, 4) AS mean_step_eur
FROM totals JOIN spreads USING (symbol)
ORDER BY value_cents DESC, symbol
LIMIT :top_symbols
"""

CUSTOMERS = """
, totals AS (
    SELECT region, customer, count(*) AS orders, sum(value_cents) AS value_cents,
        row_number() OVER (PARTITION BY region ORDER BY sum(value_cents) DESC, customer) AS place
    FROM asked
    GROUP BY region, customer
)
SELECT region, customer, orders, value_cents / 100.0 AS turnover_eur
FROM totals
WHERE place <= :top_customers
ORDER BY region, place
"""

HOURS = """
, hours AS (
    SELECT placed / 3600 AS hour, count(*) AS orders, sum(value_cents) AS value_cents
    FROM asked
    GROUP BY hour
)
SELECT strftime('%H:%M', hour * 3600, 'unixepoch') AS from_utc,
    orders,
    value_cents / 100.0 AS turnover_eur,
    round(100.0 * sum(value_cents) OVER (ORDER BY hour) / sum(value_cents) OVER (), 2)
        AS share_until_then_percent
FROM hours
ORDER BY hour
"""

SECTIONS = {"regions": REGIONS, "symbols": SYMBOLS, "customers": CUSTOMERS, "hours": HOURS}


def report(region: str | None = None, path: str | None = None) -> dict[str, object]:
    """As pushdemo.feeds.report says."""
    if region is not None and region not in orders.REGIONS:
        raise ValueError(f"there is no region {region!r}; there are {', '.join(orders.REGIONS)}")
    place = orders.default_path() if path is None else Path(os.path.expanduser(path))
    values = {"region": region, "top_symbols": TOP_SYMBOLS, "top_customers": TOP_CUSTOMERS}
    with orders.opened(place) as connection:
        connection.row_factory = sqlite3.Row
        sections = {
            name: [dict(row) for row in connection.execute(ASKED + query, values)]
            for name, query in SECTIONS.items()
        }
    return {"region": region or "all", **sections}
