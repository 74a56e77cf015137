"""Queries of a picture and a change on solids: the ways to ask, and a sweep of the direction's two scalars.

    python configs/ideas/directions.py           # 2 cores, 1 thread: 1 min a seed; writes results/directions.csv

The model is that of composed.yaml, which the first start trains and keeps in runs/ideas. A query is a test picture with
a caption of it that names two attributes ("a metal cone") and one with the change ("a wooden cone"). The targets have
the change and the other three attributes. The scale and the balance are chosen on pictures of the training split, by
map@10.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from functools import cache

from compare import Row, compare
from composed_model import open_space
from sets import read_set

from align.embedding.tables import vectors
from align.evaluation import Composed, ComposedQuery, Space
from align.evaluation.composed_retrieval import best_rows, list_candidates, measure_lists
from align.quickstart import compose_queries
from align.scoring import add_direction

SCALES, BALANCES = (0.25, 0.5, 1.0, 1.5, 2.0), (0.0, 0.25, 0.5, 0.75, 1.0)
KEPT = 400  # queries of training solids on which the scalars are chosen


@cache
def read_queries(split: str) -> tuple[ComposedQuery, ...]:
    """Return the queries of a split of solids."""
    labels = {sample["__key__"]: json.loads(sample["json"])["label"] for sample in read_set("solids", split)}
    rows = [{k: x for k, x in query.items() if k != "changed"} for query in compose_queries(labels)]
    return tuple(ComposedQuery(**row) for row in rows)


def sweep(space: Space, queries: tuple[ComposedQuery, ...], reference: str) -> tuple[float, float]:
    """Return the scale and the balance of the best map@10."""
    table = space.table(split="train")
    lists, kept, places = list_candidates(table, queries, reference, "image")
    rows, images = (vectors(table, m) for m in (reference, "image"))
    texts = [x for i in kept for x in (queries[i].before, queries[i].text)]
    before, after = space.model.embed(text=texts)["text"].unflatten(0, (-1, 2)).unbind(1)
    found = {}
    for scale, balance in itertools.product(SCALES, BALANCES):
        asked = add_direction(rows[places], before, after, scale=scale, balance=balance)
        scores = best_rows(asked @ images.T, table, "image")
        measured = {metric: values for metric, values, _ in measure_lists(scores, lists, (10,))}
        found[scale, balance] = float(measured["map@10"].mean())
    print(reference, {k: round(x, 3) for k, x in found.items()}, file=sys.stderr, flush=True)
    return max(found, key=found.__getitem__)


def measure(seed: int) -> list[Row]:
    """Return the rows of every way to ask, for pictures, sounds and clouds as references."""
    begin, space, rows = time.monotonic(), open_space(seed), []
    for reference in ("image", "audio", "points"):
        scale, balance = sweep(space, read_queries("train")[:KEPT], reference)
        found = Composed(read_queries("test"), reference, scale=scale, balance=balance).run(space).scores
        for way in ("reference", "text", "sum", "product", "direction"):
            for metric in ("recall@10", "map@10", "subset_recall@1"):
                value = found[f"composed/{way}/{metric}"]
                rows.append(Row(way, seed, f"{reference}/{metric}", value, round(time.monotonic() - begin, 1)))
        rows += [Row(name, seed, f"{reference}/chosen", x) for name, x in (("scale", scale), ("balance", balance))]
    return rows


if __name__ == "__main__":
    compare(__doc__, directions=measure)
