"""Encoding of a batch: the rows of each modality as a cache stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.embedding.features.hashes import Kind
from align.model import JointModel
from align.model.eval_view import EvalReader
from align.model.naming import naming
from align.values import Batch, Rows

DTYPES = {"float16": torch.float16, "float32": torch.float32}


class Want(NamedTuple):
    """Content of a set: its modalities, their kind, their tokens, and the stored precision."""

    modalities: tuple[str, ...]
    kind: Kind
    tokens: bool
    dtype: str


class Encoded(NamedTuple):
    """Rows of one modality.

    values: (n, W). sample: (n,) position in the shard, or -2 - position for a hard negative. tokens: (ΣL, W) of all
    rows, lengths: (n,) tokens of each row, or both None.
    """

    values: Tensor
    sample: Tensor
    tokens: Tensor | None
    lengths: Tensor | None


def encode(
    reader: EvalReader[JointModel], batch: Batch, want: Want, first: int, keys: Sequence[str]
) -> dict[str, Encoded]:
    """Return the encoded rows of a batch, on the CPU.

    batch: of the positions from ``first`` on, on the model's device, with hard negatives under their marks
    (``Loader(marks=True)``). keys: (B,) of its samples, for messages.
    Raises ValueError for a value that is not finite, or too large for float16.
    """
    out = {}
    for m in want.modalities:
        rows = batch[m]
        with torch.no_grad():
            values, tokens, present = reader.read(lambda model, m=m, rows=rows: _run(model, m, rows, want))
        sample = rows.sample.cpu()
        owner = torch.where(sample >= 0, sample, -2 - sample)
        values = _store(values, want.dtype, f"{m} {want.kind}", keys, owner)
        lengths = None
        if tokens is not None:
            lengths = present.sum(1).cpu()
            tokens = _store(tokens[present], want.dtype, f"{m} tokens", keys, owner.repeat_interleave(lengths))
        place = owner + first
        out[m] = Encoded(values, torch.where(sample >= 0, place, -2 - place), tokens, lengths)
    return out


def _run(model: JointModel, modality: str, rows: Rows, want: Want) -> tuple[Tensor, Any, Any]:
    """Return (n, W), and with tokens (n, L, W) and (n, L) bool."""
    tower: Any = model.towers[modality]
    with naming(f"tower {modality!r}"):
        if want.kind == "embedding":
            if not want.tokens:
                return _unit(model, tower(rows.values)), None, None
            pooled, tokens, present = tower(rows.values, tokens=True)
            return _unit(model, pooled), _unit(model, tokens), present
        features = tower.features(rows.values)
        if not want.tokens:
            return features.pooled, None, None
        if features.tokens is None:
            kind = type(tower.encoder).__name__
            raise ValueError(f"{kind} gives pooled features only, no tokens; leave --tokens out, or name other towers")
        present = features.mask
        if present is None:
            present = features.tokens.new_ones(features.tokens.shape[:2], dtype=torch.bool)
        return features.pooled, features.tokens, present


def _unit(model: JointModel, x: Tensor) -> Tensor:
    """Return embeddings as the model gives them (``JointModel.forward``)."""
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return F.normalize(x, dim=-1, eps=1e-6) if model.normalize else x


def _store(x: Tensor, dtype: str, name: str, keys: Sequence[str], owner: Tensor) -> Tensor:
    """Return the rows (n, W) in the dtype of the set. name: of the rows in messages. owner: (n,) sample of each."""
    finite = x.isfinite().all(-1)
    if not bool(finite.all()):
        key = keys[int(owner[int((~finite).nonzero()[0])])]
        raise ValueError(f"the {name} of sample {key!r} are not finite; check the sample, and the model's weights")
    out = x.to(DTYPES[dtype])
    fits = out.isfinite().all(-1)
    if not bool(fits.all()):
        row = int((~fits).nonzero()[0])
        largest, key = float(x[row].abs().max()), keys[int(owner[row])]
        raise ValueError(
            f"the {name} of sample {key!r} reach {largest:.3g}, too large for {dtype}; --stored float32 fits"
        )
    return out.cpu().contiguous()
