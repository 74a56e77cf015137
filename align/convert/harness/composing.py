"""Composed retrieval tasks of shards: a sample and a text ask for the samples that the text makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.convert.harness.content import Content
from align.convert.harness.directing import KS, note_several
from align.convert.harness.tasks import ShardRetrieval, describe_task, make_dataset
from align.evaluation import ComposedQuery
from align.evaluation.composed_file import check_keys

SUBSET = (1, 3)  # k of mteb's that are k of CIRR's


def composed_tasks(
    content: Content,
    queries: Sequence[ComposedQuery],
    way: str,
    title: str,
    reference: str = "image",
    of: str = "image",
) -> list[ShardRetrieval]:
    """Return the task of composed queries, and one of their subsets where they have such.

    The candidates of each query are listed, without its reference. way: the name in ``align evaluate`` of the rule that
    will score them, "sum" or "product". Raises ValueError for keys that are not those of one sample each, and for a
    modality without rows or without texts that mteb has a form for.
    """
    check_keys(queries, content.keys)
    for m in (reference, of):
        if m not in content.rows:
            raise ValueError(f"composed: the shards have no {m!r}; there are {', '.join(content.rows)}")
    if content.columns.get("text") != "text" or reference == "text":
        raise ValueError("composed: a query has a text and a row of another modality that asks with it")
    number = {key: i for i, key in enumerate(content.keys)}
    first, names = content.first(reference), content.list_names(of)
    found: list[tuple[ComposedQuery, str, list[str], dict[str, int]]] = []
    for i, query in enumerate(queries):
        asks = number[query.reference]
        right = {number[key] for key in query.targets} - {asks}
        listed = [(name, row.sample) for name, row in zip(names, content.rows[of], strict=True) if row.sample != asks]
        listed = [(name, sample) for name, sample in listed if sample >= 0]
        hits = {name: 1 for name, sample in listed if sample in right}
        if asks in first and hits:
            found.append((query, f"query {i}", [name for name, _ in listed], hits))
    if not found:
        return []
    corpus = make_dataset({"id": names, content.columns[of]: [row.data for row in content.rows[of]]})
    owner = dict(zip(names, (row.sample for row in content.rows[of]), strict=True))

    def make(name: str, ours: dict[str, str], some: list[Any]) -> ShardRetrieval:
        rows = [content.rows[reference][first[number[query.reference]]].data for query, *_ in some]
        columns = {content.columns[reference]: rows, "text": [query.text for query, *_ in some]}
        data = {
            "queries": make_dataset({"id": [one for _, one, *_ in some]} | columns),
            "corpus": corpus,
            "relevant_docs": {one: hits for _, one, _, hits in some},
            "top_ranked": {one: listed for _, one, listed, _ in some},
        }
        metadata = describe_task(
            content, f"{title}-{name}", "Any2AnyReranking", list(columns), [content.columns[of]], "hit_rate_at_1"
        )
        ours = {theirs: f"composed/{way}/{metric}" for theirs, metric in ours.items()}
        return ShardRetrieval(metadata, data, ours, note_several(data["relevant_docs"]))

    tasks = [make("composed", {f"hit_rate_at_{k}": f"recall@{k}" for k in KS}, found)]
    inside = []
    for query, name, listed, hits in found:
        kept = {number[key] for key in query.subset}
        some = [one for one in listed if owner[one] in kept]
        if right := {one: 1 for one in some if one in hits}:
            inside.append((query, name, some, right))
    if inside:
        tasks.append(make("composed-subset", {f"hit_rate_at_{k}": f"subset_recall@{k}" for k in SUBSET}, inside))
    return tasks
