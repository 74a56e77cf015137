"""Arms over seeds: rows of scores, their files, their tables, and the command line of a comparison.

A script of this folder says its arms for one seed, and `compare` does the rest::

    def masked(seed: int) -> Arms:
        return {"without": lambda: learn(0.0, seed), "masked": lambda: learn(0.5, seed)}

    if __name__ == "__main__":
        compare(__doc__, masked=masked)
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
"""Seeds of the figures in docs/ideas.md."""
Arms = Mapping[str, Callable[[], Mapping[str, float]]]
"""Arm -> a function that trains and measures it, and returns its scores."""


class Row(NamedTuple):
    """One score of one arm with one seed. seconds: those of the arm."""

    arm: str
    seed: int
    score: str
    value: float
    seconds: float = 0.0


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of results."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(r["arm"], int(r["seed"]), r["score"], float(r["value"]), float(r["seconds"]))
            for r in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a file of results."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([row._replace(value=f"{row.value:.4f}") for row in rows])


def table(rows: Sequence[Row]) -> list[str]:
    """Return one line for each score and arm: mean, standard deviation and number of seeds."""
    lines = []
    for score in dict.fromkeys(row.score for row in rows):
        for arm in dict.fromkeys(row.arm for row in rows if row.score == score):
            values = [row.value for row in rows if row.score == score and row.arm == arm]
            spread = stdev(values) if len(values) > 1 else 0.0
            seeds = f"{len(values)} seed{'s' * (len(values) > 1)}"
            lines.append(f"{score}  {arm}  {mean(values):.3f} ± {spread:.3f}  ({seeds})")
    return lines


def run_arms(seed: int, arms: Arms) -> list[Row]:
    """Run every arm with torch's random numbers of the seed, and return the rows of its scores."""
    import torch

    rows = []
    for arm, run in arms.items():
        torch.manual_seed(seed)
        begin = time.monotonic()
        found = run()
        seconds = round(time.monotonic() - begin, 1)
        rows += [Row(arm, seed, score, value, seconds) for score, value in found.items()]
        shown = ", ".join(f"{score} {value:.3f}" for score, value in found.items())
        print(f"seed {seed}, {arm}, {seconds} s: {shown}", file=sys.stderr, flush=True)
    return rows


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--seeds` and `--table`, whose help is the docstring of a script."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[*SEEDS],
        metavar="SEED",
        help="default: 0 1 2. With others, as --seeds 0, the table is printed and no file is written",
    )
    parser.add_argument("--table", action="store_true", help="print the figures of results/NAME.csv, train nothing")
    return parser


def show(names: Iterable[str]) -> None:
    """Print the table of each file of results. Raises SystemExit with one line that names them if one is missing."""
    for name in names:
        path = HERE / "results" / f"{name}.csv"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.csv")))
            raise SystemExit(f"{name!r} has no figures yet; there are those of {known or 'none'}")
        print("\n".join([name, *table(read_rows(path))]))


def finish(found: Mapping[str, Sequence[Row]], seeds: Sequence[int]) -> None:
    """Print the table of each comparison, and write results/NAME.csv if the seeds are those of the page."""
    for name, rows in found.items():
        print("\n".join([name, *table(rows)]), flush=True)
        path = HERE / "results" / f"{name}.csv"
        if tuple(seeds) == SEEDS:
            write_rows(path, rows)
        else:
            print(f"{path.name} stays as it is: it has the seeds {' '.join(map(str, SEEDS))}", file=sys.stderr)


def compare(doc: str | None, **measures: Callable[[int], Arms | Sequence[Row]]) -> None:
    """Be the command line of a script: measure every seed, print the tables and write the files.

    measures: name of a file of results -> a function of a seed, which returns arms to run or rows.
    """
    asked = make_parser(doc).parse_args()
    if asked.table:
        return show(measures)
    import torch

    torch.set_num_threads(1)
    found: dict[str, list[Row]] = {name: [] for name in measures}
    for seed in asked.seeds:
        for name, measure in measures.items():
            made = measure(seed)
            found[name] += run_arms(seed, made) if isinstance(made, Mapping) else made
    return finish(found, asked.seeds)
