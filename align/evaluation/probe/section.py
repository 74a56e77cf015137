"""The probes' part of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from align.evaluation.probe.protocol import Row
from align.evaluation.samples import Intervals
from align.page.section import Block, Curve, Measured, Section, Table, Tile
from align.values import Scores

if TYPE_CHECKING:
    from align.evaluation.probe.answers import Answers
    from align.evaluation.probe.plan import Plan
    from align.evaluation.probe.ridge import Predicted


def build_section(
    told: Mapping[Row, Answers], numbers: Mapping[Row, Predicted], plan: Plan, scores: Scores, around: Intervals
) -> Section:
    """Return tables of accuracies, of folds and of predicted numbers, and curves against the labels."""
    blocks: list[Block] = []
    if told:
        names = ["accuracy", "mean_per_class", "map", *sorted({f"knn@{k}" for one in told.values() for k in one.near})]
        blocks.append(_table("Classes", "attribute", list(told), names, scores, around))
    if numbers:
        blocks.append(_table("Numbers", "key", list(numbers), ["r2", "mae", "spearman"], scores, around))
    if plan.by and told:
        blocks.append(_folds(told, plan))
    for name in dict.fromkeys(row.name for row in told):
        blocks += _curves(name, {row: one for row, one in told.items() if row.name == name})
    learns = "the other folds" if plan.by else "the training shards"
    note = f"Told by probes that learn from {learns}, on embeddings (head) and on the encoder's features (tower)."
    return Section("Probes", note, blocks, _tiles(told, scores, around))


def _table(title: str, kind: str, rows: list[Row], names: list[str], scores: Scores, around: Intervals) -> Table:
    """Return a row for each of ``rows``, and a column for each name that any of them has."""
    names = sorted(names, key=lambda name: (name.partition("@")[0] == "knn", int(name.partition("@")[2] or 0)))
    shown = [name for name in names if any(row.prefix + name in scores for row in rows)]
    cells = [
        [
            row.name,
            row.modality,
            row.source,
            *(
                Measured(scores[row.prefix + name], around.get(row.prefix + name))
                if row.prefix + name in scores
                else ""
                for name in shown
            ),
        ]
        for row in rows
    ]
    return Table([kind, "modality", "from", *(name.replace("_", " ") for name in shown)], cells, 3, title)


def _cell(score: str, scores: Scores, around: Intervals) -> Measured | str:
    return Measured(scores[score], around.get(score)) if score in scores else ""


def _folds(told: Mapping[Row, Answers], plan: Plan) -> Table:
    cells = []
    for row, one in told.items():
        if one.logits is None:
            asked = [one.right[one.part == i] for i in range(len(one.fitted))]
            cells.append([row.name, row.modality, row.source, *(float(right.double().mean()) for right in asked)])
    full = [row for row in cells if len(row) == 3 + len(plan.by)]
    return Table(["attribute", "modality", "from", *plan.by], full, 3, "Accuracy by fold")


def _curves(name: str, told: Mapping[Row, Answers]) -> list[Curve]:
    """Return the accuracy against the labels a class and against the share of labels, with the range of the draws."""
    out = []
    for kind, x in (("shots", "labels a class"), ("labels", "share of the labels")):
        lines: dict[str, list[tuple[float, float]]] = {}
        bands: dict[str, list[tuple[float, float, float]]] = {}
        for row, one in told.items():
            few = sorted(
                (float(key.partition("@")[2]), right.double().mean(dim=1))
                for key, right in one.few.items()
                if key.startswith(f"{kind}@")
            )
            if few:
                lines[row.text] = [(at, float(seeds.mean())) for at, seeds in few]
                bands[row.text] = [(at, float(seeds.min()), float(seeds.max())) for at, seeds in few]
        if any(len(points) > 1 for points in lines.values()):
            out.append(Curve(f"{name} by {x}", x, "accuracy", lines, bands))
    return out


def _tiles(told: Mapping[Row, Answers], scores: Scores, around: Intervals) -> list[Tile]:
    tiles = []
    for name in dict.fromkeys(row.name for row in told):
        metric = {row: "accuracy" if one.logits is None else "map" for row, one in told.items() if row.name == name}
        best = max(metric, key=lambda row: scores[row.prefix + metric[row]])
        key = best.prefix + metric[best]
        tiles.append(
            Tile(
                f"{name} from {best.modality}", scores[key], f"probe {metric[best]}, {best.source}", "", around.get(key)
            )
        )
    return tiles[:4]
