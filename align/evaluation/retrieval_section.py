"""Retrieval's part of a page: a matrix for each hit rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.protocol import full_text
from align.page.section import Matrix, Section, Tile
from align.values import Scores


def retrieval_section(found: Mapping[str, Mapping[tuple[str, str], Scores]], hit: str, ks: Sequence[int]) -> Section:
    """Return a matrix for each hit rule, and the mean recall by the first rule and by classes as tiles.

    found: prefix ("", "class/shape/") -> (query, answer) -> metric -> value. hit: the first rule's text.
    """
    k = 10 if 10 in ks else max(ks)
    ends = dict.fromkeys((min(ks), k))
    matrices, tiles = [], []
    for prefix, some in found.items():
        metrics = {
            metric: {pair: scores[metric] for pair, scores in some.items()} for metric in next(iter(some.values()))
        }
        label = prefix.rstrip("/").rpartition("/")[2]
        says = "shared class" if prefix else hit.split(":")[0]
        matrices.append(Matrix(prefix, f"same {label or 'object'}", says, metrics, [f"recall@{k}" for k in ends]))
        single = {pair: value for pair, value in metrics[f"recall@{k}"].items() if "+" not in pair[0]}
        if prefix in ("", "class/") and single:
            tiles.append(_tile(f"class recall@{k}" if prefix else f"recall@{k}", single))
    note = f"From every modality to every other. Hit: {full_text(hit)}."
    return Section("Retrieval", note, matrices, tiles)


def _tile(name: str, values: Mapping[tuple[str, str], float]) -> Tile:
    query, of = min(values, key=lambda pair: values[pair])
    mean = sum(values.values()) / len(values)
    if len(values) == 1:
        return Tile(name, mean, f"{query} → {of}")
    return Tile(name, mean, f"mean of {len(values)} directions", f"lowest {values[query, of]:.3f}, {query} → {of}")
