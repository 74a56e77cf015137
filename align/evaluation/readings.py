"""Tables that are no embeddings: the encoders' features, the heads' codes, and the tokens beside the embeddings."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from align.model import JointModel
from align.model.inside import unwrap
from align.values import Batch, Embeddings, Rows, Values


def read_features(model: JointModel, batch: Batch) -> Embeddings:
    """Return the pooled features (n, W) of the batch's modalities, as the encoders leave them, in float32 at least."""
    rows = {}
    for m, tower in model.towers.items():
        if m not in batch or m in model.follows:  # its features are another tower's embeddings
            continue
        pooled: Tensor = tower.features(batch[m].values).pooled
        rows[m] = Rows(pooled.float() if pooled.element_size() < 4 else pooled, batch[m].sample, part=batch[m].part)
    return Embeddings(
        rows, batch.ids, batch.position, batch.labels, batch.source, group=batch.group, weight=batch.weight
    )


def read_codes(model: JointModel, batch: Batch) -> Embeddings:
    """Return the weights of the codes (n, C) of the batch's modalities, embeddings (n, D) of heads without codes."""
    plain, rows = model(batch), {}
    for m, tower in model.towers.items():
        if m not in batch:
            continue
        values = plain[m].values
        if tower.has_codes:
            values = unwrap(tower.head).weigh(tower.features(batch[m].values)).float()
        rows[m] = Rows(values, batch[m].sample)
    return replace(plain, rows=rows)


def read_tokens(model: JointModel, batch: Batch) -> Embeddings:
    """Return the embeddings with their tokens (n, L, D) and mask (n, L), for the modalities whose encoder has tokens.

    Raises ValueError for a batch of all modalities none of whose encoders has tokens.
    """
    towers = {m: tower for m, tower in model.towers.items() if m in batch and m not in model.follows}
    having = [m for m, tower in towers.items() if tower.features(_no_rows(batch[m].values)).tokens is not None]
    if not having and len(towers) + len(model.follows) == len(model.towers):
        raise ValueError(f"no tower gives tokens: the encoders of {', '.join(model.modalities)} pool them")
    return model(batch, tokens=having)


def _no_rows(values: Values) -> Values:
    return {name: x[:0] for name, x in values.items()} if isinstance(values, dict) else values[:0]
