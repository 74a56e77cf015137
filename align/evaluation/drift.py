"""Drift of a model between two checkpoints: how far each modality's rows moved, and which of it a rotation explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.checkpoint.fingerprint import fingerprint
from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.samples import Intervals
from align.evaluation.space import Space
from align.losses.kernels.pairing import counterparts
from align.metrics.geometry import Estimate, UnitRows, cka, neighbourhood, overlap
from align.model import JointModel
from align.page.section import Measured, Section, Table
from align.values import Embeddings, Scores

FEW = 4  # rows that CKA needs at least


class Pairs(NamedTuple):
    """Rows of a modality that both models have, (n, D) and (n, D_old), and the sample (n,) of each."""

    new: Tensor
    old: Tensor
    sample: Tensor


@final
@dataclass(frozen=True)
class Drift:
    """``drift/image/cosine``, ``…/aligned_distance``, ``…/cka``, ``…/neighbours@10`` of a model and an earlier one.

    cosine: the mean cosine of the same row before and after, where both models have one dim. 1 is no drift. It is what
    an index of old rows feels. aligned_distance: the mean squared distance of the unit rows after the best rotation of
    the new ones (orthogonal Procrustes, Schönemann 1966, Psychometrika 31), of at most 2. 0 is a rotation alone.
    cka: unbiased linear CKA. neighbours@k: the share of each row's k nearest rows of its modality that are kept.

    Ni et al. (2023, arXiv 2305.07437) watch such rotations of rows between the steps of continual training.

    old: the earlier model. old_name: its name for people. k: of the neighbours. Raises ValueError for k below 1.
    """

    name = "drift"

    old: JointModel | None = None
    old_name: str = "old"
    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"neighbours@k needs k >= 1, got {self.k}")

    def run(self, space: Space) -> Findings:
        """Return the drift of every modality. Raises ValueError without an earlier model, or a shared modality."""
        if self.old is None:
            raise ValueError("drift compares with an earlier model: Drift(old=MODEL), --old MODEL")
        if not set(self.old.modalities) & set(space.model.modalities):
            raise ValueError(
                f"drift: {self.old_name} embeds {', '.join(self.old.modalities)}, and the model "
                f"{', '.join(space.model.modalities)}: they share no modality"
            )
        new, old = space.table(), space.of_model(self.old).table()
        scores: Scores = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        counts: dict[str, int] = {}
        notes = []
        for m in sorted(set(new) & set(old)):
            rows = pair(new, old, m)
            counts[m] = len(rows.sample)
            if len(rows.sample) < FEW:
                notes.append(f"drift of {m} is not measured: {len(rows.sample)} rows, {FEW} are needed")
                continue
            for metric, found in measure(rows, self.k).items():
                scores[f"drift/{m}/{metric}"] = found.value
                samples[f"drift/{m}/{metric}"] = found.values, rows.sample
            notes += self._note(m, rows)
        if not scores:
            return Findings({}, {"notes": notes})
        intervals = space.intervals(samples)
        facts: dict[str, Any] = {"old": {"name": self.old_name, "model": fingerprint(self.old)}, "rows": counts}
        section = _show(scores, intervals, counts, self.old_name)
        return Findings(scores, {"drift": facts, "notes": notes}, section, samples, {}, intervals)

    def _note(self, m: str, rows: Pairs) -> list[str]:
        n, dim = len(rows.sample), max(rows.new.shape[1], rows.old.shape[1])
        notes = []
        if rows.new.shape[1] != rows.old.shape[1]:
            notes.append(
                f"drift/{m}/cosine is not measured: {rows.old.shape[1]} coordinates before, {rows.new.shape[1]} now"
            )
        if n <= dim:
            notes.append(
                f"drift/{m}/aligned_distance is of {n:,} rows in {dim} dimensions, which a rotation fits closely"
            )
        if self.k > n - 2:
            notes.append(f"drift/{m}/neighbours@{self.k} is not measured: it needs {self.k + 2} rows, there are {n:,}")
        return notes


def pair(new: Embeddings, old: Embeddings, modality: str) -> Pairs:
    """Return the rows of a modality that both tables have. Hard negatives are left out."""
    here, there = (
        torch.cat([table.position, torch.tensor([-1])])[table[modality].sample] for table in (new, old)
    )  # the position of each row's sample in the shards
    at, other = counterparts(here, there)
    return Pairs(vectors(new, modality)[at], vectors(old, modality)[other], new[modality].sample[at])


def measure(rows: Pairs, k: int) -> dict[str, Estimate]:
    """Return metric -> its estimate, of 4 rows at least. ``cosine`` needs equal dims, ``neighbours@k`` k + 2 rows."""
    x, y = (F.normalize(one.double(), dim=1) for one in (rows.new, rows.old))
    found: dict[str, Estimate] = {}
    if x.shape[1] == y.shape[1]:
        found["cosine"] = _mean((x * y).sum(dim=1))
    u, _, v = torch.linalg.svd(x.T @ y, full_matrices=False)
    turned = x @ (u @ v)  # (n, D_old)
    lengths = x.square().sum(dim=1) + y.square().sum(dim=1)
    found["aligned_distance"] = _mean((lengths - 2 * (turned * y).sum(dim=1)).clamp(min=0))
    new, old = UnitRows(rows.new), UnitRows(rows.old)
    found["cka"] = cka(new, old)
    if k <= len(x) - 2:
        found[f"neighbours@{k}"] = _mean(overlap(neighbourhood(new, k).nearest, neighbourhood(old, k).nearest))
    return found


def _mean(values: Tensor) -> Estimate:
    return Estimate(float(values.mean()), values)


def _show(scores: Scores, intervals: Intervals, counts: dict[str, int], old: str) -> Section:
    """Return the section: a row for each modality."""
    metrics = list(dict.fromkeys(name.rpartition("/")[2] for name in scores))
    rows = []
    for m, n in counts.items():
        names = [f"drift/{m}/{metric}" for metric in metrics]
        if any(name in scores for name in names):
            cells = [Measured(scores[name], intervals.get(name)) if name in scores else "" for name in names]
            rows.append([m, n, *cells])
    note = f"The same rows by {old} and by the model. aligned_distance: after the best rotation."
    return Section("Drift", note, [Table(["modality", "rows", *metrics], rows)])
