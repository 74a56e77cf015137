"""Comparison of evaluations: differences on the same samples, with intervals and corrected p-values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.evaluation.samples import FILE, LEVEL, Stored, read_samples
from align.files import read_json
from align.metrics.intervals import draw_counts, percentiles
from align.metrics.paired import holm, sign_flip
from align.seeds import generator

DRAWS = 10_000  # of sign flips
RULES = (
    "shards",
    "classes",
    "templates",
    "hit rule",
    "tie rule",
    "train",
    "distractors",
    "max bad",
    "precision",
    "version",
)


class Evaluated(NamedTuple):
    """Results of one evaluation. name: the folder as it was given."""

    name: str
    scores: dict[str, float]
    protocol: dict[str, Any]
    samples: Stored


class Difference(NamedTuple):
    """One score of two evaluations, on the samples that both have.

    first, second: its value on them. interval: of second - first, by the bootstrap over samples. p: by sign flips.
    corrected: by Holm's method over all differences of a comparison. samples: how many both have.
    """

    score: str
    first: float
    second: float
    interval: tuple[float, float]
    p: float
    corrected: float
    samples: int

    @property
    def difference(self) -> float:
        """second - first."""
        return self.second - self.first


class Comparison(NamedTuple):
    """Differences of one evaluation from the first. notes: lines for people."""

    names: tuple[str, str]
    differences: list[Difference]
    notes: list[str]


def read_evaluated(folder: str | Path) -> Evaluated:
    """Read the results in a folder. Raises FileNotFoundError and ValueError where `align evaluate` wrote none."""
    path = Path(folder) / "results.json"
    for file in (path, path.with_name(FILE)):
        if not file.is_file():
            raise FileNotFoundError(
                f"{folder} has no {file.name}; align evaluate MODEL SHARDS --out {folder} writes it"
            )
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("protocol"), dict):
        raise ValueError(f"{path} is no results of align evaluate: it has no protocol")
    scores = {key: float(value) for key, value in content.items() if isinstance(value, int | float)}
    stored = read_samples(path.with_name(FILE))
    _check_means(path, scores, stored)
    return Evaluated(str(folder), scores, content["protocol"], stored)


def _check_means(path: Path, scores: Mapping[str, float], stored: Stored) -> None:
    """Raise ValueError where a score is not the mean of its samples: the two files are not of one evaluation."""
    for name in sorted(stored.means):
        value = stored.values[name][0]
        mean = float(value.double().mean()) if len(value) else math.nan
        if len(value) and not math.isclose(scores.get(name, math.nan), mean, rel_tol=1e-4, abs_tol=1e-4):
            found = f"{name} is {scores.get(name, 'not there')}, and {mean:.6g} by the samples"
            raise ValueError(f"{path} and {FILE} beside it are not of one evaluation: {found}; evaluate again")


def compare(
    runs: Sequence[Evaluated], *, scores: Sequence[str] = (), draws: int = 1000, flips: int = DRAWS, seed: int = 0
) -> list[Comparison]:
    """Compare each evaluation with the first, on the samples that both have.

    scores: patterns such as ``*/recall@1``. None: all scores that are means over samples. The p-values of all
    differences are corrected together (Holm 1979). draws: of the bootstrap. flips: of signs, and at least 40 a
    difference, so that a corrected p-value can be small.

    Raises ValueError for fewer than two, for a pattern that fits no score, and where two have no sample in common.
    """
    if len(runs) < 2:
        raise ValueError(f"a comparison needs two evaluations or more; got {len(runs)}")
    first, *others = runs
    found = [_list_scores(first, other, scores) for other in others]
    flips = max(flips, 40 * sum(len(names) for names, _ in found))
    out = []
    for other, (names, notes) in zip(others, found, strict=True):
        rows = [_difference(name, first.samples, other.samples, draws, flips, seed) for name in names]
        kept = [row for row in rows if row is not None]
        if not kept:
            raise ValueError(f"{first.name} and {other.name} have no sample in common, by key")
        out.append(Comparison((first.name, other.name), kept, [*notes, *_count_pairs(first, other, kept)]))
    fixed = iter(holm([row.p for one in out for row in one.differences]))
    return [one._replace(differences=[row._replace(corrected=next(fixed)) for row in one.differences]) for one in out]


def _list_scores(first: Evaluated, other: Evaluated, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the scores to compare, and notes on differing protocols and untested scores."""
    both = [name for name in first.samples.values if name in other.samples.values]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in both):
            some = ", ".join(both[:4]) or "none"
            raise ValueError(f"no score of {first.name} and {other.name} fits {pattern!r}; they share {some}, …")
    chosen = [name for name in both if not patterns or any(fnmatchcase(name, p) for p in patterns)]
    means = [name for name in chosen if name in first.samples.means and name in other.samples.means]
    if not means:
        raise ValueError(f"{first.name} and {other.name} share no score that is a mean over samples")
    notes = [
        f"the protocols differ in {rule}: the differences come from it too"
        for rule in RULES
        if first.protocol.get(rule) != other.protocol.get(rule)
    ]
    if left := [name for name in chosen if name not in means]:
        notes.append(f"not tested, since they are no means over samples: {', '.join(left)}")
    alone = [
        name
        for one, two in ((first, other), (other, first))
        for name in one.samples.values
        if name not in two.samples.values
    ]
    if alone and not patterns:
        notes.append(f"{len(alone)} scores are in one of the two alone, such as {alone[0]}")
    return means, notes


def _count_pairs(first: Evaluated, other: Evaluated, rows: Sequence[Difference]) -> list[str]:
    """Return a line on the score of whose samples the smallest share is in both, where one is not in both."""
    found = []
    for row in rows:
        asked = max(len(one.samples.values[row.score][1].unique()) for one in (first, other))
        found.append((row.samples / asked, row.samples, asked))
    share, fewest, asked = min(found)
    return [f"{fewest:,} samples at least are in both, of {asked:,}"] if share < 1 else []


def _keys(stored: Stored) -> list[tuple[str, int]]:
    """Return each sample's key, and how many samples before it have the same."""
    seen: Counter[str] = Counter()
    out = []
    for key in stored.ids:
        out.append((key, seen[key]))
        seen[key] += 1
    return out


def _sums(stored: Stored, name: str) -> tuple[Tensor, Tensor]:
    """Return the sum of each sample's values (B,), and their number (B,)."""
    value, sample = stored.values[name]
    zeros = torch.zeros(len(stored.ids), dtype=torch.float64)
    return zeros.index_add(0, sample, value.double()), zeros.index_add(0, sample, torch.ones(len(sample)).double())


def _difference(name: str, first: Stored, second: Stored, draws: int, flips: int, seed: int) -> Difference | None:
    """Compare one score on the samples of equal key whose queries are as many in both. None: there is none."""
    place = {key: i for i, key in enumerate(_keys(second))}
    pairs = [(i, place[key]) for i, key in enumerate(_keys(first)) if key in place]
    a, b = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
    (sums_a, asked_a), (sums_b, asked_b) = _sums(first, name), _sums(second, name)
    kept = (asked_a[a] == asked_b[b]) & (asked_a[a] > 0)
    if not bool(kept.any()):
        return None
    ours, theirs, asked = sums_a[a[kept]], sums_b[b[kept]], asked_a[a[kept]]
    apart = theirs - ours
    drawn = draw_counts(len(apart), draws, generator("compare", seed))
    found = torch.cat([(counts @ apart) / (counts @ asked) for counts in drawn] or [apart[:0]])
    total = float(asked.sum())
    return Difference(
        name,
        float(ours.sum()) / total,
        float(theirs.sum()) / total,
        percentiles(found, LEVEL),
        p := sign_flip(apart, draws=flips, generator=generator("flips", seed)),
        p,
        len(apart),
    )
