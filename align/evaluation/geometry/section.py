"""Geometry's part of a page: a table of modalities, one of pairs, and tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.geometry.measured import Measured as Found
from align.evaluation.samples import Intervals
from align.page.section import Block, Measured, Section, Table, Tile

SINGLE = {
    "uniformity": "uniformity",
    "effective_rank": "effective rank",
    "isotropy": "isotropy",
    "depth": "depth",
    "rsa_given": "RSA with the matrix",
    "rsa_given_p": "p",
}
PAIR = {
    "gap": "gap",
    "separability": "separability",
    "alignment": "alignment",
    "cka": "CKA",
    "rsa": "RSA",
    "rsa_p": "p",
    "knn": "mutual kNN",
    "knn_chance": "chance",
}


def geometry_section(found: Found, intervals: Intervals, blocks: Sequence[Block], against: str) -> Section:
    """Return the section. blocks: those that follow the tables."""
    single = dict(SINGLE)
    if against:
        single[f"knn_against_{against}"] = f"mutual kNN with {against}"
    tables = [
        _table("Modalities", ["modality", "rows"], found.counts.get("rows", {}), single, found.scores, intervals),
        _table("Pairs", ["pair", "samples"], found.counts.get("samples", {}), PAIR, found.scores, intervals),
    ]
    note = (
        "Rows have unit length. Gap, alignment and CKA compare the samples that have both modalities; "
        "separability is .5 where no line lies between them. Depth: 2 minus the mean cosine distance to the others."
    )
    return Section("Geometry", note, [*filter(None, tables), *blocks], _tiles(found, intervals))


def _table(
    title: str,
    head: list[str],
    counts: Mapping[str, int],
    columns: Mapping[str, str],
    scores: Mapping[str, float],
    intervals: Intervals,
) -> Table | None:
    """Return the scores of each name in `counts`, without columns that no row has, or None where there are none."""
    kept = {key: text for key, text in columns.items() if any(f"geometry/{name}/{key}" in scores for name in counts)}
    rows = []
    for name, n in counts.items():
        full = [f"geometry/{name}/{key}" for key in kept]
        if any(key in scores for key in full):
            cells = [Measured(scores[key], intervals.get(key)) if key in scores else "" for key in full]
            rows.append([name, n, *cells])
    return Table([*head, *kept.values()], rows, title=title) if rows else None


def _tiles(found: Found, intervals: Intervals) -> list[Tile]:
    out = []
    for key, name, pick in (("gap", "modality gap", max), ("knn", "mutual kNN", min)):
        pairs = {full: value for full, value in found.scores.items() if full.endswith(f"/{key}")}
        if pairs:
            full = pick(pairs, key=lambda one: pairs[one])
            word = ("largest" if pick is max else "lowest") if len(pairs) > 1 else ""
            pair = full.split("/")[1].replace("+", " and ")
            out.append(Tile(name, pairs[full], f"{word} {pair}".strip(), interval=intervals.get(full)))
    return out
