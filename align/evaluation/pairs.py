"""How near two modalities of the same sample are to each other in a model's space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from align.data import Loader, Shards
from align.embedding.embed import vectors
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.values import Embeddings

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
    """For each pair of modalities the cosine of each sample's embeddings, by position; None where it lacks one.

    Of several rows (captions, views) the two that are nearest count; hard negatives do not. Only the towers that the
    pairs name see data. With CLIP's weights this is the score that LAION and DataComp filter by (Schuhmann et al. 2021,
    arXiv 2111.02114, section 2; there with a threshold of 0.3). Raises ValueError for a modality without a tower.
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
                    for place, value in enumerate(nearest(embeddings, *pair)):
                        if value is not None:
                            out[pair][int(embeddings.position[place])] = value
                done += rows.size
                if progress is not None:
                    progress(done, len(shards))
    finally:
        loader.close()
    return out


def nearest(embeddings: Embeddings, a: str, b: str) -> list[float | None]:
    """For each of the B samples the largest cosine between one of its rows of ``a`` and one of ``b``, or None."""
    x, y = (F.normalize(vectors(embeddings, m).double(), dim=-1) for m in (a, b))
    own, other = embeddings[a].sample, embeddings[b].sample
    cosines = (x @ y.T).masked_fill(own[:, None] != other[None, :], -torch.inf)  # (n_a, n_b)
    best = torch.full((embeddings.size,), -torch.inf, dtype=torch.float64)
    if cosines.numel():
        kept = own >= 0
        best = best.scatter_reduce(0, own[kept], cosines.amax(1)[kept], "amax")
    return [None if value == -torch.inf else value for value in best.tolist()]
