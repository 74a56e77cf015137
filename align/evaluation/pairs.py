"""Scores between two modalities of the same sample, by which shards are filtered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from align.data import Loader, Shards
from align.embedding.embed import vectors
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.scoring import choose, score
from align.values import Embeddings, TermInfo

Pair = tuple[str, str]


def pair_scores(
    model: JointModel,
    shards: Shards,
    pairs: Sequence[Pair],
    *,
    batch: int = 64,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Pair, list[float | None]]:
    """Return for each pair of modalities the score of each sample, by position: None where the sample lacks one.

    ``align.scoring.choose`` names the rule: the trained objective where a term joins the pair, else the cosine. Of
    several rows (captions, views) the best pair counts. Hard negatives do not. Only the towers that the pairs name see
    data. LAION and DataComp filter by the cosine of CLIP's weights (Schuhmann et al. 2021, arXiv 2111.02114, section 2,
    with a threshold of 0.3). Raises ValueError for a modality without a tower.
    """
    wanted = sorted({m for pair in pairs for m in pair})
    for m in wanted:
        if m not in model.modalities:
            raise ValueError(
                f"score({', '.join(next(p for p in pairs if m in p))}): the model has no tower for {m!r}; "
                f"it embeds {', '.join(model.modalities)}"
            )
    out: dict[Pair, list[float | None]] = {pair: [None] * len(shards) for pair in pairs}
    loader = Loader(shards, {m: model.preprocess[m] for m in wanted}, batch=batch, workers=workers, train=False)
    done, reader = 0, EvalReader(model)
    try:
        with torch.no_grad():
            for rows in loader:
                rows = rows.to(model.device)
                embeddings = reader.read(lambda model, rows=rows: model(rows)).to("cpu")
                for pair in pairs:
                    for place, value in enumerate(best_scores(embeddings, *pair, model.terms)):
                        if value is not None:
                            out[pair][int(embeddings.position[place])] = value
                done += rows.size
                if progress is not None:
                    progress(done, len(shards))
    finally:
        loader.close()
    return out


def best_scores(embeddings: Embeddings, a: str, b: str, terms: Sequence[TermInfo] = ()) -> list[float | None]:
    """Return for each of the B samples the best score between one of its rows of ``a`` and one of ``b``, or None."""
    asks, answers = embeddings[a].sample, embeddings[b].sample
    query = {a: vectors(embeddings, a).double()}
    scores = score(query, vectors(embeddings, b).double(), choose(terms, [a], b), of=b, terms=terms)  # (n_a, n_b)
    scores = scores.masked_fill(asks[:, None] != answers[None, :], -torch.inf)
    best = torch.full((embeddings.size,), -torch.inf, dtype=torch.float64)
    if scores.numel():
        kept = asks >= 0
        best = best.scatter_reduce(0, asks[kept], scores.amax(1)[kept], "amax")
    return [None if value == -torch.inf else value for value in best.tolist()]
