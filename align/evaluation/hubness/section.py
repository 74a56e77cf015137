"""Hubness's part of a page: a table of every repair beside the scores as they are, counts, and the largest hubs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from align.metrics import hub_bound
from align.page.section import Block, Gallery, Histogram, Measured, Section, Table, Tile
from align.values import Embeddings, Scores

RAW = "as it is"
HUBS = 12  # samples of the gallery

Counts = Mapping[tuple[str, str], Mapping[str, Tensor]]
"""(query, answer) -> variant -> N_k of each candidate (c,)."""


def hubness_section(
    table: Embeddings,
    counts: Counts,
    scores: Scores,
    intervals: Mapping[str, tuple[float, float]],
    ks: Sequence[int],
    k: int,
    about: str,
) -> Section:
    """Return the section. counts: the variant "" is the scores as they are. about: a sentence about the bank."""
    blocks: list[Block] = [_table(counts, scores, intervals, ks)]
    blocks += [_histogram(pair, some, k) for pair, some in counts.items()]
    if (shown := _gallery(table, counts, k)).keys:
        blocks.append(shown)
    note = f"How often a row is among the best {k} of a query. A hub answers many queries, an antihub none. {about}"
    return Section("Hubness", note, blocks, _tiles(counts, scores, intervals))


def _table(counts: Counts, scores: Scores, intervals: Mapping[str, tuple[float, float]], ks: Sequence[int]) -> Table:
    names = [*(f"recall@{k}" for k in dict.fromkeys((min(ks), max(ks)))), "skewness", "antihubs", "hubs", "robin_hood"]
    rows = []
    for (query, of), variants in counts.items():
        for variant in variants:
            prefix = f"hubness/{query}_to_{of}/{variant}{'/' * bool(variant)}"
            cells = [
                Measured(scores[f"{prefix}{name}"], intervals.get(f"{prefix}{name}"))
                if f"{prefix}{name}" in scores
                else ""
                for name in names
            ]
            rows.append([f"{query} → {of}", variant or RAW, *cells])
    return Table(["direction", "scores", *(name.replace("_", " ") for name in names)], rows, 2, "Repairs")


def _histogram(pair: tuple[str, str], variants: Mapping[str, Tensor], k: int) -> Histogram:
    most = max(int(counts.max()) for counts in variants.values())
    edges = [0, 1]
    while edges[-1] <= most:
        edges.append(edges[-1] * 2)
    shares = {}
    for variant, counts in variants.items():
        inside = [((counts >= low) & (counts < high)).double().mean() for low, high in pairwise(edges)]
        shares[variant or RAW] = [float(share) for share in inside]
    return Histogram(
        f"{pair[1]} in lists of {pair[0]}",
        f"lists of the best {k} that have a row",
        [float(edge) for edge in edges],
        shares,
    )


def _gallery(table: Embeddings, counts: Counts, k: int) -> Gallery:
    """Return the samples of the largest hubs of each direction, by turns."""
    lists = []
    for (query, of), variants in counts.items():
        found, owner = variants[""], table[of].owner.tolist()
        places = found.argsort(descending=True, stable=True).tolist()
        hubs = [place for place in places[:HUBS] if int(found[place]) > hub_bound(found)]
        asked = int((table[query].sample >= 0).sum())
        lists.append([(owner[p], f"{of} in {int(found[p])} of {asked} lists of {query}") for p in hubs])
    captions: dict[str, str] = {}
    for place in range(HUBS):
        for some in lists:
            if place < len(some) and some[place][0] >= 0 and len(captions) < HUBS:
                captions.setdefault(table.ids[some[place][0]], some[place][1])
    return Gallery(list(captions), captions, "Hubs")


def _tiles(counts: Counts, scores: Scores, intervals: Mapping[str, tuple[float, float]]) -> list[Tile]:
    if not counts:
        return []
    query, of = max(counts, key=lambda pair: scores[f"hubness/{pair[0]}_to_{pair[1]}/skewness"])
    name = f"hubness/{query}_to_{of}/skewness"
    return [Tile("skewness", scores[name], f"{query} → {of}", "highest of all directions", intervals.get(name))]
