"""MemoryQueue: rows of past batches as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32
from align.losses.kinds import KINDS
from align.losses.loss import Given, apply, number
from align.losses.wrappers.negatives import stack_tokens, with_negatives
from align.losses.wrappers.wrapper import Wrapper

_ROWS, _GROUPS, _TOKENS, _MASK = "rows/", "groups/", "tokens/", "mask/"


@final
class MemoryQueue(Wrapper):
    """A loss that also meets the last ``size`` embeddings of each modality, without gradient (MoCo: He et al. 2020,
    arXiv 1911.05722, section 3.1). The embeddings are the model's, with no second encoder, as in cross-batch memory
    (Wang et al. 2020, arXiv 1912.06798, section 3.2).

    Use it where memory holds few samples a step, more negatives would help, and the model moves slowly. Past rows
    drift, so begin with a queue of a few batches. It costs the loss's arithmetic with n + size rows a modality (for
    Symile with all negatives (n + size)^M, so take "shuffled" or K there) and size·D·4 bytes a modality and set of
    modalities. Inside Matryoshka there is a queue for each prefix, around it only one.

    In a config:

        pairs:
          loss:
            class_path: align.losses.MemoryQueue
            init_args:
              size: 4096
              loss: {class_path: align.losses.InfoNCE}
          between: all

    Past rows have sample id -1: they are negatives for everyone, anchors and positives for none. Their groups are kept,
    so rows that a group excludes stay excluded. A sample that comes again within ``size`` rows meets its past row as a
    negative: keep the queue well below an epoch, or give each sample a group. A row that is not finite is kept as
    zeros, so that one bad step does not spoil the next ones.

    The queue is first in, first out and grows from nothing. A call meets it as the calls before left it. Each set of
    modalities has a queue: ``between`` names the set, and ``Objective`` calls it. Where rows are gathered before the
    loss, the queue is the same on all ranks. It is part of the state dict, so a run continues to the bit. In eval mode
    it is neither read nor written. The wrapper is then the loss itself, and validation compares with runs without a
    queue.

    A loss that reads tokens is held against the tokens of past rows. The queue holds them too, size·L·D·4 bytes more. A
    loss without negatives (distillation, a regulariser) is refused, as past rows would change nothing.

    loss: a loss with negatives.
    size: how many rows of a modality are kept.

    Raises ValueError for another loss, or a size below 1.
    """

    def __init__(self, loss: nn.Module, size: int):
        super().__init__(loss)
        if not KINDS[self.kind].contrasts:
            raise ValueError(
                f"MemoryQueue keeps past rows as negatives; {type(loss).__name__} is of kind {self.kind!r} and has none"
            )
        if size < 1:
            raise ValueError(f"size is a number of rows, at least 1; got {size}")
        self.size = size
        self._modalities: tuple[str, ...] | None = None
        self.register_load_state_dict_pre_hook(_make_room)

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls, and so their queue."""
        self._modalities = tuple(modalities)
        super().between(modalities)

    def around(self, given: Given) -> Tensor:
        """Return the inner loss with the queue's rows as negatives. In training mode the rows then join the queue.

        Raises ValueError where they have another D than the rows in the queue.
        """
        if not self.training:
            return apply(self.loss, given)
        check_embeddings(given.embeddings)
        names = [f"{'-'.join(self._names(len(given.samples)))}/{m}" for m in self._names(len(given.samples))]
        fresh = [x.detach() for x in at_least_float32(given.embeddings)]
        past = [self._read(_ROWS + name, x[:0]) for name, x in zip(names, fresh, strict=True)]
        past_groups = [self._read(_GROUPS + name, ids[:0]) for name, ids in zip(names, given.samples, strict=True)]
        if past[0].shape[1] != fresh[0].shape[1]:
            raise ValueError(f"the queue holds rows of D = {past[0].shape[1]}; got D = {fresh[0].shape[1]}")
        tokens, past_tokens = self._tokens(given), None
        if tokens is not None:
            past_tokens = [
                (self._read(_TOKENS + name, x[:0]), self._read(_MASK + name, mask[:0]))
                for name, (x, mask) in zip(names, tokens, strict=True)
            ]
        loss = apply(self.loss, with_negatives(given, past, past_groups, past_tokens))
        for m, name in enumerate(names):
            rows = torch.where(fresh[m].isfinite().all(1, keepdim=True), fresh[m], 0)
            kinds = torch.full_like(given.samples[m], -1) if given.groups is None else given.groups[m]
            self._keep(_ROWS + name, torch.cat([past[m], rows]))
            self._keep(_GROUPS + name, torch.cat([past_groups[m], kinds]))
            if tokens is not None and past_tokens is not None:
                for kept, x in zip((_TOKENS, _MASK), stack_tokens(past_tokens[m], tokens[m]), strict=True):
                    self._keep(kept + name, x)
        return loss

    def _tokens(self, given: Given) -> list[tuple[Tensor, Tensor]] | None:
        """Return the tokens as the queue keeps them, without gradient, or None where the inner loss reads none.

        A row that is not finite becomes zeros.
        """
        if not self.needs_tokens or given.tokens is None:
            return None
        xs = at_least_float32([x.detach() for x, _ in given.tokens])
        finite = [x.isfinite().flatten(1).all(1)[:, None, None] for x in xs]
        return [(torch.where(ok, x, 0), mask) for ok, x, (_, mask) in zip(finite, xs, given.tokens, strict=True)]

    def _names(self, count: int) -> tuple[str, ...]:
        return self._modalities or tuple(str(m) for m in range(count))

    def _read(self, name: str, empty: Tensor) -> Tensor:
        """Return the rows of one buffer, made empty where there is none."""
        if name not in self._buffers:
            self.register_buffer(name, empty.clone())
        return getattr(self, name).to(empty.device)

    def _keep(self, name: str, rows: Tensor) -> None:
        setattr(self, name, rows[-self.size :].clone())


def _make_room(module: MemoryQueue, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give the queue the shapes of a state that is about to be loaded, as they grow."""
    starts = (_ROWS, _GROUPS, _TOKENS, _MASK)
    for name in [name for name in module._buffers if name.startswith(starts)]:
        delattr(module, name)
    for key, value in state.items():
        if key.startswith(tuple(prefix + start for start in starts)):
            module.register_buffer(
                key.removeprefix(prefix), torch.empty_like(value, device=number(module.scale).device)
            )
