"""Exact queries of an index at D = 256, against FAISS's flat index and a plain torch product with top-k.

    python tests/benchmarks/search_exact.py [ROWS ...]

Each subject and size has a process of its own, all with the same rows, near 1,000 centres, and the same queries. Every
answer is compared: the samples are FAISS's but for scores that are equal in float32. Times are milliseconds of CPU of
the process, all threads, the least of several, and the wall time of that one in brackets. "ratio": to FAISS in the same
run. "private": memory of the process that no file backs, above that before the rows were there, after all queries.
The rows of ``align index`` stay in their file. The last line is a search with a filter that one sample in ten passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

D, K, BLOCK = 256, 10, 50_000
SIZES = (10_000, 100_000, 1_000_000)
SUBJECTS = ("faiss flat", "torch product, topk", "find_best", "align index", "align index, filter of 10 %")
Ask = Callable[[Tensor], tuple[Any, Any]]


def draw(start: int, n: int) -> Tensor:
    """Return random unit rows, near one of 1,000 centres."""
    made = torch.Generator().manual_seed(start)
    centres = torch.randn(1000, D, generator=torch.Generator().manual_seed(7))
    rows = centres[torch.randint(1000, (n,), generator=made)] + torch.randn(n, D, generator=made)
    return F.normalize(rows, dim=1)


def prepare(folder: Path, rows: int) -> None:
    """Write the rows as a plain file and as an index."""
    from align.search.item import Item
    from align.search.local import LocalIndex
    from align.values import Rows

    plain = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (rows, D))
    with LocalIndex.create(folder / "index") as index, index.change() as change:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            values = draw(1 + start, n)
            plain[start : start + n] = values.numpy()
            items = [
                Item(f"{i:08d}", {"shard": "/s.tar", "key": f"{i:08d}"}, (), i % 10) for i in range(start, start + n)
            ]
            change.add({"image": Rows(values, torch.arange(n))}, items)
    plain.flush()


def open_subject(name: str, folder: Path) -> Ask:
    """Return a function of queries (q, D) that gives scores (q, k) and row numbers from 0."""
    if name.startswith("align index"):
        from align.search.local import LocalIndex
        from align.search.where import parse

        index, where = LocalIndex.open(folder / "index"), parse({"label": 3}) if "filter" in name else None

        def ask(query: Tensor) -> tuple[Any, Any]:
            scores, samples = index.search(query, "image", K, where)
            return scores, samples - 1

        return ask
    rows = np.load(folder / "rows.npy")
    if name == "faiss flat":
        import faiss

        flat = faiss.IndexFlatIP(D)
        flat.add(rows)
        del rows
        return lambda query: flat.search(query.numpy(), K)
    values = torch.from_numpy(rows)
    if name == "find_best":
        from align.search.exact import find_best

        sample = torch.arange(len(values))
        return lambda query: find_best(query, values, sample, K)

    def product(query: Tensor) -> tuple[Any, Any]:
        return (query @ values.T).topk(K)

    return product


def private() -> float:
    """Return the MiB of this process that no file backs."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return 0.0


def least(run: Callable[[], Any], times: int) -> tuple[float, float]:
    """Return the CPU milliseconds of the call that took the fewest, and its wall time."""
    found = []
    for _ in range(times):
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        found.append(((time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3))
    return min(found)


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Measure a subject in this process."""
    start, queries = private(), draw(0, 32)
    ask = open_subject(name, folder)
    scores, samples = ask(queries)
    ask(queries[:1])
    told: dict[str, Any] = {"1": least(lambda: ask(queries[:1]), 7), "32": least(lambda: ask(queries), 5)}
    told["private"] = private() - start
    told["scores"], told["samples"] = np.asarray(scores).tolist(), np.asarray(samples).tolist()
    return told


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return True where both found the same samples, but for equal scores."""
    scores = np.abs(np.array(a["scores"]) - np.array(b["scores"]))
    return bool((scores < 1e-5).all()) and bool(
        ((np.array(a["samples"]) == np.array(b["samples"])) | (scores < 1e-6)).all()
    )


def run(rows: int) -> None:
    """Print the table of one size."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, rows)
        told = {}
        for name in SUBJECTS:
            out = subprocess.run([sys.executable, __file__, name, place], stdout=subprocess.PIPE, check=True).stdout
            told[name] = json.loads(out)
        peer = told[SUBJECTS[0]]
        for name, one in told.items():
            cells = [f"{one[q][0]:,.1f} ({one[q][1]:,.1f}) | {one[q][0] / peer[q][0]:.2f}" for q in ("1", "32")]
            equal = "" if "filter" in name else "yes" if same(one, peer) else "NO"
            print(f"| {rows:,} | {name} | {' | '.join(cells)} | {one['private']:,.0f} | {equal} |", flush=True)


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] in SUBJECTS:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
        return
    print("| rows | | 1 query, ms | ratio | 32 queries, ms | ratio | private, MiB | same |")
    print("|---" * 8 + "|")
    for rows in map(int, sys.argv[1:] or SIZES):
        run(rows)


if __name__ == "__main__":
    main()
