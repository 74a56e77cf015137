"""Towers in chunks, as ``JointModel.forward`` runs them."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from align.grad_cache.replay import in_chunks, read_chunks
from align.grad_cache.slices import leaf
from align.model import Tower
from align.values import Values


def check_chunk(chunk: int | Mapping[str, int] | None, modalities: Sequence[str]) -> None:
    """Check a ``chunk`` of a config against the model's modalities.

    Raises ValueError for a number below 1, and with the nearest right name for a modality without a tower.
    """
    sizes = chunk if isinstance(chunk, Mapping) else {None: 1 if chunk is None else chunk}
    for name, rows in sizes.items():
        if name is not None and name not in modalities:
            near = difflib.get_close_matches(name, modalities, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"chunk names {name!r}, the model has towers of {', '.join(modalities)}{hint}")
        if rows < 1:
            of = "chunk" if name is None else f"chunk of {name!r}"
            raise ValueError(f"{of} is the number of rows that a tower reads at a time, at least 1; got {rows}")


@final
class Chunks:
    """Runner of towers a few rows at a time: ``model(batch, run=Chunks(64, model.modalities))``.

    The embeddings, the loss and the gradients are those of the whole batch, see ``in_chunks``. A tower with a frozen
    encoder is read one time, and the graph of its head is kept. Rows stay whole: a row's windows and frames are in one
    chunk.

    chunk: rows at a time, one number or one for each modality. A modality without a number is read whole.
    modalities: those of the model.

    Raises ValueError as ``check_chunk`` does. A call raises it for a BatchNorm in training mode, which mixes rows.
    """

    def __init__(self, chunk: int | Mapping[str, int], modalities: Sequence[str]):
        check_chunk(chunk, modalities)
        self.chunk = dict.fromkeys(modalities, chunk) if isinstance(chunk, int) else dict(chunk)

    def __call__(
        self, name: str, tower: Tower, values: Values, generator: torch.Generator | None = None, tokens: bool = False
    ) -> Any:
        """Return ``tower(values, generator=generator, tokens=tokens)``."""
        read = functools.partial(tower, generator=generator, tokens=tokens)
        chunk = self.chunk.get(name)
        if chunk is None or len(leaf(values)) <= chunk:
            return read(values)
        for module in [*tower.modules(), *tower.encoder.modules()]:  # a shared encoder is no child
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise ValueError(f"chunk: tower {name!r} has a {type(module).__name__} that trains, which mixes rows")
        if not any(p.requires_grad for p in tower.encoder.parameters()):
            return read_chunks(read, values, chunk)
        parameters = [*tower.parameters(), *tower.encoder.parameters()]
        return in_chunks(
            read, values, chunk, parameters=parameters, generators=() if generator is None else (generator,)
        )
