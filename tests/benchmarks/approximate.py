"""Approximate search of an index against exact search, with queries of another modality: time, memory, disk, recall.

    python tests/benchmarks/approximate.py [--rows 10000 100000] [--dims 256 1024] [--kinds hnsw int8 ivfpq binary]

Data: samples have 64 hidden numbers, near one of 1,000 centres. A row is a linear image of them in D numbers, brought
to length 1, plus the modality's own direction (length 0.8) and noise (0.3), brought to length 1 again. So both
modalities lie on narrow cones, apart from each other, as trained embeddings do. "image" is searched. A query is a row
of a new sample, of hidden numbers near those of one that is there: of "text" for cross, of "image" for same. Rows are
made and written in blocks. One process measures the exact search of the index first, then each kind.

Columns: build s: seconds of CPU; private: MB that the process held after the build more than before; disk: MB beside
the exact rows; ms: milliseconds of CPU a query, one at a time, one thread, with the exact re-scoring; recall@10.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from align.search import Approximate
from align.search import made as rule
from align.search.ann.attach import attach
from align.search.ann.kinds import KINDS
from align.search.ann.make import make_backend
from align.search.ann.memory import measure_memory
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.where import parse
from align.values import Rows

HIDDEN, CENTRES, BLOCK, QUERIES, K = 64, 1000, 20_000, 200, 10
GAP, NOISE = 0.8, 0.3
PERCENT = (50, 20, 10, 5, 2, 1)


def draw(seed: int, *shape: int) -> Tensor:
    """Return normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hide(start: int, n: int) -> Tensor:
    """Return the hidden numbers (n, 64) of the samples from ``start``."""
    place = torch.randint(CENTRES, (n,), generator=torch.Generator().manual_seed(start + 1))
    return draw(7, CENTRES, HIDDEN)[place] + 0.7 * draw(start + 2, n, HIDDEN)


def embed(hidden: Tensor, dim: int, modality: int, seed: int) -> Tensor:
    """Return rows (n, D) of one of the two modalities."""
    axes = torch.linalg.qr(draw(11, dim, HIDDEN))[0].T
    row = F.normalize(hidden @ axes, dim=1) + GAP * F.normalize(draw(13, 2, dim), dim=1)[modality]
    return F.normalize(row + NOISE * draw(seed, len(row), dim) / math.sqrt(dim), dim=1)


def fill(folder: Path, rows: int, dim: int) -> None:
    """Write an index of images."""
    with LocalIndex.create(folder) as index, index.change() as change:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            values = embed(hide(start, n), dim, 0, start + 3)
            items = [
                Item(f"{i:08d}", {"shard": "/s.tar", "key": f"{i:08d}"}, json={"n": i % 100})
                for i in range(start, start + n)
            ]
            change.add({"image": Rows(values, torch.arange(n))}, items)


def ask(rows: int, dim: int) -> dict[str, Tensor]:
    """Return the queries of both modalities."""
    hidden = hide(0, min(BLOCK, rows))[:QUERIES] + 0.5 * draw(5, QUERIES, HIDDEN)
    return {"cross": embed(hidden, dim, 1, 17), "same": embed(hidden, dim, 0, 19)}


def measure(folder: Path, rows: int, dim: int, kinds: list[str], effort: float, filters: bool) -> None:
    """Print a line for the exact search and one for each kind."""
    queries = ask(rows, dim)
    with LocalIndex.open(folder) as exact:
        truth, index = {}, attach(exact)
        line = f"{rows:>9,} {dim:>5} {'exact':>7} {'':>8} {'':>8} {rows * dim * 4 / 1e6:>8.1f}"
        for name, query in queries.items():
            exact.search(query[:1], "image", K)
            start = time.process_time()
            truth[name] = [exact.search(one, "image", K)[0] for one in query.split(1)]
            line += f" {1e3 * (time.process_time() - start) / QUERIES:>9.2f} {1:>7.3f}"
        print(line, flush=True)
        for kind in kinds:
            start, held = time.process_time(), measure_memory()
            made, _ = make_backend(folder, kind, effort=effort)
            line = f"{rows:>9,} {dim:>5} {kind:>7} {time.process_time() - start:>8.1f} "
            line += f"{(measure_memory() - held) / 1e6:>8.1f} {made[0].disk / 1e6:>8.1f}"
            for name, query in queries.items():
                index.search(query[:1], "image", K)
                start = time.process_time()
                found = [index.search(one, "image", K)[0] for one in query.split(1)]
                took = 1e3 * (time.process_time() - start) / QUERIES
                assert index.list_notes()[0].startswith("approximate"), index.list_notes()
                shares = [float((a >= b[0, -1]).sum()) / K for a, b in zip(found, truth[name], strict=True)]
                line += f" {took:>9.2f} {sum(shares) / QUERIES:>7.3f}"
            print(line, flush=True)
            if filters:
                measure_filters(index, queries["cross"])


def measure_filters(index: Approximate, queries: Tensor) -> None:
    """Print the recall of searches with filters that let a share of the samples through, however small it is."""
    rule.FEW, rule.RARE = 0, 0
    for percent in PERCENT:
        where = parse({"n": {"lt": percent}})
        start = time.process_time()
        truth = [index.index.search(one, "image", K, where)[0] for one in queries.split(1)]
        middle = time.process_time()
        found = [index.search(one, "image", K, where)[0] for one in queries.split(1)]
        end = time.process_time()
        shares = [float((a >= b[0, -1]).sum()) / K for a, b in zip(found, truth, strict=True)]
        took = f"exact {1e3 * (middle - start) / QUERIES:.2f} ms, here {1e3 * (end - middle) / QUERIES:.2f} ms"
        print(f"  filter of {percent} %: recall {sum(shares) / QUERIES:.3f}, {took}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--effort", type=float, default=1.0)
    parser.add_argument("--filters", action="store_true", help="measure searches with filters too")
    parser.add_argument("--folder", help="where indexes are written, 5 GB for 1,000,000 rows of 1,024 numbers and hnsw")
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = ("rows", 9), ("D", 5), ("kind", 7), ("build s", 8), ("private", 8), ("disk MB", 8)
    print(" ".join(f"{name:>{width}}" for name, width in head), "  cross ms  recall   same ms  recall")
    for dim in args.dims:
        for rows in args.rows:
            place = Path(tempfile.mkdtemp(dir=args.folder))
            try:
                fill(place / "index", rows, dim)
                measure(place / "index", rows, dim, args.kinds, args.effort, args.filters)
            finally:
                shutil.rmtree(place)


if __name__ == "__main__":
    main()
