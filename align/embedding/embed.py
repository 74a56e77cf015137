"""Every row of a shard set, embedded once: what all the measurements read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data import Loader, Shards
from align.embedding.content import Marked, parted
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.preprocess import Preprocess
from align.values import Batch, Embeddings, Rows

Progress = Callable[[int, int], None]
"""Called as progress(samples done, samples in all)."""


def embed_shards(
    model: JointModel,
    shards: Shards,
    batch: int = 64,
    workers: int = 0,
    *,
    content: bool = False,
    preprocess: Mapping[str, Preprocess] | None = None,
    make: Callable[[JointModel, Batch], Embeddings] = lambda model, rows: model(rows),
    progress: Progress | None = None,
) -> Embeddings:
    """Embed all rows of all modalities, in evaluation mode, on the model's device.

    Returns Embeddings on the CPU over the samples that were read: values (n, D), sample (n,) counting through the whole
    set; with ``content`` also each row's number of its content, see ``align.values.Rows``. Positions that a bad sample
    left empty are not in it; ``shards.report()`` counts them. The model's own mode is not touched.

    preprocess: modality -> the reader of its members, where it is not the model's own. make: makes the table of a
    batch, where it is not of embeddings: other values (n, W), or tokens beside them.

    Raises ValueError where the shards have none of the model's modalities, or an embedding is not finite; TooManyBad
    above the shards' ``max_bad`` of all samples, wherever among them the bad ones are.
    """
    if not set(shards.modalities) & set(model.modalities):
        have = ", ".join(sorted(shards.modalities)) or "none"
        raise ValueError(f"the model embeds {', '.join(model.modalities)}; the shards have {have}")
    readers = {m: Marked(reader) if content else reader for m, reader in (preprocess or model.preprocess).items()}
    loader = Loader(shards, readers, batch=batch, workers=workers, train=False)
    pieces: list[Embeddings] = []
    done, reader = 0, EvalReader(model)
    try:
        with torch.no_grad():
            for rows in loader:
                rows, numbers = _parted(rows) if content else (rows, {})
                rows = rows.to(model.device)
                piece = reader.read(lambda model, rows=rows: make(model, rows)).to("cpu")
                for m, number in numbers.items():
                    piece.rows[m] = piece[m]._replace(content=number)
                _finite(piece)
                pieces.append(piece)
                done += piece.size
                if progress is not None:
                    progress(done, len(shards))
    finally:
        loader.close()
    if not pieces:
        raise ValueError("the shards have no samples")
    if done != len(shards):
        raise ValueError(f"the shards hold {len(shards)} samples, {done} were read; no number would be right")
    return concatenate(pieces)


def concatenate(pieces: Sequence[Embeddings]) -> Embeddings:
    """Embeddings of consecutive batches as one table, without the empty positions (id "")."""
    first = pieces[0]
    modalities = sorted({m for piece in pieces for m in piece})
    values: dict[str, list[Tensor]] = {m: [] for m in modalities}
    samples: dict[str, list[Tensor]] = {m: [] for m in modalities}
    content: dict[str, list[Tensor | None]] = {m: [] for m in modalities}
    tokens: dict[str, list[tuple[Tensor, Tensor]]] = {m: [] for m in modalities}
    ids: list[str] = []
    labels: list[Any] = []
    source: list[str] = []
    positions, groups, weights = [], [], []
    for piece in pieces:
        kept = torch.tensor([i for i, key in enumerate(piece.ids) if key], dtype=torch.long)
        place = torch.full((piece.size + 1,), -1)  # the last is where sample -1 looks
        place[kept] = torch.arange(len(kept)) + len(ids)
        for m, rows in piece.items():
            values[m].append(_tensor(rows))
            samples[m].append(place[rows.sample])
            content[m].append(rows.content)
            if rows.tokens is not None and rows.mask is not None:
                tokens[m].append((rows.tokens, rows.mask))
        rows_kept = kept.tolist()
        ids += [piece.ids[i] for i in rows_kept]
        labels += [piece.labels[i] if piece.labels else None for i in rows_kept]
        source += [piece.source[i] if piece.source else "" for i in rows_kept]
        positions.append(piece.position[kept])
        groups.append(torch.full((len(kept),), -1) if piece.group is None else piece.group[kept])
        weights.append(torch.ones(len(kept)) if piece.weight is None else piece.weight[kept])
    grouped = any(piece.group is not None for piece in pieces)
    weighted = any(piece.weight is not None for piece in pieces)
    rows = {
        m: Rows(torch.cat(values[m]), torch.cat(samples[m]), *_pad_tokens(tokens[m]), content=_known(content[m]))
        for m in modalities
    }
    return type(first)(
        rows,
        ids,
        torch.cat(positions),
        labels,
        source,
        group=torch.cat(groups) if grouped else None,
        weight=torch.cat(weights) if weighted else None,
    )


def vectors(embeddings: Embeddings, modality: str) -> Tensor:
    """(n, D): the values of a modality. Raises ValueError where it has none."""
    rows = embeddings.get(modality)
    if rows is None:
        raise ValueError(f"no rows of {modality!r}; there are {', '.join(embeddings.keys())}")
    return _tensor(rows)


def _parted(batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
    """The batch as the towers read it, and modality -> (n,) content."""
    parts = {m: parted(rows.values) for m, rows in batch.items()}
    rows = {m: rows._replace(values=parts[m][0]) for m, rows in batch.items()}
    return replace(batch, rows=rows), {m: number for m, (_, number) in parts.items()}


def _known(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found and len(found) == len(parts) else None


def _pad_tokens(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return tokens (n, L, D) and their mask (n, L) of all batches, as long as those of the longest batch."""
    if not parts:
        return None, None
    length = max(mask.shape[1] for _, mask in parts)
    more = [length - mask.shape[1] for _, mask in parts]
    tokens = [F.pad(x, (0, 0, 0, k)) for (x, _), k in zip(parts, more, strict=True)]
    return torch.cat(tokens), torch.cat([F.pad(mask, (0, k)) for (_, mask), k in zip(parts, more, strict=True)])


def _tensor(rows: Rows) -> Tensor:
    if not isinstance(rows.values, Tensor):
        raise TypeError("embeddings are tensors (n, D), not dicts")
    return rows.values


def _finite(piece: Embeddings) -> None:
    for m, rows in piece.items():
        bad = (~_tensor(rows).isfinite().all(dim=-1)).nonzero().flatten().tolist()
        if bad:
            key = piece.ids[int(rows.sample[bad[0]])]
            raise ValueError(f"the {m} embedding of sample {key!r} is not finite; the model's weights are no good")
