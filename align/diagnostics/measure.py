"""Measures of an embedded slice: recall, geometry, cosines of positives and negatives, false negatives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.labels import attributes
from align.diagnostics.table import Side, Table
from align.metrics import ranks, recall_at
from align.metrics.geometry import UnitRows, alignment, gap, neighbourhood, uniformity
from align.scoring import choose, score
from align.values import Scores, TermInfo

LOW, HIGH, BINS = -1.0, 1.0, 80
"""Range and number of the bins of cosines."""
NEAREST = 10
"""Nearest negatives of an anchor among which those of its label are counted."""


def measure(table: Table, infos: Sequence[TermInfo], trained: set[frozenset[str]]) -> Scores:
    """Return the scores of a slice, by flat names.

    ``trained/A_to_B/recall@1`` and ``emergent/A_to_B/recall@1``: the share of rows of A whose nearest row of B, by the
    rule that evaluation and search take, is of the same sample or group. An emergent pair has no term.
    ``gap/A+B`` (Liang et al. 2022), ``alignment/A+B`` and ``uniformity/A`` (Wang and Isola 2020), and
    ``effective_rank/A`` (Roy and Vetterli 2007), as `align.metrics.geometry` has them.
    ``false_negatives/A_to_B/ATTRIBUTE``: of the 10 rows of B that are nearest to a row of A and no hit, the share with
    the label of its sample, for trained pairs.

    trained: pairs of modalities that some term joins. A score of nothing is left out.
    """
    found: dict[str, float] = {}
    same = {name: share_label(table.labels, name) for name in _list_attributes(table.labels)}
    for a, b in permutations(table.sides, 2):
        x, y = table.sides[a], table.sides[b]
        joined = frozenset((a, b)) in trained
        kind = "trained" if joined else "emergent"
        scores = score({a: x.values}, y.values, choose(infos, (a,), b), of=b, terms=infos)
        found[f"{kind}/{a}_to_{b}/recall@1"] = _recall(scores, x, y)
        for name, equal in same.items() if joined else ():
            found[f"false_negatives/{a}_to_{b}/{name}"] = count_false(scores, x, y, equal)
    for a, b in combinations(table.sides, 2):
        x, y = table.pair_rows(a, b)
        if len(x) > 1:
            found[f"gap/{a}+{b}"] = gap(UnitRows(x), UnitRows(y)).value
            found[f"alignment/{a}+{b}"] = alignment(UnitRows(x), UnitRows(y)).value
    for m, side in table.sides.items():
        found[f"uniformity/{m}"] = uniformity(neighbourhood(UnitRows(side.values), 0).potential).value
        found[f"effective_rank/{m}"] = effective_rank(side.values)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def list_scores(modalities: Sequence[str], trained: set[frozenset[str]], labels: Sequence[str] = ()) -> list[str]:
    """Return the names of the scores that `measure` has of modalities with rows. labels: attributes."""
    modalities = sorted(modalities)
    found: list[str] = []
    for a, b in permutations(modalities, 2):
        joined = frozenset((a, b)) in trained
        found.append(f"{'trained' if joined else 'emergent'}/{a}_to_{b}/recall@1")
        found += [f"false_negatives/{a}_to_{b}/{name}" for name in labels if joined]
    found += [f"{kind}/{a}+{b}" for a, b in combinations(modalities, 2) for kind in ("gap", "alignment")]
    return found + [f"{kind}/{m}" for m in modalities for kind in ("uniformity", "effective_rank")]


def count_cosines(table: Table) -> dict[str, tuple[list[int], list[int]]]:
    """Return ``A+B`` -> the counts of cosines of positives, and of negatives, in ``BINS`` bins from -1 to 1.

    A positive is a row of A with a row of B of one sample, a negative with one of another sample and group.
    """
    found = {}
    for a, b in combinations(table.sides, 2):
        x, y = table.sides[a], table.sides[b]
        cosines = (F.normalize(x.values, dim=1) @ F.normalize(y.values, dim=1).T).clamp(LOW, HIGH)  # (n_a, n_b)
        positive = x.sample[:, None] == y.sample
        negative = x.key[:, None] != y.key
        counts = [torch.histc(cosines[which], BINS, LOW, HIGH).long().tolist() for which in (positive, negative)]
        found[f"{a}+{b}"] = (counts[0], counts[1])
    return found


def effective_rank(values: Tensor) -> float:
    """Return exp(H) of the singular values s of rows (n, D) at unit length, H the entropy of s / sum(s).

    It is equation 3 of Roy and Vetterli (2007), the value of `align.metrics.geometry.effective_rank`. It comes from the
    smaller one of the two Gram matrices: a slice has fewer rows than a wide space has dimensions.
    """
    x = F.normalize(values.double(), dim=1)
    spectrum = torch.linalg.eigvalsh(x @ x.T if len(x) < x.shape[1] else x.T @ x)
    kept = spectrum[spectrum > spectrum[-1].clamp(min=0) * len(spectrum) * torch.finfo(torch.float64).eps]
    share = kept.sqrt() / kept.sqrt().sum()
    return float((-(share * share.log()).sum()).exp()) if len(kept) else 0.0


def count_false(scores: Tensor, x: Side, y: Side, equal: Tensor) -> float:
    """Return the share of the nearest negatives of a labelled anchor that have its label, nan where none has one.

    scores: (n_a, n_b). equal: (S, S) bool, true where two samples share a label, and false on a row without labels.
    """
    negative = x.key[:, None] != y.key
    k = min(NEAREST, scores.shape[1] - 1)
    near = scores.masked_fill(~negative, -math.inf).topk(k, dim=1).indices  # (n_a, k)
    real = negative.gather(1, near) & equal.diagonal()[y.sample[near]]  # a negative with a label
    labelled = equal.diagonal()[x.sample]
    hit = equal[x.sample[:, None], y.sample[near]] & real
    return float(hit[labelled].sum() / real[labelled].sum().double())


def share_label(labels: Sequence[object], name: str) -> Tensor:
    """Return (S, S) bool, true where two samples share a value of an attribute. A sample without one shares none."""
    values = [list(_values(label, name)) for label in labels]
    places = {value: i for i, value in enumerate(dict.fromkeys(v for some in values for v in some))}
    members = torch.zeros(len(values), max(1, len(places)))
    for i, some in enumerate(values):
        for value in some:
            members[i, places[value]] = 1
    return members @ members.T > 0


def _list_attributes(labels: Sequence[object]) -> list[str]:
    return sorted({name for label in labels for name in attributes(label)})


def _values(label: object, name: str) -> Iterator[str]:
    value = attributes(label).get(name)
    if value is not None:
        yield from map(str, value if isinstance(value, list | tuple) else [value])


def _recall(scores: Tensor, x: Side, y: Side) -> float:
    return recall_at(ranks(scores, x.key[:, None] == y.key), 1)
