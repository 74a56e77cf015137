"""Scores between two modalities of the same sample, by which shards are filtered."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from align.curation.cut.expression import Pair
from align.data import Shards
from align.embedding import Progress, embed_batches, vectors
from align.model import JointModel
from align.scoring import How, choose, score
from align.values import Embeddings, TermInfo


def pair_scores(
    model: JointModel,
    shards: Shards,
    pairs: Sequence[Pair],
    *,
    batch: int = 64,
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[Pair, list[float | None]]:
    """Return for each pair of modalities the number of each sample, by position: None where the sample lacks one.

    The number is the cosine, or the score by the rule of ``align.scoring.choose``: the trained objective where a term
    joins the pair, else the cosine. All pairs share one embedding of the shards. Of several rows (captions, views) the
    best two count. Hard negatives do not. Only the towers that the pairs name see
    data. LAION and DataComp filter by the cosine of CLIP's weights (Schuhmann et al. 2021, arXiv 2111.02114, section 2,
    with a threshold of 0.3). Raises ValueError for a modality without a tower.
    """
    wanted = sorted({m for a, b, _ in pairs for m in (a, b)})
    for m in wanted:
        if m not in model.modalities:
            raise ValueError(
                f"{next(p for p in pairs if m in p[:2])}: the model has no tower for {m!r}; "
                f"it embeds {', '.join(model.modalities)}"
            )
    out: dict[Pair, list[float | None]] = {pair: [None] * len(shards) for pair in pairs}
    for piece in embed_batches(model, shards, batch, workers, modalities=wanted, progress=progress):
        for pair in pairs:
            how = "cosine" if pair.function == "cosine" else None
            values = best_scores(piece, pair.a, pair.b, model.terms, how)
            for position, value in zip(piece.position.tolist(), values, strict=True):
                if value is not None:
                    out[pair][position] = value
    return out


def best_scores(
    embeddings: Embeddings, a: str, b: str, terms: Sequence[TermInfo] = (), how: How | None = None
) -> list[float | None]:
    """Return for each of the B samples the best score between one of its rows of ``a`` and one of ``b``, or None.

    how: None: as ``align.scoring.choose`` says.
    """
    asks, answers = embeddings[a].sample, embeddings[b].sample
    query = {a: vectors(embeddings, a).double()}
    scores = score(
        query, vectors(embeddings, b).double(), how or choose(terms, [a], b), of=b, terms=terms
    )  # (n_a, n_b)
    scores = scores.masked_fill(asks[:, None] != answers[None, :], -torch.inf)
    best = torch.full((embeddings.size,), -torch.inf, dtype=torch.float64)
    if scores.numel():
        kept = asks >= 0
        best = best.scatter_reduce(0, asks[kept], scores.amax(1)[kept], "amax")
    return [None if value == -torch.inf else value for value in best.tolist()]
