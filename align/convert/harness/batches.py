"""Inputs of mteb's loaders, as a model of align embeds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from align.model import JointModel

KNOWN = ("text", "image", "audio")
"""The modalities of mteb that a model of align can read there. mteb gives videos as decoders of torchcodec."""

OTHER = "align:"
"""The beginning of a column's name whose rows mteb has no form for: points, arrays, or any modality of yours."""


Known = dict[tuple[str, bytes], Tensor]
"""(modality, SHA-256 of a stored row) -> its embedding (D,)."""


def embed_batches(
    model: JointModel,
    batches: Iterable[Mapping[str, Any]],
    task: str,
    known: Known | None = None,
    blank: dict[str, int] | None = None,
) -> dict[str, Tensor]:
    """Return modality -> (n, D) on the CPU, for all batches of a loader of n rows.

    Columns that are no modality of the model are left out. known: embeddings of texts and of files as bytes, which are
    taken from there, and put there where they are new. blank: task -> texts without a character, to whose number those
    of this loader are added. Raises ValueError, with the task's name, for batches
    without any modality of the model, and for an empty row.
    """
    found: dict[str, list[Tensor]] = {}
    columns: list[str] = []
    for batch in batches:
        columns = columns or list(batch)
        for m, rows in read_batch(batch, model.modalities, task).items():
            values, n = _embed_texts(model, m, rows, known)
            found.setdefault(m, []).append(values)
            if n and blank is not None:
                blank[task] = blank.get(task, 0) + n
    if not found:
        raise ValueError(
            f"task {task}: no modality of the model is in its columns, {', '.join(columns) or 'which are empty'}; "
            f"the model has {', '.join(model.modalities)}"
        )
    return {m: torch.cat(parts) for m, parts in found.items()}


def _embed_texts(model: JointModel, modality: str, rows: list[Any], known: Known | None) -> tuple[Tensor, int]:
    """Return the embeddings (n, D), and the number of texts without a character. These are rows of zeros: no tower
    reads them, and data sets of mteb have some."""
    kept = [i for i, row in enumerate(rows) if not isinstance(row, str) or row.strip()]
    if len(kept) == len(rows):
        return _embed_known(model, modality, rows, known), 0
    values = torch.zeros(len(rows), model.dim)
    if kept:
        some = _embed_known(model, modality, [rows[i] for i in kept], known)
        values = some.new_zeros(len(rows), model.dim)
        values[kept] = some
    return values, len(rows) - len(kept)


def _embed_known(model: JointModel, modality: str, rows: list[Any], known: Known | None) -> Tensor:
    if known is None or not all(isinstance(row, bytes | str) for row in rows):
        given: dict[str, Any] = {modality: rows}
        return model.embed(**given)[modality].cpu()
    stored = [row if isinstance(row, bytes) else row.encode("utf-8", "surrogatepass") for row in rows]
    keys = [(modality, hashlib.sha256(row).digest()) for row in stored]
    new = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
    if new:
        given = {modality: list(new.values())}
        known.update(zip(new, model.embed(**given)[modality].cpu(), strict=True))
    return torch.stack([known[key] for key in keys])


def read_batch(batch: Mapping[str, Any], modalities: Sequence[str], task: str = "") -> dict[str, list[Any]]:
    """Return modality -> raw inputs of one batch, as ``JointModel.embed`` takes them."""
    found = {}
    for m in modalities:
        column = m if m in KNOWN and m in batch else OTHER + m
        if column not in batch:
            continue
        rows = list(batch[column])
        if None in [None if row is None else 0 for row in rows]:
            empty = next(i for i, row in enumerate(rows) if row is None)
            raise ValueError(f"task {task}: row {empty} of a batch has no {m}; each of its rows needs one")
        read = {"audio": read_sound, "image": read_picture}.get(m if column == m else "", lambda row: row)
        found[m] = [read(row) for row in rows]
    return found


def read_picture(row: Any) -> Any:
    """Return a picture as bytes, a path or an image, from an image or an entry ``{bytes, path}`` of datasets."""
    return _read_stored(row) if isinstance(row, Mapping) else row


def read_sound(row: Any) -> Any:
    """Return a sound as bytes, a path or (array, Hz).

    It comes as ``{array, sampling_rate}``, as a decoder of torchcodec that answers to these two keys, or as an entry
    ``{bytes, path}`` of datasets that is not decoded.
    """
    if isinstance(row, Mapping) and "array" not in row:
        return _read_stored(row)
    if isinstance(row, bytes | str | tuple):
        return row
    return np.asarray(row["array"], dtype=np.float32), int(row["sampling_rate"])


def _read_stored(row: Mapping[str, Any]) -> bytes | str:
    content = row.get("bytes") or row.get("path")
    if content is None:
        raise ValueError(f"an entry of datasets has bytes or a path; this one has {', '.join(row) or 'nothing'}")
    return content
