"""Embeddings of all rows of a shard set, on which every measurement rests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from align.data import Columns, Loader, Shards
from align.data.bad import Budget
from align.data.reading import Reading
from align.embedding.content import Marked, split_content
from align.embedding.tables import concatenate, tensor_of
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.preprocess import Preprocess
from align.values import Batch, Embeddings

Progress = Callable[[int, int], None]
"""Called as progress(samples done, samples in all)."""
Make = Callable[[JointModel, Batch], Embeddings]
"""Makes the table of a batch."""


def embed_shards(
    model: JointModel,
    shards: Shards | Columns,
    batch: int = 64,
    workers: int = 0,
    *,
    content: bool = False,
    preprocess: Mapping[str, Preprocess] | None = None,
    make: Make = lambda model, rows: model(rows),
    progress: Progress | None = None,
) -> Embeddings:
    """Embed all rows of all modalities, in evaluation mode, on the model's device.

    Returns Embeddings on the CPU over the samples that were read: values (n, D), sample (n,) counting through the whole
    set. With ``content`` they hold each row's number of its content too, see ``align.values.Rows``. Positions that a
    bad sample left empty are not in it, and ``shards.report()`` counts them. The model's own mode is not touched.

    preprocess: modality -> the reader of its members, where it is not the model's own. make: makes the table of a
    batch, where it is not of embeddings: other values (n, W), or tokens beside them.

    Raises ValueError where the shards have none of the model's modalities, or an embedding is not finite. Raises
    TooManyBad above the shards' ``max_bad`` of all samples, wherever among them the bad ones are.
    """
    if not set(shards.modalities) & set(model.modalities):
        have = ", ".join(sorted(shards.modalities)) or "none"
        raise ValueError(f"the model embeds {', '.join(model.modalities)}; the shards have {have}")
    pieces = []
    how: dict[str, Any] = {"preprocess": preprocess, "make": make, "content": content, "progress": progress}
    for piece in embed_batches(model, shards, batch, workers, **how):
        check_finite(piece)
        pieces.append(piece)
    if not pieces:
        raise ValueError("the shards have no samples")
    done = sum(piece.size for piece in pieces)
    if done != len(shards):
        raise ValueError(f"the shards hold {len(shards)} samples, {done} were read; no number would be right")
    return concatenate(pieces)


def embed_batches(
    model: JointModel,
    shards: Reading,
    batch: int = 64,
    workers: int = 0,
    *,
    modalities: Sequence[str] | None = None,
    content: bool = False,
    preprocess: Mapping[str, Preprocess] | None = None,
    make: Make = lambda model, rows: model(rows),
    progress: Progress | None = None,
    budget: Budget | None = None,
) -> Iterator[Embeddings]:
    """Yield the embeddings of each batch, in evaluation mode, on the CPU.

    modalities: the towers that see data. None: all. budget: counts the bad samples. None: a new one, by the shards'
    ``max_bad``. The other arguments are those of ``embed_shards``.
    """
    chosen = preprocess or model.preprocess
    readers = {m: chosen[m] for m in (model.modalities if modalities is None else modalities)}
    if content:
        readers = {m: Marked(reader) for m, reader in readers.items()}
    loader = Loader(shards, readers, batch=batch, workers=workers, train=False, budget=budget)
    done, reader = 0, EvalReader(model)
    try:
        for rows in loader:
            rows, numbers = _split_batch(rows) if content else (rows, {})
            rows = rows.to(model.device)
            with torch.no_grad():
                piece = reader.read(lambda model, rows=rows: make(model, rows)).to("cpu")
            for m, number in numbers.items():
                piece.rows[m] = piece[m]._replace(content=number)
            done += piece.size
            if progress is not None:
                progress(done, len(shards))
            yield piece
    finally:
        loader.close()


def _split_batch(batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
    """Return the batch as the towers read it, and modality -> (n,) content."""
    parts = {m: split_content(rows.values) for m, rows in batch.items()}
    rows = {m: rows._replace(values=parts[m][0]) for m, rows in batch.items()}
    return replace(batch, rows=rows), {m: number for m, (_, number) in parts.items()}


def check_finite(piece: Embeddings) -> None:
    """Raise ValueError where an embedding is not finite."""
    for m, rows in piece.items():
        bad = (~tensor_of(rows).isfinite().all(dim=-1)).nonzero().flatten().tolist()
        if bad:
            key = piece.ids[int(rows.sample[bad[0]])]
            raise ValueError(f"the {m} embedding of sample {key!r} is not finite; the model's weights are no good")
