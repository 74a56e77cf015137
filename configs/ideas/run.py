"""Two arms of an idea over several seeds: with the mechanism, and without it.

    python configs/ideas/run.py NAME ...                  # trains, evaluates, writes configs/ideas/results/NAME.csv
    python configs/ideas/run.py NAME --table              # prints the figures of that file, mean and spread

`NAME.yaml` is the config, `arms/NAME.yaml` the comparison::

    shards: scenes                        # a set of `SETS`, made in shards/ where it is not there yet
    scores: [image_to_text/recall@1]      # of results.json
    evaluate: [--with, retrieval]         # options of align evaluate
    arms:                                 # arm -> options of align train on top of NAME.yaml
      without: [--objective.terms.regions.weight=0]
      with: []

Every arm is trained with every seed, one thread each, and evaluated on the test split. The file of results has a row
for each score: arm, seed, score, value, and the seconds that the arm's training took.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
COLUMNS = ["arm", "seed", "score", "value", "seconds"]
DATA = Path(os.environ.get("ALIGN_DATA", "data"))


class Row(NamedTuple):
    """One score of one arm with one seed."""

    arm: str
    seed: int
    score: str
    value: float
    seconds: float


def make_solids(folder: Path) -> None:
    """Write 2,000 solids to train on and 400 to test on."""
    from align.quickstart import write_world

    write_world(folder, train=2000, test=400, workers=1)


def make_scenes(folder: Path) -> None:
    """Write 2,000 scenes of two to four solids to train on and 400 to test on."""
    from align.quickstart import write_scenes

    write_scenes(folder, train=2000, test=400, workers=1)


def make_recipe(name: str, folder: Path) -> None:
    """Write the shards of a recipe from the local copy of its data."""
    subprocess.run([sys.executable, str(HERE.parents[1] / "datasets" / f"{name}.py"), str(folder)], check=True)


SETS = {
    "solids": make_solids,
    "scenes": make_scenes,
    "digits": lambda folder: make_recipe("digits", folder),
    "cifar10": lambda folder: make_recipe("cifar10", folder),
    "esc10": lambda folder: make_recipe("esc10", folder),
}


def read_arms(name: str) -> dict[str, Any]:
    """Return the comparison of an idea. Raises SystemExit with one line where it has none, or one without its keys."""
    path = HERE / "arms" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (HERE / "arms").glob("*.yaml")))
        raise SystemExit(f"{name!r} has no comparison; there are {known}")
    arms = yaml.safe_load(path.read_text(encoding="utf-8"))
    if set(arms) != {"shards", "scores", "evaluate", "arms"} or arms["shards"] not in SETS or len(arms["arms"]) < 2:
        raise SystemExit(f"{path}: the keys are shards ({', '.join(SETS)}), scores, evaluate, and two arms or more")
    return arms


def run(arguments: list[str]) -> None:
    """Run a command of align with one thread. Raises SystemExit with its last lines where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "align", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"align {' '.join(arguments)}\n{done.stderr[-1500:]}")


def measure(name: str, arms: dict[str, Any], arm: str, seed: int, out: Path) -> Iterator[Row]:
    """Train one arm with one seed, and yield its scores on the test split."""
    folder = out / name / f"{arm}-{seed}"
    begin = time.monotonic()
    options = [f"--seed={seed}", "--fresh", *map(str, arms["arms"][arm])]
    run(["train", "--config", str(HERE / f"{name}.yaml"), "--run", str(folder), *options])
    seconds = time.monotonic() - begin
    tests = sorted(map(str, Path("shards", arms["shards"]).glob("test-*.tar")))
    run(["evaluate", str(folder), *tests, *map(str, arms["evaluate"])])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for score in arms["scores"]:
        if score not in results:
            near = ", ".join(key for key in results if key.rpartition("/")[2] == score.rpartition("/")[2])
            raise SystemExit(f"results.json of {folder} has no {score}; it has {near or 'other scores'}")
        yield Row(arm, seed, score, results[score], round(seconds, 1))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of results."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(r["arm"], int(r["seed"]), r["score"], float(r["value"]), float(r["seconds"]))
            for r in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a file of results."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([row._replace(value=f"{row.value:.4f}") for row in rows])


def table(rows: list[Row]) -> list[str]:
    """Return one line for each score and arm: mean, standard deviation and number of seeds."""
    lines = []
    for score in dict.fromkeys(row.score for row in rows):
        for arm in dict.fromkeys(row.arm for row in rows if row.score == score):
            values = [row.value for row in rows if row.score == score and row.arm == arm]
            spread = stdev(values) if len(values) > 1 else 0.0
            lines.append(f"{score}  {arm}  {mean(values):.3f} ± {spread:.3f}  ({len(values)} seeds)")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ideas"), help="folder of the runs")
    parser.add_argument("--table", action="store_true", help="print the figures of results/NAME.csv, train nothing")
    asked = parser.parse_args()
    for name in asked.names:
        results = HERE / "results" / f"{name}.csv"
        if not asked.table:
            arms = read_arms(name)
            folder = Path("shards", arms["shards"])
            if not (folder / "manifest.json").is_file():
                SETS[arms["shards"]](folder)
            rows = [
                row for seed in asked.seeds for arm in arms["arms"] for row in measure(name, arms, arm, seed, asked.out)
            ]
            write_rows(results, rows)
        if not results.is_file():
            raise SystemExit(f"{results} is not there; run without --table makes it")
        print("\n".join([name, *table(read_rows(results))]))


if __name__ == "__main__":
    main()
