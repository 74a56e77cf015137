"""Mixup: rows mixed of two rows before a tower or after its encoder, which are positives of both samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch import Tensor

from align.values import Batch, Embeddings, Features, Rows, Values

if TYPE_CHECKING:
    from align.model.joint import JointModel


@final
class Mixup:
    """Inputs or features of some modalities, mixed in training for any objective (Metrix, Venkataramanan et al. 2022,
    arXiv 2106.04990, section 4; mixup, Zhang et al. 2018, arXiv 1710.09412). In a config, at the top::

        mixup: {of: [image], at: features, weight: 0.4}

    Row i of a modality becomes λ·x_i + (1 - λ)·x_π(i), and the run minimises

        objective + weight·(λ·objective(mixed) + (1 - λ)·objective(mixed, whose row i belongs to the sample of π(i))),

    a cross-entropy with soft targets for losses that are linear in them. π is a draw among the rows of this rank, λ one
    number from Beta(alpha, alpha) for all. A hard negative stays as it is. Towers run a second time, on the mixed rows.
    ``align.losses.Metrix`` mixes embeddings, at no cost of a tower.

    of: the modalities that are mixed, with values of numbers. Ids of tokens are refused.
    at: ``input``, the collated values (rounded where they are integers), or ``features``, what the encoder gives.
    alpha, weight: above 0.

    Raises ValueError for other values.
    """

    def __init__(
        self, of: list[str], at: Literal["input", "features"] = "input", alpha: float = 1.0, weight: float = 0.4
    ):
        if not of:
            raise ValueError("mixup: of names a modality or more; got none")
        if at not in ("input", "features"):
            raise ValueError(f"mixup: at is 'input' or 'features'; got {at!r}")
        for name, value in (("alpha", alpha), ("weight", weight)):
            if not 0 < value < math.inf:
                raise ValueError(f"mixup: {name} is a positive number; got {value}")
        self.of, self.at, self.alpha, self.weight = of, at, alpha, weight

    def __call__(
        self,
        model: JointModel,
        batch: Batch,
        objective: Callable[[Embeddings], Tensor],
        *,
        shared: torch.Generator,
        local: torch.Generator,
        generators: Mapping[str, torch.Generator] | None = None,
        tokens: Sequence[str] = (),
    ) -> Tensor:
        """Return weight times the loss of the mixed rows, a 0-d tensor.

        objective: the loss of embeddings, with equal draws in both calls. shared: draws λ, equal on all ranks. local:
        draws the orders of this rank's rows. generators, tokens: as for ``model``.
        """
        share = draw_share(self.alpha, shared)
        orders = {m: draw_order(batch[m].sample, local) for m in self.of if m in batch}

        def run(name: str, tower: Any, values: Values, generator: Any = None, tokens: bool = False) -> Any:
            if name not in orders:
                return tower(values, generator=generator, tokens=tokens)
            features = mix_features(tower.features(values, generator=generator), orders[name], share)
            return tower.embed_features(features, tokens=tokens)

        rows = dict(batch.rows)
        if self.at == "input":
            for m, order in orders.items():
                rows[m] = rows[m]._replace(values=mix_values(rows[m].values, order, share, m))
        made = model(
            replace(batch, rows=rows), generators=generators, tokens=tokens, run=run if self.at == "features" else None
        )
        first = objective(made)
        moved = replace(made, rows={m: move_rows(r, orders[m]) if m in orders else r for m, r in made.items()})
        return self.weight * (share * first + (1 - share) * objective(moved))


def check_mixup(mixup: Mixup | None, chunk: object, modalities: Sequence[str]) -> None:
    """Raise ValueError for a modality that is not there, and beside ``chunk``."""
    if mixup is None:
        return
    for name in mixup.of:
        if name not in modalities:
            raise ValueError(f"mixup: of names {name!r}; the model has {', '.join(modalities)}")
    if chunk is not None:
        raise ValueError("mixup runs a tower on all its rows, and chunk a few at a time: take one of both away")


def draw_share(alpha: float, generator: torch.Generator) -> float:
    """Return λ from Beta(alpha, alpha)."""
    device = generator.device
    a, b = (torch._standard_gamma(torch.full((1,), alpha, device=device, dtype=torch.float64), generator) for _ in "ab")
    return float(a / (a + b))


def draw_order(sample: Tensor, generator: torch.Generator) -> Tensor:
    """Return an order (n,) of rows, in which those of sample id -1 keep their places."""
    real = (sample >= 0).nonzero()[:, 0]
    order = torch.arange(len(sample), device=sample.device)
    order[real] = real[torch.randperm(len(real), generator=generator, device=generator.device).to(real.device)]
    return order


def mix_values(values: Values, order: Tensor, share: float, modality: str) -> Tensor:
    """Return λ·v_i + (1 - λ)·v_π(i), (n, ...), of the values' type. Raises ValueError for ids and for a dict."""
    if not isinstance(values, Tensor) or values.dtype in (torch.int64, torch.int32, torch.bool):
        kind = "a dict" if not isinstance(values, Tensor) else f"{values.dtype} ids"
        raise ValueError(f"mixup: the inputs of {modality!r} are {kind}, which do not mix; take at: features")
    wide = values if values.is_floating_point() else values.float()
    mixed = share * wide + (1 - share) * wide[order]
    return mixed if values.is_floating_point() else mixed.round().to(values.dtype)


def mix_features(features: Features, order: Tensor, share: float) -> Features:
    """Return the pooled features mixed. Tokens mix too, and count where they are real in one of both."""
    pooled, tokens, mask = features
    return Features(
        share * pooled + (1 - share) * pooled[order],
        None if tokens is None else share * tokens + (1 - share) * tokens[order],
        None if mask is None else mask | mask[order],
    )


def move_rows(rows: Rows, order: Tensor) -> Rows:
    """Return the rows, each of the sample of its partner, in the order of the samples. Hard negatives stay."""
    sample = rows.sample[order]  # (n,)
    key = 2 * torch.where(sample >= 0, sample, rows.owner) + (sample < 0)
    place = key.argsort(stable=True)
    moved = Rows(*(x[place] if isinstance(x, Tensor) else x for x in rows))
    return moved._replace(sample=sample[place])
