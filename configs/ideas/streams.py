"""Shape and material of a picture in two spaces of one tower, against one space for both.

    python configs/ideas/streams.py      # trains 2 arms with 3 seeds, writes configs/ideas/results/streams.csv

A picture asks for pictures of its shape, and of its material: mean average precision. "without" has a plain head and
the same two terms. "with" has `align.heads.Streams`, whose spaces are asked one by one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from run import HERE, SETS, Row, run, table, write_rows

PLAIN = [
    *(f"--model.towers.{m}.head=align.heads.Linear" for m in ("image", "shape", "material")),
    *(f"--objective.terms.{name}.loss=align.losses.InfoNCE" for name in ("shape", "material")),
]
ARMS = {"without": (PLAIN, [""]), "with": ([], ["shape", "material"])}
SCORES = ["class/shape/image_to_image/map", "class/material/image_to_image/map"]
READ = ["--members", "shape=json:label.shape,material=json:label.material", "--with", "retrieval", "--intra"]


def measure(arm: str, seed: int, out: Path) -> list[Row]:
    """Train one arm with one seed, and return its scores in each of its spaces."""
    options, spaces = ARMS[arm]
    folder = out / f"{arm}-{seed}"
    begin = time.monotonic()
    run(["train", "--config", str(HERE / "streams.yaml"), "--run", str(folder), f"--seed={seed}", "--fresh", *options])
    seconds = round(time.monotonic() - begin, 1)
    rows = []
    for space in spaces:
        chosen = ["--space", space] if space else []
        tests = sorted(map(str, Path("shards/solids").glob("test-*.tar")))
        run(["evaluate", str(folder), *tests, *READ, "--draws", "0", "--no-report", *chosen])
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        name = f"{arm}, space {space}" if space else arm
        rows += [Row(name, seed, score, results[score], seconds) for score in SCORES]
    return rows


def main() -> None:
    if not Path("shards/solids/manifest.json").is_file():
        SETS["solids"](Path("shards/solids"))
    rows = [row for seed in range(3) for arm in ARMS for row in measure(arm, seed, Path("runs/ideas/streams"))]
    write_rows(HERE / "results" / "streams.csv", rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
