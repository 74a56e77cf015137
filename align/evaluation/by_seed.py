"""Comparison of configs over several seeds: their runs are paired by seed, and the seeds are the sample."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

from align.files import read_json
from align.metrics.paired import holm

LEVEL = 0.95
APART = {"seed", "run", "config", "fresh", "dry_run", "fork"}
"""Keys of a run's config that two runs of one config may differ in."""


class SeededRun(NamedTuple):
    """A run. config: its keys, flat. scores: of results.json, or of its best checkpoint's validation."""

    folder: str
    seed: int
    config: Mapping[str, Any]
    scores: Mapping[str, float]


class Seeded(NamedTuple):
    """Runs of one config by seed. name: the keys that tell it from the other configs."""

    name: str
    runs: Mapping[int, SeededRun]


class SeedDifference(NamedTuple):
    """One score of two configs, on the seeds that both have.

    first, second: its mean. spreads: its standard deviations over seeds, NaN for one seed. interval: of the mean
    difference, by Student's t over the pairs. p: of the paired t-test. corrected: by Holm's method over all of them.
    """

    score: str
    first: float
    second: float
    spreads: tuple[float, float]
    interval: tuple[float, float]
    p: float
    corrected: float
    seeds: int

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


def read_run(folder: str | Path) -> SeededRun:
    """Read a run's seed, config and scores. Raises FileNotFoundError where it has no config.yaml or no scores."""
    path = Path(folder)
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} has no config.yaml; pairing by seed takes folders of align train")
    config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")) or {}
    flat = {key: value for key, value in _flatten(config).items() if key.split(".")[0] not in APART}
    return SeededRun(str(folder), int(config.get("seed") or 0), flat, _read_scores(path))


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping with keys such as ``optim.lr``."""
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip("."): value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flatten(inner, f"{prefix}{name}.").items()}


def _read_scores(run: Path) -> dict[str, float]:
    results, metrics = run / "results.json", run / "metrics.csv"
    if results.is_file():
        return {k: float(v) for k, v in read_json(results).items() if isinstance(v, int | float)}
    rows = []
    if metrics.is_file():
        with metrics.open(newline="", encoding="utf-8") as f:
            rows = [
                {k: float(v) for k, v in row.items() if v and (k == "step" or (k or "").startswith("val/"))}
                for row in csv.DictReader(f)
            ]
    measured = [row for row in rows if len(row) > 1]
    if not measured:
        raise FileNotFoundError(
            f"{run} has neither results.json nor a validation; align evaluate {run} SHARDS makes one"
        )
    index = run / "checkpoints" / "index.json"
    best = str((read_json(index) if index.is_file() else {}).get("best") or "")
    at = [row for row in measured if best and row["step"] == int(best[5:])]
    return {k: v for k, v in (at or measured)[-1].items() if k != "step"}


def group_runs(runs: Sequence[SeededRun]) -> list[Seeded]:
    """Return the runs by config, in the order in which they were given.

    Raises ValueError where all have one config, and where two runs of a config have the same seed.
    """
    groups: list[list[SeededRun]] = []
    for run in runs:
        same = next((group for group in groups if group[0].config == run.config), None)
        if same is None:
            groups.append([run])
        elif (twin := next((r for r in same if r.seed == run.seed), None)) is not None:
            raise ValueError(f"{twin.folder} and {run.folder} have one config and one seed, {run.seed}")
        else:
            same.append(run)
    if len(groups) < 2:
        raise ValueError(f"the {len(runs)} runs differ in their seeds alone; give runs of two configs or more")
    keys = dict.fromkeys(key for group in groups for key in group[0].config)
    apart = [key for key in keys if len({repr(group[0].config.get(key)) for group in groups}) > 1]
    names = [_name(group[0].config, apart) for group in groups]
    return [Seeded(name, {r.seed: r for r in group}) for name, group in zip(names, groups, strict=True)]


def _name(config: Mapping[str, Any], keys: Sequence[str], most: int = 3) -> str:
    """Return "optim.lr 0.001, model.dim 64" for the keys that tell configs apart."""
    shown = ", ".join(f"{key} {config.get(key)}" for key in keys[:most])
    return shown + (f" and {len(keys) - most} more" if len(keys) > most else "")


def compare_seeds(
    groups: Sequence[Seeded], scores: Sequence[str] = ()
) -> list[tuple[tuple[str, str], list[SeedDifference], list[str]]]:
    """Compare each config with the first one: ((first, second), differences, notes).

    Seeds are the unit, as in Bouthillier et al. 2021 (arXiv 2103.03098): the interval tells how the difference varies
    over seeds, not over test samples. scores: patterns. None: all that both have.

    Raises ValueError for a pattern that fits no score, and where two configs have no seed in common.
    """
    first, *others = groups
    out = []
    for other in others:
        seeds = sorted({*first.runs} & {*other.runs})
        if not seeds:
            raise ValueError(
                f"{first.name} has the seeds {sorted(first.runs)}, {other.name} {sorted(other.runs)}: none in common"
            )
        alone = sorted({*first.runs} ^ {*other.runs})
        notes = [f"left out, since only one config has them: seeds {', '.join(map(str, alone))}"] if alone else []
        if len(seeds) < 3:
            notes.append(f"{len(seeds)} seeds in common tell little; three or more give intervals that can be read")
        names = _choose(first, other, seeds, scores)
        out.append(((first.name, other.name), [_compare(n, first, other, seeds) for n in names], notes))
    fixed = iter(holm([row.p for _, rows, _ in out for row in rows if not math.isnan(row.p)]))
    return [
        (names, [row if math.isnan(row.p) else row._replace(corrected=next(fixed)) for row in rows], notes)
        for names, rows, notes in out
    ]


def _choose(first: Seeded, other: Seeded, seeds: Sequence[int], patterns: Sequence[str]) -> list[str]:
    runs = [group.runs[seed] for seed in seeds for group in (first, other)]
    both = [name for name in runs[0].scores if all(name in run.scores for run in runs)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in both):
            raise ValueError(f"no score of all runs fits {pattern!r}; they share {', '.join(both[:4]) or 'none'}, …")
    chosen = [name for name in both if not patterns or any(fnmatchcase(name, p) for p in patterns)]
    if not chosen:
        measured = [run for run in runs if (Path(run.folder) / "results.json").is_file()]
        left = [run for run in runs if run not in measured]
        if measured and left:
            raise ValueError(
                f"{measured[0].folder} was evaluated and {left[0].folder} was not, so they share no score; "
                f"align evaluate {left[0].folder} SHARDS makes its results.json"
            )
        raise ValueError(f"the runs of {first.name} and {other.name} share no score")
    return chosen


def _compare(name: str, first: Seeded, other: Seeded, seeds: Sequence[int]) -> SeedDifference:
    a, b = ([group.runs[seed].scores[name] for seed in seeds] for group in (first, other))
    apart = [y - x for x, y in zip(a, b, strict=True)]
    interval, p = _student(apart)
    spreads = (stdev(a), stdev(b)) if len(seeds) > 1 else (math.nan, math.nan)
    return SeedDifference(name, mean(a), mean(b), spreads, interval, p, p, len(seeds))


def _student(apart: Sequence[float]) -> tuple[tuple[float, float], float]:
    """Return the interval of the mean by Student's t, and the p-value of the mean 0. NaN for a single value."""
    n = len(apart)
    if n < 2:
        return (math.nan, math.nan), math.nan
    from scipy.special import stdtr, stdtrit

    middle, error = mean(apart), stdev(apart) / math.sqrt(n)
    reach = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    if error == 0:
        return (middle, middle), 1.0 if middle == 0 else 0.0
    return (middle - reach, middle + reach), float(2 * stdtr(n - 1, -abs(middle / error)))
