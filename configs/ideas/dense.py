"""Three attentions of the last block, over one trained model a seed: classes told place by place, phrases pointed at.

    python configs/ideas/dense.py [--seeds 0 1 2]         # trains dense.yaml where it is not there, writes results/dense.csv
    python configs/ideas/run.py dense --table             # prints its figures
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from run import HERE, SETS, Row, run, table, write_rows

ARMS = ("plain", "value", "self")
SCORES = (
    *(f"dense/image/{attribute}/miou" for attribute in ("color", "shape", "material")),
    "dense/image/pointing/accuracy",
)


def train(seed: int, out: Path) -> tuple[Path, float]:
    """Return the folder of a seed's run, which is finished where it stopped, and the seconds that it took now."""
    begin, folder = time.monotonic(), out / f"seed-{seed}"
    run(["train", "--config", str(HERE / "dense.yaml"), "--run", str(folder), f"--seed={seed}"])
    return folder, time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ideas/dense"), help="folder of the runs")
    asked = parser.parse_args()
    if not Path("shards/scenes/manifest.json").is_file():
        SETS["scenes"](Path("shards/scenes"))
    tests, rows = sorted(map(str, Path("shards/scenes").glob("test-*.tar"))), []
    for seed in asked.seeds:
        folder, seconds = train(seed, asked.out)
        for arm in ARMS:
            to = folder / arm
            how = ["--with", "dense", "--attention", arm, "--draws", "0", "--no-report", "--out", str(to)]
            run(["evaluate", str(folder), *tests, *how])
            results = json.loads((to / "results.json").read_text(encoding="utf-8"))
            chance = [Row("chance", seed, s, results[s.rpartition("/")[0] + "/chance"], 0.0) for s in SCORES]
            rows += [Row(arm, seed, s, results[s], round(seconds, 1)) for s in SCORES] + (chance if arm == "plain" else [])
    write_rows(HERE / "results" / "dense.csv", rows)
    print("\n".join(["dense", *table(rows)]))


if __name__ == "__main__":
    main()
