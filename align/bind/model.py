"""The model of fitted heads: the towers that made the columns, with the new heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from align.bind.columns import Opened
from align.bind.fitting import Fitted
from align.checkpoint import load
from align.data.columns.column import Column
from align.embedding.features.hashes import preprocess_hash, tower_weights
from align.encoders import Precomputed
from align.heads import Chain, Identity
from align.model import JointModel, Tower
from align.model.inside import unwrap
from align.published.joined import terms_between


class Made(NamedTuple):
    """A model, and lines about it for the reader."""

    model: JointModel
    notes: list[str]


def make_model(opened: Opened, fitted: Fitted, *, keep_anchor: bool = False, allow: Sequence[str] = ()) -> Made:
    """Return the model of the fitted heads.

    Each tower is that of the model which the cache names, so raw inputs can be embedded. A head on cached embeddings
    follows the head that made them. If a model is not there, the tower reads cached features (``Precomputed``), and a
    note says so. With ``keep_anchor`` and cached embeddings of the anchor, the other towers of its model stay.

    allow: packages whose classes the models may name. Raises ValueError where a model is there and has other weights
    or another preprocess than the column was made with, with both hashes.
    """
    columns = {p.modality: p.column for p in opened.pairs} | {opened.anchor: opened.pairs[0].anchor_column}
    models: dict[tuple[str, str], JointModel | None] = {}
    towers: dict[str, Tower] = {}
    share: dict[str, str] = {}
    notes: list[str] = []
    for m, column in columns.items():
        key = (column.reader.model, column.reader.sha256)
        if key not in models:
            models[key] = _load(column.reader.model, allow)
        model = models[key]
        if model is None:
            towers[m] = Tower(None, Precomputed(column.info.width), fitted.heads[m])  # pyright: ignore[reportArgumentType]
            absent = f"the model {column.reader.model} is not here"
            notes.append(f"{m}: {absent}, so the tower reads cached rows; align assemble completes it")
        else:
            towers[m] = _complete(m, column, model, fitted)
            share |= {b: lender for b, lender in (model.share or {}).items() if {b, lender} <= {*columns} and b == m}
        towers[m].fitted_on = column.read_origin()
    base = models[columns[opened.anchor].reader.model, columns[opened.anchor].reader.sha256]
    terms = []
    if keep_anchor and base is not None and columns[opened.anchor].info.kind == "embedding":
        others = [m for m in base.modalities if m not in towers]
        towers |= {m: _alone(base, m) for m in others}
        share |= {b: lender for b, lender in (base.share or {}).items() if {b, lender} <= {*others, opened.anchor}}
        terms = terms_between(base, [*others, opened.anchor])
    made = JointModel(towers, fitted.dim, share or None)
    made.terms = terms
    return Made(made.eval(), notes)


def _load(source: str, allow: Sequence[str]) -> JointModel | None:
    """Return a model, None where there is none."""
    try:
        return load(source, allow=allow)
    except FileNotFoundError:
        return None


def _alone(model: JointModel, modality: str) -> Tower:
    """Return a tower that holds its encoder itself, also where it borrows the encoder of another tower."""
    tower = unwrap(model.towers[modality])
    return Tower(tower.preprocess, tower.encoder, tower.head)


def _complete(modality: str, column: Column, model: JointModel, fitted: Fitted) -> Tower:
    """Return the tower of a column with its new head."""
    info, source = column.info, column.reader.model
    if modality not in model.modalities:
        raise ValueError(f"{column.name} was made by {source}, which has no tower {modality!r} now; embed it anew")
    tower: Any = _alone(model, modality)
    found = {
        "weights": tower_weights(tower, "embedding" if info.kind == "embedding" else "features"),
        "preprocess": preprocess_hash(tower.preprocess),
    }
    for fact, now in found.items():
        if (then := getattr(info, fact)) != now:
            raise ValueError(
                f"{column.name} was made with other {fact} of {modality} than {source} has now: {then[:12]} and "
                f"{now[:12]}; embed it anew"
            )
    head = fitted.heads[modality]
    if info.kind == "embedding":
        plain = isinstance(head, Identity) and info.unit
        width = tower.encoder.width
        head = tower.head if plain else Chain(width, fitted.dim, tower.head, head, info.width, info.unit)
    return Tower(tower.preprocess, tower.encoder, head)  # pyright: ignore[reportArgumentType]
