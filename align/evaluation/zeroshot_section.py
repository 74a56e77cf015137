"""Zero-shot's part of a page: accuracies, and behind them each class, and the classes that are taken for others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from align.evaluation.classified import Classified
from align.evaluation.samples import Intervals, proportion
from align.evaluation.space import Space
from align.metrics.by_class import count_confusions
from align.page.section import Bar, Bars, Block, Confusions, Measured, Section, Table, Tile

DRAWN = 60  # classes of an attribute, up to which each has a bar and a place among the confusions
LISTED = 1000  # classes of a table
LARGEST = 20  # confusions that are listed where there are more classes than are drawn

Found = Mapping[tuple[str, str], Classified]
"""(attribute, modality) -> its numbers."""


def zeroshot_section(space: Space, found: Found, around: Intervals) -> Section:
    """Return bars by attribute and modality. Its details are bars and tables of classes, and confusions."""
    bars = []
    for (a, m), one in found.items():
        more = {key: value for key, value in one.scores.items() if key not in ("accuracy", "chance")}
        interval = around.get(f"zeroshot/{a}/{m}/accuracy")
        bars.append(Bar(a, m, one.scores["accuracy"], one.scores["chance"], more, interval))
    tiles = []
    for attribute in dict.fromkeys(bar.row for bar in bars):
        best = max((bar for bar in bars if bar.row == attribute), key=lambda bar: (bar.value, bar.column))
        name = f"{attribute} from {best.column.replace('+', ' + ')}"
        tiles.append(Tile(name, best.value, "zero-shot accuracy", f"chance {best.chance:.3f}", best.interval))
    notes = {a: f"{len(names)} classes" for a, names in space.classes.items()}
    more = dict.fromkeys(["accuracy@5", *(key for bar in bars for key in bar.more or {})])
    return Section(
        "Zero-shot",
        "Classes told by their names alone. The mark on a bar is chance.",
        [Bars("Attribute", "accuracy", bars, notes, more=list(more))],
        tiles[:4],
        _details(space, found),
    )


def _details(space: Space, found: Found) -> list[Block]:
    recalls = {key: _by_class(space, one) for key, one in found.items() if one.single}
    bars = [
        _bars(a, {m: (found[b, m], recall) for (b, m), recall in recalls.items() if a == b})
        for a in dict.fromkeys(a for (a, _) in recalls)
        if next(len(one.labels) for (b, _), one in found.items() if a == b) <= DRAWN
    ]
    tables = [_table(a, m, one, recalls.get((a, m))) for (a, m), one in found.items()]
    single = [(a, m, one) for (a, m), one in found.items() if one.single]
    confusions = [_confusions(a, m, one) for a, m, one in single if len(one.labels) <= DRAWN]
    largest = [_largest(a, m, one) for a, m, one in single if len(one.labels) > DRAWN]
    return [*bars, *tables, *confusions, *largest]


def _by_class(space: Space, one: Classified) -> tuple[list[Measured | None], list[Measured | None]]:
    """Return recall and precision of each class, None where no row has it, or none is given it."""
    target, answer = one.answers.target, one.answers.answer
    right = (target == answer).float()
    return _shares(space, right, target, one), _shares(space, right, answer, one)


def _shares(space: Space, right: Tensor, group: Tensor, one: Classified) -> list[Measured | None]:
    """Return the share of right answers in each group (q,), with its interval."""
    order = group.argsort(stable=True)
    n = torch.bincount(group[group >= 0], minlength=len(one.labels))
    ends = n.cumsum(0) + int((group < 0).sum())
    rows = {c: order[end - k : end] for c, (end, k) in enumerate(zip(ends.tolist(), n.tolist(), strict=True)) if k}
    samples = {str(c): (right[some], one.sample[some]) for c, some in rows.items()}
    around = space.intervals(samples, dict.fromkeys(samples, proportion))
    return [
        Measured(float(right[rows[c]].mean()), around.get(str(c))) if c in rows else None
        for c in range(len(one.labels))
    ]


def _bars(attribute: str, by_modality: Mapping[str, tuple[Classified, tuple[list[Measured | None], object]]]) -> Bars:
    """Return the recall of each class by modality."""
    bars = [
        Bar(label, m, share.value, one.scores["chance"], None, share.interval)
        for m, (one, (recall, _)) in by_modality.items()
        for label, share in zip(one.labels, recall, strict=True)
        if share is not None
    ]
    return Bars("Class", f"recall of {attribute}", bars, {})


def _table(
    attribute: str, m: str, one: Classified, shares: tuple[list[Measured | None], list[Measured | None]] | None
) -> Table:
    """Return a row for each class: in their order, or the lowest recall first where there are many."""
    extra = one.rest.by_class if one.rest is not None else {}
    names = {"map": "average precision", "auroc": "AUROC"}
    head = [f"{attribute} from {m}", "samples"]
    if shares is not None:
        head += ["recall", "precision", "taken for"]
    head += [names.get(key, key) for key in extra]
    support = one.answers.support.tolist()
    wrong = _taken_for(one) if shares is not None else {}
    order = list(range(len(one.labels)))
    if len(order) > DRAWN:
        first = [_value(x) for x in shares[0]] if shares is not None else next(iter(extra.values())).tolist()
        order.sort(key=lambda c: (first[c] != first[c], first[c], c))  # classes without a sample last
    rows: list[list[str | float | Measured]] = []
    for c in order[:LISTED]:
        row: list[str | float | Measured] = [one.labels[c], support[c]]
        if shares is not None:
            row += [x if x is not None else "" for x in (shares[0][c], shares[1][c])] + [wrong.get(c, "")]
        row += [float(values[c]) if bool(values[c].isfinite()) else "" for values in extra.values()]
        rows.append(row)
    if len(order) > LISTED:
        head[0] += f", {LISTED:,} of {len(order):,} classes"
    return Table(head, rows)


def _value(share: Measured | None) -> float:
    return float("nan") if share is None else share.value


def _taken_for(one: Classified) -> dict[int, str]:
    """Return class -> the most frequent wrong answer to its rows, with its count."""
    out: dict[int, str] = {}
    for c, answer, n in count_confusions(one.answers.answer, one.answers.target).tolist():
        if c != answer:
            out.setdefault(c, f"{one.labels[answer]} ({n:,})")
    return out


def _confusions(attribute: str, m: str, one: Classified) -> Confusions:
    counts = torch.zeros(len(one.labels), len(one.labels), dtype=torch.int64)
    pairs = count_confusions(one.answers.answer, one.answers.target)
    counts[pairs[:, 0], pairs[:, 1]] = pairs[:, 2]
    return Confusions(f"{attribute} from {m}{_count_ties(one)}", one.labels, counts.tolist())


def _largest(attribute: str, m: str, one: Classified) -> Table:
    """Return the most frequent confusions."""
    pairs = count_confusions(one.answers.answer, one.answers.target)
    wrong = pairs[pairs[:, 0] != pairs[:, 1]][:LARGEST]
    support = one.answers.support.tolist()
    rows = [[one.labels[c], one.labels[a], n, n / support[c]] for c, a, n in wrong.tolist()]
    return Table([f"{attribute} from {m}{_count_ties(one)}", "taken for", "samples", "share of the class"], rows, 2)


def _count_ties(one: Classified) -> str:
    """Return a few words about rows whose highest score is that of several classes: they have no answer."""
    n = int((one.answers.answer < 0).sum())
    return f", without {n:,} of {len(one.sample):,} rows, where classes tie" if n else ""
