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
for each score: arm, seed, score, value, and the seconds that the arm's training took. An arm is a run of
`align train` of a few hundred steps and an evaluation, so a few minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from compare import HERE, Row, finish, make_parser, show
from sets import SETS, find_shards


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
    folder, tests = out / name / f"{arm}-{seed}", find_shards(arms["shards"], "test")
    begin = time.monotonic()
    options = [f"--seed={seed}", "--fresh", *map(str, arms["arms"][arm])]
    run(["train", "--config", str(HERE / f"{name}.yaml"), "--run", str(folder), *options])
    seconds = time.monotonic() - begin
    run(["evaluate", str(folder), *tests, *map(str, arms["evaluate"])])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for score in arms["scores"]:
        if score not in results:
            near = ", ".join(key for key in results if key.rpartition("/")[2] == score.rpartition("/")[2])
            raise SystemExit(f"results.json of {folder} has no {score}; it has {near or 'other scores'}")
        yield Row(arm, seed, score, results[score], round(seconds, 1))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/ideas"), help="folder of the runs")
    asked = parser.parse_args()
    if asked.table:
        return show(asked.names)
    for name in asked.names:
        arms = read_arms(name)
        rows = (measure(name, arms, arm, seed, asked.out) for seed in asked.seeds for arm in arms["arms"])
        finish({name: list(chain.from_iterable(rows))}, asked.seeds)
    return None


if __name__ == "__main__":
    main()
