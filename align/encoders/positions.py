"""Tables of learned positions, stretched to longer texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAMES = ("position_embedding", "position_embeddings")
"""Names of the table in transformers' text models."""


def stretch_table(table: Tensor, context: int, keep: int = 20) -> Tensor:
    """Return (context, W) positions of a table (L, W): the first ``keep`` to the bit, the rest interpolated.

    It is Long-CLIP's knowledge-preserved stretching (Zhang et al. 2024, arXiv:2403.15378, section 3.1). Short texts
    have trained the first positions well, so these stay. Position p >= keep is read at keep + (p - keep) / λ of the
    old table, with λ = (context - keep) / (L - keep), on the line between the two neighbours there. Past the last old
    position the line through the last two goes on. CLIP's 77 positions become 248 with λ = 4.

    Raises ValueError for a context below L, and for a ``keep`` that leaves fewer than two positions to interpolate.
    """
    L = len(table)
    if context < L:
        raise ValueError(f"a table of {L} positions is stretched to {L} or more, not to {context}")
    if not 0 <= keep <= L - 2:
        raise ValueError(f"keep is a number of positions from 0 to {L - 2}, as the table has {L}; got {keep}")
    if context == L:
        return table.clone()
    at = keep + torch.arange(context - keep, dtype=torch.float64) * (L - keep) / (context - keep)
    low = at.floor().long().clamp(max=L - 2)
    share = (at - low).to(table)[:, None]
    rest = torch.lerp(table[low], table[low + 1], share)
    return torch.cat([table[:keep], rest])


def stretch_positions(encoder: Any, context: int, keep: int = 20) -> None:
    """Stretch the positions of a text encoder to ``context`` tokens a row, as ``stretch_table`` says. It is in place.

    encoder: ``TransformerText``, ``OpenClipText`` or ``HFText``, or another one with ``stretch(context, keep)``. Give
    its tower a preprocess of the same context. In a config the encoder's arguments ``context`` and ``keep`` do this,
    for weights of its library and for those of ``--start``.

    Raises ValueError for an encoder without a table of learned positions, and where ``stretch_table`` does.
    """
    if not callable(stretch := getattr(encoder, "stretch", None)):
        raise ValueError(f"{type(encoder).__name__} has no table of learned positions that could be stretched")
    stretch(context, keep)


def fit_table(weights: dict[str, Tensor], name: str, table: Tensor, keep: int | None) -> dict[str, Tensor]:
    """Return another encoder's weights with its table stretched to the length of ``table``, where it is shorter.

    keep: None leaves the weights as they are. Raises ValueError where ``stretch_table`` does.
    """
    theirs = weights.get(name)
    if keep is None or theirs is None or len(theirs) == len(table) or theirs.shape[1:] != table.shape[1:]:
        return weights
    return weights | {name: stretch_table(theirs, len(table), keep)}


def find_table(model: nn.Module, name: str) -> tuple[str, nn.Embedding, int]:
    """Return the place of the table in one of transformers' models, the table, and its rows before the first position.

    name: that of the model, for the message. RoBERTa's table begins with rows for the padding.

    Raises ValueError where there is none.
    """
    for place, part in model.named_modules():
        if place.rpartition(".")[2] in NAMES and isinstance(part, nn.Embedding):
            return place, part, 0 if part.padding_idx is None else part.padding_idx + 1
    raise ValueError(f"{name} has no table of learned positions, so it cannot be stretched; leave keep out")


def resize_table(model: Any, place: str, table: nn.Embedding, rows: Tensor) -> None:
    """Put longer rows (L, W) into a table of transformers, with the buffers that stand beside it."""
    table.weight = nn.Parameter(rows, requires_grad=table.weight.requires_grad)
    table.num_embeddings = len(rows)
    beside = model.get_submodule(place.rpartition(".")[0])
    device = rows.device
    if isinstance(getattr(beside, "position_ids", None), Tensor):
        beside.position_ids = torch.arange(len(rows), device=device)[None]
    if isinstance(getattr(beside, "token_type_ids", None), Tensor):
        beside.token_type_ids = torch.zeros(1, len(rows), dtype=torch.long, device=device)
    model.config.max_position_embeddings = len(rows)
