"""Tables of embeddings: joined from batches, and read as tensors or as queries of several modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.join import join_parts
from align.values import Embeddings, Rows


def concatenate(pieces: Sequence[Embeddings]) -> Embeddings:
    """Return the embeddings of consecutive batches as one table, without the empty positions (id "")."""
    first = pieces[0]
    modalities = sorted({m for piece in pieces for m in piece})
    values: dict[str, list[Tensor]] = {m: [] for m in modalities}
    samples: dict[str, list[Tensor]] = {m: [] for m in modalities}
    content: dict[str, list[Tensor | None]] = {m: [] for m in modalities}
    parts: dict[str, list[Rows]] = {m: [] for m in modalities}
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
            values[m].append(tensor_of(rows))
            samples[m].append(place[rows.sample])
            content[m].append(rows.content)
            parts[m].append(rows)
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
        m: Rows(
            torch.cat(values[m]),
            torch.cat(samples[m]),
            *_pad_tokens(tokens[m]),
            content=_join(content[m]),
            part=join_parts(parts[m]),
        )
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
    """Return the (n, D) values of a modality. Raises ValueError where the table has none."""
    rows = embeddings.get(modality)
    if rows is None:
        raise ValueError(f"no rows of {modality!r}; there are {', '.join(embeddings.keys())}")
    return tensor_of(rows)


def first_rows(embeddings: Embeddings, modalities: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the query {modality: (n, D)} of the n samples that have a row of each, and the samples (n,).

    Of several rows of a sample the first counts.
    """
    places, samples = first_places(embeddings, modalities)
    return {m: vectors(embeddings, m)[at] for m, at in places.items()}, samples


def first_places(embeddings: Embeddings, modalities: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Return modality -> (n,), the place of the row of each of the n samples that have one of each, and the samples.

    Of several rows of a sample the first counts. A modality without a table is left out.
    """
    firsts = []
    for m in modalities:
        rows = embeddings.get(m)
        place: dict[int, int] = {}
        for i, sample in enumerate(rows.sample.tolist() if rows is not None else []):
            if sample >= 0:
                place.setdefault(sample, i)
        firsts.append(place)
    common = sorted(set.intersection(*(set(place) for place in firsts)))
    places = {
        m: torch.tensor([place[s] for s in common], dtype=torch.long)
        for m, place in zip(modalities, firsts, strict=True)
        if m in embeddings
    }
    return places, torch.tensor(common, dtype=torch.long)


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found and len(found) == len(parts) else None


def tensor_of(rows: Rows) -> Tensor:
    """Return the (n, D) values of rows of embeddings. Raises TypeError where they are no tensor."""
    if not isinstance(rows.values, Tensor):
        raise TypeError("embeddings are tensors (n, D), not dicts")
    return rows.values


def _pad_tokens(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return tokens (n, L, D) and their mask (n, L) of all batches, as long as those of the longest batch."""
    if not parts:
        return None, None
    length = max(mask.shape[1] for _, mask in parts)
    more = [length - mask.shape[1] for _, mask in parts]
    tokens = [F.pad(x, (0, 0, 0, k)) for (x, _), k in zip(parts, more, strict=True)]
    return torch.cat(tokens), torch.cat([F.pad(mask, (0, k)) for (_, mask), k in zip(parts, more, strict=True)])
