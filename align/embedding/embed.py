"""Embeddings of all rows of a shard set, on which every measurement rests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from align.data import Columns, Loader, Shards
from align.data.bad import Budget
from align.data.reading import Reading
from align.embedding.content import Marked, split_content
from align.embedding.sharing import share_batches
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
    modalities: Sequence[str] | None = None,
    preprocess: Mapping[str, Preprocess] | None = None,
    make: Make = lambda model, rows: model(rows),
    progress: Progress | None = None,
    together: bool = False,
) -> Embeddings:
    """Embed all rows, in evaluation mode, on the model's device.

    Returns Embeddings on the CPU over the samples that were read: values (n, D), sample (n,) counting through the whole
    set. With ``content`` they hold each row's number of its content too, see ``align.values.Rows``. Positions that a
    bad sample left empty are not in it, and ``shards.report()`` counts them. The model's own mode is not touched.

    modalities: the towers that see data. None: all. The others have no rows. preprocess: modality -> the reader of its
    members, where it is not the model's own. make: makes the table of a batch, where it is not of embeddings: other
    values (n, W), or tokens beside them. together: every rank of the process group calls this with equal arguments,
    embeds each world-th batch, and gets the whole table, see ``sharing``. It is the table of a single process.

    Raises ValueError where the shards have none of the model's modalities, or an embedding is not finite. Raises
    TooManyBad above the shards' ``max_bad`` of all samples, wherever among them the bad ones are.
    """
    if not set(shards.modalities) & set(model.modalities):
        have = ", ".join(sorted(shards.modalities)) or "none"
        raise ValueError(f"the model embeds {', '.join(model.modalities)}; the shards have {have}")
    pieces = []
    how: dict[str, Any] = {"preprocess": preprocess, "make": make, "content": content, "progress": progress}
    how |= {"modalities": modalities, "together": together}
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
    together: bool = False,
) -> Iterator[Embeddings]:
    """Yield the embeddings of each batch, in evaluation mode, on the CPU.

    modalities: the towers that see data, with those that they read. None: all. budget: counts the bad samples. None: a
    new one, by the shards' ``max_bad``. The other arguments are those of ``embed_shards``.
    """
    chosen = preprocess or model.preprocess
    names = model.modalities if modalities is None else modalities
    wholes = {model.follows[m] for m in names if m in model.follows} - {*names}  # a region is read with its picture
    readers = {m: chosen[m] for m in (*names, *sorted(wholes))}
    if content:
        readers = {m: Marked(reader) for m, reader in readers.items()}
    read = partial(_read, model, content=content, make=make)
    if together:
        pieces = share_batches(read, shards, readers, batch, workers)
    else:
        pieces = read(Loader(shards, readers, batch=batch, workers=workers, train=False, budget=budget))
    done = 0
    with closing(pieces):
        for piece in pieces:
            done += piece.size
            if progress is not None:
                progress(done, len(shards))
            yield piece


def _read(model: JointModel, loader: Loader, *, content: bool, make: Make) -> Generator[Embeddings]:
    """Yield the embeddings of a loader's batches, and close it at the end."""
    reader = EvalReader(model)
    try:
        for rows in loader:
            rows, numbers = _split_batch(rows) if content else (rows, {})
            rows = rows.to(model.device)
            with torch.no_grad():
                piece = reader.read(lambda model, rows=rows: make(model, rows)).to("cpu")
            for m, number in numbers.items():
                if m in piece:
                    piece.rows[m] = piece[m]._replace(content=number)
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
