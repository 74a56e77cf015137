"""An index of D = 256 at 10,000, 100,000 and 1,000,000 rows: what it costs to build, to open, to ask and to keep.

    python tests/benchmarks/search.py [ROWS ...]

Each size has a process of its own and a temporary folder. A sample has one row, a caption of eight words of 5,000, two
labels and five values in its json. Times are CPU seconds of the process, all threads, with the wall time in brackets.
"private": memory of the process that no file backs, above that before the index was opened.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from align.search.item import Item
from align.search.local import LocalIndex
from align.search.where import parse
from align.values import Rows

D, BLOCK = 256, 10_000
SIZES = (10_000, 100_000, 1_000_000)


def draw_items(start: int, n: int) -> list[Item]:
    """Return items with captions, labels and values that filters can read."""
    draw = random.Random(start)
    items = []
    for i in range(start, start + n):
        words = " ".join(f"word{int(5000 * draw.random() ** 3)}" for _ in range(8))
        label = {"shape": f"shape{i % 20}", "material": f"material{i % 7}"}
        values = {
            "year": 2000 + i % 10,
            "width": draw.randint(100, 9000),
            "flag": i % 3 == 0,
            "tags": [f"t{i % 50}", "all"],
        }
        values["camera"] = {"iso": 100 * (i % 64)}
        items.append(
            Item(f"{i:08d}", {"shard": f"/data/train-{i // 10000:06d}.tar", "key": f"{i:08d}"}, [words], label, values)
        )
    return items


def draw_rows(start: int, n: int) -> Rows:
    """Return random rows, near one of 1,000 centres."""
    made = torch.Generator().manual_seed(start)
    centres = torch.randn(1000, D, generator=torch.Generator().manual_seed(7))
    values = centres[torch.randint(1000, (n,), generator=made)] + torch.randn(n, D, generator=made)
    return Rows(values, torch.arange(n))


def measure(run: Callable[[], Any], times: int = 1) -> tuple[float, float]:
    """Return CPU and wall seconds of one call, the mean over several."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        run()
    return (time.process_time() - cpu) / times, (time.perf_counter() - wall) / times


def private() -> float:
    """Return the MiB of this process that no file backs."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return 0.0


def build(folder: Path, rows: int) -> None:
    """Make an index in one change, a block at a time."""
    with LocalIndex.create(folder) as index, index.change() as change:
        for start in range(0, rows, BLOCK):
            change.add({"image": draw_rows(start, BLOCK)}, draw_items(start, BLOCK))


def run(rows: int) -> dict[str, Any]:
    """Measure one size."""
    folder = Path(tempfile.mkdtemp()) / "index"
    told: dict[str, Any] = {"rows": rows}
    try:
        drawing = measure(lambda: (draw_rows(0, BLOCK), draw_items(0, BLOCK)))
        start = private()
        built = measure(lambda: build(folder, rows))
        told["build"] = tuple(b - d * rows / BLOCK for b, d in zip(built, drawing, strict=True))
        told["private after build, MiB"] = private() - start
        sizes = [(path.suffix, path.stat().st_size) for path in folder.rglob("*") if path.is_file()]
        told["segments, MiB"] = sum(size for end, size in sizes if end == ".safetensors") / 2**20
        told["sqlite, MiB"] = sum(size for end, size in sizes if end == ".sqlite") / 2**20
        shutil.copytree(folder, folder.with_name("other"))
        asked = subprocess.run([sys.executable, sys.argv[0], "--ask", folder], stdout=subprocess.PIPE, check=True)
        told |= json.loads(asked.stdout)
        with LocalIndex.open(folder.with_name("other"), write=True) as index:
            told["add 10"] = measure(
                lambda: index.add("image", draw_rows(5, 10).values, torch.arange(10), draw_items(rows, 10))
            )
            told["delete 10"] = measure(lambda: index.delete([f"{i:08d}" for i in range(0, 100, 10)]))
            told["query after delete"] = measure(lambda: index.search(draw_rows(3, 1).values, "image", 10), 3)
            told["compact"] = measure(index.compact)
            told["check"] = measure(index.check)
        return told
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def ask(folder: Path) -> dict[str, Any]:
    """Measure the questions."""
    told: dict[str, Any] = {}
    start = private()
    opened: list[LocalIndex] = []
    told["open"] = measure(lambda: opened.append(LocalIndex.open(folder)))
    index, queries = opened[0], F.normalize(draw_rows(3, 32).values, dim=1)  # pyright: ignore[reportArgumentType]
    tenth = parse({"year": 2003})
    told["first query (checksums)"] = measure(lambda: index.search(queries[:1], "image", 10))
    told["query"] = measure(lambda: index.search(queries[:1], "image", 10), 5)
    told["32 queries"] = measure(lambda: index.search(queries, "image", 10), 3)
    told["query, new filter of 10 %"] = measure(lambda: index.search(queries[:1], "image", 10, tenth))
    told["query, same filter"] = measure(lambda: index.search(queries[:1], "image", 10, tenth), 5)
    told["32 queries, same filter"] = measure(lambda: index.search(queries, "image", 10, tenth), 3)
    told["facets"] = measure(index.facets)
    told["facets, again"] = measure(index.facets, 5)
    told["facets, filtered"] = measure(lambda: index.facets(tenth))
    told["find_text, rare word"] = measure(lambda: index.find_text("word4000", 10), 5)
    told["find_text, 3 words"] = measure(lambda: index.find_text("word3 word40 word500", 10), 5)
    told["find_text, filtered"] = measure(lambda: index.find_text("word3 word40 word500", 10, tenth), 5)
    told["items of 10"] = measure(lambda: index.items(range(100, 110)), 20)
    told["private while asked, MiB"] = private() - start
    index.close()
    return told


def show(told: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("| | " + " | ".join(f"{one['rows']:,} rows" for one in told) + " |")
    print("|---" * (len(told) + 1) + "|")
    print(
        "| build, rows a second (wall) | " + " | ".join(f"{one['rows'] / one['build'][1]:,.0f}" for one in told) + " |"
    )
    for name in told[0]:
        if name != "rows":
            cells = [one[name] for one in told]
            texts = [f"{c[0]:.4f} ({c[1]:.4f})" if isinstance(c, tuple | list) else f"{c:,.0f}" for c in cells]
            print(f"| {name} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(run(int(sys.argv[2]))))
    elif sys.argv[1:2] == ["--ask"]:
        print(json.dumps(ask(Path(sys.argv[2]))))
    else:
        results = []
        for size in map(int, sys.argv[1:] or SIZES):
            done = subprocess.run([sys.executable, __file__, "--one", str(size)], stdout=subprocess.PIPE, check=True)
            results.append(json.loads(done.stdout))
        show(results)
