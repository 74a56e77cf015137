"""Sparse rows: the inverted index against the dense product, and packed signs against both, at 100,000 rows.

    python tests/benchmarks/lexical.py [ROWS [DIM [ENTRIES]]]

Rows have ENTRIES of DIM entries that are not zero (default 20 of 1,024), those of few words more often, as words are.
Each query is such a row. Times are milliseconds of CPU of one search for the best 10, one thread, the median of 30.
"memory" is that of the rows as the side keeps them. The inverted index gives the dense product's samples and scores,
which the last column checks; the signs are those of other rows, dense ones of 64 numbers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.search import Hamming, Inverted
from align.search.exact import find_best

K, QUERIES, BITS = 10, 30, 64


def draw(n: int, dim: int, entries: int, seed: int) -> Tensor:
    """Return sparse unit rows (n, dim) without negative entries. Dimension d is drawn as often as 1 / (d + 10)."""
    made = torch.Generator().manual_seed(seed)
    rows = torch.zeros(n, dim)
    share = 1 / torch.arange(10.0, dim + 10)
    for start in range(0, n, 10_000):
        some = rows[start : start + 10_000]
        columns = torch.multinomial(share.expand(len(some), -1), entries, generator=made)
        some.scatter_(1, columns, torch.rand(columns.shape, generator=made) + 0.1)
    return F.normalize(rows, dim=1)


def measure(ask: Callable[[Tensor], Any], queries: Tensor) -> tuple[float, list[Any]]:
    """Return the median of the milliseconds of CPU, and the answers."""
    times, answers = [], []
    for query in queries:
        begin = time.process_time()
        answers.append(ask(query[None]))
        times.append(1000 * (time.process_time() - begin))
    return median(times), answers


def main(n: int = 100_000, dim: int = 1024, entries: int = 20) -> None:
    torch.set_num_threads(1)
    rows, queries, sample = draw(n, dim, entries, 1), draw(QUERIES, dim, entries, 2), torch.arange(n)
    begin = time.process_time()
    inverted = Inverted(rows, sample)
    built = time.process_time() - begin
    signs = torch.randn(n, BITS, generator=torch.Generator().manual_seed(3)).sign()
    hamming = Hamming(signs, sample)
    flat = F.normalize(signs, dim=1)
    sides: list[tuple[str, Callable[[Tensor], Any], Tensor, int]] = [
        ("dense product", lambda q: find_best(q, rows, sample, K), queries, rows.nbytes),
        ("inverted", lambda q: inverted.search(q, K), queries, inverted.bytes),
        (f"dense product of {BITS} signs", lambda q: find_best(q, flat, sample, K), flat[:QUERIES], flat.nbytes),
        (f"hamming, {BITS} bits", lambda q: hamming.search(q, K), flat[:QUERIES], hamming.bytes),
    ]
    print(f"{n:,} rows, {entries} of {dim} entries; the inverted index took {built:.1f} s of CPU to build")
    before: list[Any] = []
    for i, (name, ask, given, size) in enumerate(sides):
        took, answers = measure(ask, given)
        same = all(torch.equal(a[1], b[1]) for a, b in zip(answers, before, strict=True)) if i % 2 else True
        before = answers
        told = ("same samples" if same else "OTHER SAMPLES") if i % 2 else ""
        print(f"{name:28} {took:8.2f} ms {size / 2**20:8.1f} MiB  {told}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
