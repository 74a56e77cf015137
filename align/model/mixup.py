"""Mixup: rows mixed of two rows before a tower or after its encoder, which are positives of both samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch import Tensor

from align.losses.wrappers.metrix import draw_order
from align.losses.wrappers.mix_geodesic import shares
from align.model.row_labels import take_labels
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
    join: modalities whose rows of two samples are joined, as captions of two sounds: "a dog barks and rain falls". Then
        samples are mixed whole. A row mixed of two sounds belongs to the joined caption of both, and counts in one call
        of the objective: objective + weight·objective(mixed). Samples without a row of each of these stay as they are.
    at: ``input``, the collated values (rounded where they are integers), or ``features``, what the encoder gives.
    alpha, weight: above 0.

    Raises ValueError for other values.
    """

    def __init__(
        self,
        of: list[str],
        at: Literal["input", "features"] = "input",
        alpha: float = 1.0,
        weight: float = 0.4,
        join: list[str] | None = None,
    ):
        if not of:
            raise ValueError("mixup: of names a modality or more; got none")
        if at not in ("input", "features"):
            raise ValueError(f"mixup: at is 'input' or 'features'; got {at!r}")
        for name, value in (("alpha", alpha), ("weight", weight)):
            if not 0 < value < math.inf:
                raise ValueError(f"mixup: {name} is a positive number; got {value}")
        if both := {*of} & {*(join or ())}:
            raise ValueError(f"mixup: {', '.join(sorted(both))} stands in of and in join")
        self.of, self.at, self.alpha, self.weight, self.join = of, at, alpha, weight, join

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
        share = float(shares(self.alpha, 1, shared)[0])
        if self.join:
            partner = draw_partners([batch[m].sample for m in (*self.of, *self.join)], batch.size, local)
            orders = {m: follow_partners(batch[m].sample, partner) for m in (*self.of, *self.join)}
        else:
            orders = {m: draw_order(batch[m].sample, local) for m in self.of}

        def run(name: str, tower: Any, values: Values, generator: Any = None, tokens: bool = False) -> Any:
            if name not in self.of:
                return tower(values, generator=generator, tokens=tokens)
            values, labels = take_labels(values)  # a mixed row has the labels of its own sample, as at the input
            features = mix_features(tower.features(values, generator=generator), orders[name], share)
            return tower.embed_features(features, tokens, labels)

        rows = dict(batch.rows)
        if self.at == "input":
            for m in self.of:
                rows[m] = rows[m]._replace(values=mix_values(rows[m].values, orders[m], share, m))
        for m in self.join or ():
            values, order = rows[m].values, orders[m]
            if not isinstance(values, Tensor):
                raise ValueError(f"mixup: rows of {m!r} do not join; those of Bytes and Tokens do")
            moves = (order != torch.arange(len(order), device=order.device)).nonzero()[:, 0]
            joined = model.towers[m].preprocess.join(values[moves], values[order][moves])
            rows[m] = rows[m]._replace(values=values.index_copy(0, moves, joined))
        made = model(
            replace(batch, rows=rows), generators=generators, tokens=tokens, run=run if self.at == "features" else None
        )
        first = objective(made)
        if self.join:
            return self.weight * first
        moved = replace(made, rows={m: move_rows(r, orders[m]) if m in orders else r for m, r in made.items()})
        return self.weight * (share * first + (1 - share) * objective(moved))


def check_mixup(mixup: Mixup | None, chunk: object, modalities: Sequence[str]) -> None:
    """Raise ValueError for a modality that is not there, and beside ``chunk``."""
    if mixup is None:
        return
    for name in (*mixup.of, *(mixup.join or ())):
        if name not in modalities:
            raise ValueError(f"mixup names {name!r}; the model has {', '.join(modalities)}")
    if chunk is not None:
        raise ValueError("mixup runs a tower on all its rows, and chunk a few at a time: take one of both away")


def draw_partners(samples: Sequence[Tensor], size: int, generator: torch.Generator) -> Tensor:
    """Return (B,), the partner of each sample, among those with a row in every one of the (n_m,) ids, else itself."""
    there = torch.ones(size, dtype=torch.bool, device=samples[0].device)
    for sample in samples:
        there &= torch.zeros_like(there).index_fill(0, sample[sample >= 0], True)
    numbers = torch.where(there, torch.arange(size, device=there.device), -1)
    return torch.where(there, draw_order(numbers, generator), torch.arange(size, device=there.device))


def follow_partners(sample: Tensor, partner: Tensor) -> Tensor:
    """Return (n,), the row of each row's partner: the k-th row of a sample takes the k-th of its partner, in a ring."""
    order = torch.arange(len(sample), device=sample.device)
    of = {s: (sample == s).nonzero()[:, 0].tolist() for s in sample[sample >= 0].unique().tolist()}
    for s, rows in of.items():
        others = of[int(partner[s])]
        for k, row in enumerate(rows):
            order[row] = others[k % len(others)]
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
    moved = {name: x[place] for name, x in rows._asdict().items() if isinstance(x, Tensor)}
    return rows._replace(**moved | {"sample": sample[place]})
