"""Zero-shot classification tasks of shards, from their labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from align.convert.harness.content import Content
from align.convert.harness.tasks import ShardRetrieval, ShardTask, ShardZeroShot, describe_task, make_dataset
from align.evaluation.composed import composed_queries
from align.evaluation.labels import memberships
from align.evaluation.prompts import Name, equal_prompts, list_prompts
from align.model import JointModel

TYPES = {"audio": "AudioZeroshotClassification"}


def zeroshot_tasks(
    content: Content,
    model: JointModel,
    attribute: str,
    classes: Sequence[str],
    names: Sequence[Name],
    template: str,
    title: str,
) -> list[ShardTask]:
    """Return a task for each modality but text, and for the modalities that a Symile term joins with text.

    classes: the labels. names: their names in prompts. template: the one prompt of a class. Classes with equal prompts
    are one. Several modalities ask in a search, whose accuracy is its recall@1: there the trained term scores them.
    """
    if content.columns.get("text") != "text":
        return []
    number = torch.tensor(equal_prompts(model, names, [template]))
    kept = number.unique()
    table = memberships(content.labels, attribute, classes)
    table = torch.stack([table[:, number == i].any(dim=1) for i in kept], dim=1)  # (B, C)
    prompts = [list_prompts(names[i], [template])[0] for i in kept]
    notes: list[str] = []
    if any(len(list_prompts(name, [template])) > 1 for name in names):
        notes.append("a class has several prompts: mteb asks with the first alone, align with their mean")
    one = {i: int(row.int().argmax()) for i, row in enumerate(table) if int(row.sum()) == 1}
    if lost := int((table.sum(dim=1) > 1).sum()):
        notes.append(f"{lost:,} samples have several classes of {attribute}: mteb's task leaves them out")
    found: list[ShardTask] = []
    for m in content.rows:
        rows = [row for row in content.rows[m] if row.sample in one] if m != "text" else []
        if not rows:
            continue
        column = content.columns[m]
        known = [column, "text"] if column == m else [column]  # mteb would read a task of text alone as texts
        name = f"{title}-zeroshot-{attribute}-{m}"
        metadata = describe_task(content, name, TYPES.get(m, "ZeroShotClassification"), known, [], "accuracy")
        data = make_dataset({column: [row.data for row in rows], "label": [one[row.sample] for row in rows]})
        ours = {"accuracy": f"zeroshot/{attribute}/{m}/accuracy"}
        found.append(ShardZeroShot(metadata, data, column, prompts, ours, notes))
    for asks in composed_queries(model.terms, "text"):
        if set(asks) <= set(content.rows) and (
            task := _joint_task(content, asks, attribute, one, prompts, notes, title)
        ):
            found.append(task)
    return found


def _joint_task(
    content: Content,
    asks: Sequence[str],
    attribute: str,
    one: dict[int, int],
    prompts: list[str],
    notes: list[str],
    title: str,
) -> ShardRetrieval | None:
    firsts = [content.first(m) for m in asks]
    samples = sorted(set.intersection(set(one), *(set(first) for first in firsts)))
    if not samples:
        return None
    queries = {"id": [f"{s}:{content.keys[s]}" for s in samples]} | {
        content.columns[m]: [content.rows[m][first[s]].data for s in samples]
        for m, first in zip(asks, firsts, strict=True)
    }
    data = {
        "queries": make_dataset(queries),
        "corpus": make_dataset({"id": [f"class {i}" for i in range(len(prompts))], "text": prompts}),
        "relevant_docs": {f"{s}:{content.keys[s]}": {f"class {one[s]}": 1} for s in samples},
        "top_ranked": None,
    }
    together = "+".join(asks)
    columns = [content.columns[m] for m in asks], ["text"]
    name = f"{title}-zeroshot-{attribute}-{together}"
    metadata = describe_task(content, name, "Any2AnyRetrieval", *columns, main_score="accuracy")
    return ShardRetrieval(metadata, data, {"accuracy": f"zeroshot/{attribute}/{together}/accuracy"}, notes)
