"""The protocol of the probes, and the lines about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from align.evaluation.notes import some
from align.evaluation.probe.choose import CHOOSING, COARSE, FEW
from align.evaluation.probe.folds import INNER, MANY
from align.evaluation.probe.lbfgs import FALL, STEPS, WINDOW

if TYPE_CHECKING:
    from align.evaluation.probe.answers import Answers
    from align.evaluation.probe.plan import Plan
    from align.evaluation.probe.pool import Pool
    from align.evaluation.probe.ridge import Predicted


class Row(NamedTuple):
    """One thing that is told from one modality. name: an attribute, or a key of the json. source: "head" or "tower"."""

    name: str
    modality: str
    source: str

    @property
    def prefix(self) -> str:
        """The beginning of its scores."""
        return f"probe/{self.name}/{self.modality}/{'tower/' if self.source == 'tower' else ''}"

    @property
    def text(self) -> str:
        """Its modality and source in words."""
        return f"{self.modality}, {self.source}"


def describe(
    rows: str, plan: Plan, told: Mapping[Row, Answers], numbers: Mapping[Row, Predicted], seeds: int
) -> dict[str, Any]:
    """Return the entry of the protocol: all that is needed to fit the probes again."""
    if plan.by:
        learns = f"{len(plan.by)} folds, each told by a probe on the others: {', '.join(plan.by)}"
        chosen = f"the other official folds, the next one alone from {MANY:,} rows on"
        chosen = chosen if len(plan.by) > 2 else f"{INNER} folds of the training rows"
    else:
        learns = "the training shards"
        chosen = f"{INNER} folds of the training rows, one tenth of them from {MANY:,} rows on"
    return {
        "learns from": learns,
        "rows": "scaled to the length 1" if rows == "unit" else "as they are",
        "logistic regression": "softmax, L2 penalty on all but the intercept, float64, L-BFGS until the gradient's "
        f"norm in preconditioned coordinates is 1e-6 or {WINDOW} steps gain less than {FALL:g} nats a row, "
        f"{STEPS} steps at most; {COARSE:g} nats and {CHOOSING} steps while C is chosen",
        "C": "10^-6 to 10^5, 45 values, each fit from the solution of a smaller one",
        "C chosen on": f"{chosen}; by accuracy, of equals the smallest; stratified, seeded, never the test rows",
        "C of few labels": f"10^-6 to 10^3, {len(FEW)} values, on {INNER} folds of the labels drawn, as many as a "
        f"class has samples where these are fewer, one tenth from {MANY:,} rows on; 1 where each class has one",
        "groups": f"{plan.key} of the json, never on both sides" if plan.key else "none",
        "neighbours": "cosine, votes exp(cosine / 0.07); equal cosines at the k-th place count as the worst",
        "ties": "a class has to be alone at the top; a probe whose training rows are all equal tells nothing",
        "few labels": f"{seeds} draws, the smaller ones inside the larger; accuracy is their mean",
        "chosen C": {row.prefix.rstrip("/"): [probe.cost for probe in one.fitted] for row, one in told.items()},
        "chosen alpha": {row.prefix.rstrip("/"): one.alphas for row, one in numbers.items()},
    }


def note_answers(row: Row, one: Answers, train: Pool, names: Sequence[str], ks: Sequence[int]) -> list[str]:
    """Return lines about a row that change how its numbers are read."""
    out, whole = [], f"probe of {row.name} from {row.text}"
    several = one.logits is not None
    if several:
        out.append(f"{row.name}: samples have several classes, so neighbours and few labels are not measured")
    else:
        known = set(train.target.unique().tolist())
        absent = [i for i in one.target.unique().tolist() if i not in known]
        if absent:
            count = sum(int((one.target == i).sum()) for i in absent)
            classes = some([repr(names[i]) for i in absent])
            out.append(f"{whole}: no training row has the class {classes}; its {count:,} rows count as wrong")
        if left := [str(k) for k in ks if k not in one.near]:
            out.append(f"{whole}: there are fewer training rows than neighbours for k = {', '.join(left)}")
    for name, is_short in one.short.items():
        if is_short:
            out.append(f"{row.name}: {name} takes all samples of a class that has fewer")
    if any(probe.blind for probe in one.fitted):
        out.append(f"{whole}: the training rows are all equal, so it tells nothing")
    if open_ends := sum(not probe.done for probe in one.fitted):
        out.append(f"{whole}: {open_ends} of {len(one.fitted)} fits ended before their tolerance was met")
    return out
