"""Retrieval's part of a page: a matrix for each hit rule, and histograms of the cosines of hits and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.protocol import full_text
from align.evaluation.ranking import Ranked
from align.evaluation.samples import Intervals
from align.page.section import Histogram, Matrix, Section, Tile


def retrieval_section(
    found: Mapping[str, Mapping[tuple[str, str], Ranked]],
    hit: str,
    ks: Sequence[int],
    around: Intervals,
    histograms: Sequence[Histogram] = (),
) -> Section:
    """Return a matrix for each hit rule, and the mean recall by the first rule and by classes as tiles.

    found: prefix ("", "class/shape/") -> (query, answer) -> values. hit: the first rule's text. around: score -> its
    interval.
    """
    k = 10 if 10 in ks else max(ks)
    matrices, tiles = [], []
    for prefix, some in found.items():
        if not some:
            continue
        scores = {pair: one.scores for pair, one in some.items()}
        metrics = {
            metric: {pair: one[metric] for pair, one in scores.items() if metric in one}
            for metric in dict.fromkeys(metric for one in scores.values() for metric in one)
        }
        recalls = [f"recall@{k}" for k in dict.fromkeys((min(ks), k))]
        intervals = {
            metric: _intervals(f"{prefix}{{}}_to_{{}}/{metric}", values, around) for metric, values in metrics.items()
        }
        label = prefix.rstrip("/").rpartition("/")[2]
        graded = recalls[0] not in metrics
        same = "graded by attributes" if graded else f"same {label or 'object'}"
        says = "shared attributes" if graded else "shared class" if prefix else hit.split(":")[0]
        matrices.append(Matrix(prefix, same, says, metrics, list(metrics) if graded else recalls, intervals))
        single = {pair: value for pair, value in metrics.get(f"recall@{k}", {}).items() if _is_between(pair)}
        if prefix in ("", "class/") and single:
            tiles.append(_tile(f"class recall@{k}" if prefix else f"recall@{k}", single, intervals[f"recall@{k}"]))
    note = f"From every modality to every other. Hit: {full_text(hit)}."
    if histograms:
        note += " Histograms: pairs of at most 2,000 rows of each modality."
    return Section("Retrieval", note, [*matrices, *histograms], tiles)


def _is_between(pair: tuple[str, str]) -> bool:
    """Return True for a query of one modality that asks for another one."""
    query, of = pair
    return "+" not in query and query != of


def _intervals(
    name: str, values: Mapping[tuple[str, str], float], around: Intervals
) -> dict[tuple[str, str], tuple[float, float]]:
    return {pair: around[name.format(*pair)] for pair in values if name.format(*pair) in around}


def _tile(
    name: str, values: Mapping[tuple[str, str], float], intervals: Mapping[tuple[str, str], tuple[float, float]]
) -> Tile:
    query, of = min(values, key=lambda pair: values[pair])
    mean = sum(values.values()) / len(values)
    if len(values) == 1:
        return Tile(name, mean, f"{query} → {of}", interval=intervals.get((query, of)))
    return Tile(name, mean, f"mean of {len(values)} directions", f"lowest {values[query, of]:.3f}, {query} → {of}")
