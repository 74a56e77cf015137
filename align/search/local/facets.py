"""The keys that a filter can name, with their values and the number of samples of each."""

from __future__ import annotations

import sqlite3
from typing import Any

from align.search.index import Facet
from align.search.local.filters import KINDS, Condition

LONGEST = 200  # characters of a value that is listed

COUNTS = """
WITH counts AS (SELECT key, kind, value, max(listed) AS listed, count(*) AS n FROM leaves {where}
                GROUP BY key, kind, value),
     places AS (SELECT *, row_number() OVER (PARTITION BY key ORDER BY n DESC, kind, value) AS place,
                    count(*) OVER (PARTITION BY key) AS many,
                    sum(n) FILTER (WHERE kind = 1) OVER (PARTITION BY key) AS numbers,
                    sum(n) FILTER (WHERE kind = 2) OVER (PARTITION BY key) AS flags,
                    sum(n) OVER (PARTITION BY key) AS every,
                    max(listed) OVER (PARTITION BY key) AS lists,
                    min(value) FILTER (WHERE kind = 1) OVER (PARTITION BY key) AS low,
                    max(value) FILTER (WHERE kind = 1) OVER (PARTITION BY key) AS high FROM counts)
SELECT name, kind, value, n, many, numbers, flags, every, lists, low, high FROM places JOIN keys ON keys.id = places.key
WHERE place <= ? ORDER BY name, place
"""


def count_values(connection: sqlite3.Connection, passed: Condition | None, values: int) -> list[Facet]:
    """Return a facet for each key of labels and json, and for folders, in the order of their names.

    A key with values of several kinds has the kind of most of them, "list" where an item has a list.
    """
    where = f"WHERE number IN (SELECT items.number FROM items WHERE {passed.sql})" if passed else ""
    facets: dict[str, Facet] = {}
    for name, kind, value, n, many, numbers, flags, every, lists, low, high in connection.execute(
        COUNTS.format(where=where), [*(passed.values if passed else []), values]
    ):
        if name not in facets:
            most = "number" if 2 * (numbers or 0) > every else "flag" if 2 * (flags or 0) > every else "text"
            facets[name] = Facet(name, "list" if lists else most, [], many, _float(low), _float(high))
        if kind != KINDS["text"] or len(value) <= LONGEST:
            facets[name].values.append((bool(value) if kind == KINDS["flag"] else value, n))  # pyright: ignore
    return list(facets.values())


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
