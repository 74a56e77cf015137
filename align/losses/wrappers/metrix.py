"""Metrix: rows mixed of two samples, which are positives of both in their shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32, exact, one_dtype
from align.losses.loss import Given, apply
from align.losses.wrappers.memory_queue import MemoryQueue
from align.losses.wrappers.mix_geodesic import shares
from align.losses.wrappers.wrapper import Wrapper


@final
class Metrix(Wrapper):
    """A loss between two modalities that also meets mixed rows with soft targets (Venkataramanan et al. 2022, arXiv
    2106.04990, section 4). Of a side with rows x_i, an order π and a share λ from Beta(alpha, alpha) it mixes

        m_i = λ·x_i + (1 - λ)·x_π(i),

    normalised, and adds the loss in which m_i stands for x_i and belongs to the sample of x_i with λ and to that of
    x_π(i) with 1 - λ:

        loss(a, b) + weight·(λ·loss(m, b; samples) + (1 - λ)·loss(m, b; samples∘π)), the mean over the mixed sides.

    A softmax and a sigmoid are linear in their targets, so this is their cross-entropy with soft targets. Use it with
    few pairs: it costs two more losses a side, and no more of the towers. In a config:

        pair:
          loss: {class_path: align.losses.Metrix, init_args: {loss: {class_path: align.losses.InfoNCE}}}
          between: [image, text]

    Rows mix with rows of all ranks, of their modality and with a sample. A hard negative stays as it is. λ and π come
    from the generator of the call, the same on all ranks. In eval mode it is the loss itself.

    loss: of kind "pairwise". A queue and a bank go outside. alpha: above 0. 1 draws every share alike.
    weight: of the mixed loss. The paper has 0.4.
    sides: the modalities that are mixed, by name. None: both, in turn.

    Raises ValueError for another loss, alpha or weight, and for a side that is not there.
    """

    def __init__(self, loss: nn.Module, alpha: float = 1.0, weight: float = 0.4, sides: list[str] | None = None):
        super().__init__(loss)
        if self.kind != "pairwise" or self.needs_tokens or self.needs_labels:
            why = "reads labels" if self.needs_labels else f"is of kind {self.kind!r}"
            raise ValueError(
                f"Metrix mixes the rows of a pair by their samples; {type(loss).__name__} {why}: "
                f"give it a loss of kind 'pairwise', as InfoNCE"
            )
        if self.needs_numbers or any(isinstance(part, MemoryQueue) for part in loss.modules()):
            name = "Bank" if self.needs_numbers else "MemoryQueue"
            raise ValueError(f"Metrix goes inside {name}, not around it: {name}(Metrix(loss))")
        for name, value in (("alpha", alpha), ("weight", weight)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is a positive number; got {value}")
        if sides is not None and not sides:
            raise ValueError("sides names one modality or both; got none")
        self.alpha, self.weight, self.sides = alpha, weight, sides
        self._names: tuple[str, ...] = ("0", "1")

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls. Raises ValueError where none of them is mixed."""
        self._names = tuple(modalities)
        if self.sides is not None and not {*self.sides} & {*modalities}:
            raise ValueError(f"sides names {', '.join(self.sides)}; a call is between {', '.join(modalities)}")
        super().between(modalities)

    def around(self, given: Given) -> Tensor:
        """Return the inner loss and that of the mixed rows. In eval mode it is that of the rows alone."""
        value = apply(self.loss, given)
        if not self.training:
            return value
        check_embeddings(given.embeddings)
        mixed = []
        for side, name in enumerate(self._names):
            if self.sides is not None and name not in self.sides:
                continue
            share = shares(self.alpha, 1, given.generator)
            order = draw_order(given.samples[side], given.generator)
            with exact(given.embeddings[0]):
                (x,) = at_least_float32([given.embeddings[side]])
                rows = [*given.embeddings]
                rows[side] = mix_rows(x, order, share.to(x))
                first = given._replace(embeddings=one_dtype(rows))
            share = share.to(value)[0]
            mixed.append(share * apply(self.loss, first) + (1 - share) * apply(self.loss, reorder(first, side, order)))
        return value + self.weight * torch.stack(mixed).mean()


def draw_order(sample: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return an order (n,) of rows, in which those of sample id -1 keep their places."""
    real = (sample >= 0).nonzero()[:, 0]
    device = "cpu" if generator is None else generator.device
    order = torch.arange(len(sample), device=sample.device)
    order[real] = real[torch.randperm(len(real), generator=generator, device=device).to(real.device)]
    return order


def mix_rows(x: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """Return λ·x_i + (1 - λ)·x_π(i), (n, D). Where both are unit vectors so is the mixed row.

    share: (1,) or (n, 1), λ. A row that keeps its place stays as it is.
    """
    mixed = share * x + (1 - share) * x[order]
    length = torch.linalg.vector_norm(x.detach(), dim=1)
    unit = ((length - 1).abs() < 0.01) & ((length[order] - 1).abs() < 0.01)
    mixed = torch.where(unit[:, None], F.normalize(mixed, dim=1, eps=1e-6), mixed)
    return torch.where((order == torch.arange(len(x), device=x.device))[:, None], x, mixed)


def reorder(given: Given, side: int, order: Tensor) -> Given:
    """Return a call in which the rows of a side belong to the samples, groups and rules of rows in another order."""

    def move(each: Sequence[Tensor] | None) -> list[Tensor] | None:
        return None if each is None else [x[order] if m == side else x for m, x in enumerate(each)]

    rule = given.rule
    if rule is not None:
        alike, against = move(rule.alike), move(rule.against)
        rule = replace(
            rule,
            alike=None if alike is None else (alike[0], alike[1]),
            against=None if against is None else (against[0], against[1]),
        )
    return given._replace(samples=move(given.samples) or [], groups=move(given.groups), rule=rule)
