"""Matryoshka: embeddings whose first coordinates are embeddings too."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import one_dtype
from align.losses.kernels.products import multiplies_halves, wide_dtype
from align.losses.loss import Given, Loss, apply
from align.losses.wrappers.across import Across
from align.losses.wrappers.spaces import Spaces
from align.losses.wrappers.wrapper import Wrapper


@final
class Matryoshka(Wrapper):
    """The weighted sum of a loss over prefixes of the embeddings (Kusupati et al. 2022, arXiv 2205.13147, section 3,
    equation 1):

        Σ_d w_d · loss(x[:d] / ‖x[:d]‖)

    Use it where one model serves several sizes of index: after training, cut the embeddings to d coordinates and
    normalise them. It costs one loss a prefix, Σ d / D as much arithmetic. ``Layers`` around it trains the encoder's
    layers as well.

    In a config:

        pairs:
          loss:
            class_path: align.losses.Matryoshka
            init_args:
              dims: [16, 32, 64]
              loss: {class_path: align.losses.InfoNCE}
          between: all

    Each prefix has a temperature, as it has a geometry. The smaller prefixes hold copies of ``loss``, started with
    their d. So Symile, whose scale depends on D, begins with live gradients at each size. A ``start_scale`` given by
    hand holds for all of them. ``scale`` and ``bias`` are those of the whole embeddings, which scoring reads. A loss
    that draws does so anew for each prefix.

    Prefixes are normalised where all rows of the call are unit vectors (to within 1 %, bfloat16's rounding). For a
    model that does not normalise they are taken as they are. The whole embeddings are never changed.

    loss: the loss of the whole embeddings.
    dims: the prefixes, growing. The last is D itself.
    weights: one for each prefix, the paper's relative importance. None: 1 each.

    Raises ValueError for dims and weights that do not fit, at the start and in the forward pass where the last of dims
    is not D.
    """

    def __init__(self, loss: nn.Module, dims: list[int], weights: list[float] | None = None):
        super().__init__(loss)
        if self.needs_numbers:
            raise ValueError("Matryoshka goes inside Bank, whose rows are whole, not around it: Bank(Matryoshka(loss))")
        for part in loss.modules():
            if isinstance(part, Spaces | Across):
                name = type(part).__name__
                raise ValueError(
                    f"Matryoshka goes inside {name}, as a prefix has other spaces: {name}(Matryoshka(loss))"
                )
        if not dims or dims[0] < 1 or any(a >= b for a, b in itertools.pairwise(dims)):
            raise ValueError(f"dims are growing numbers of coordinates, as in [32, 64, 128]; got {dims}")
        if weights is not None and len(weights) != len(dims):
            raise ValueError(f"weights has one number for each of the {len(dims)} dims; got {len(weights)}")
        if weights is not None and not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(f"weights are numbers of at least 0; got {weights}")
        self.dims, self.weights = dims, weights
        self.prefixes = nn.ModuleList(copy.deepcopy(loss) for _ in dims[:-1])

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start each prefix's loss with its size."""
        self._check(dim)
        for size, loss in self._each():
            loss.start(size, modalities, batch)

    def list_prefixes(self) -> tuple[int, ...]:
        """Return the prefixes with a weight, without the whole."""
        weights = self.weights or [1.0] * len(self.dims)
        weighted = [size for size, weight in zip(self.dims, weights, strict=True) if weight > 0]
        return tuple(size for size in weighted if size < self.dims[-1])

    def clamp_(self) -> None:
        """Clamp every prefix's temperature. Call it after the optimiser's step."""
        for _, loss in self._each():
            loss.clamp_()

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls to every prefix's loss."""
        for _, loss in self._each():
            loss.between(modalities)

    def set_negatives(self, kind: str | int) -> None:
        """Set the kind of negatives of every prefix's loss."""
        for _, loss in self._each():
            loss.set_negatives(kind)

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes of every prefix's loss."""
        for _, loss in self._each():
            loss.name_classes(names)

    def around(self, given: Given) -> Tensor:
        """Return the weighted sum of the prefixes' losses."""
        check_embeddings(given.embeddings)
        self._check(given.embeddings[0].shape[1])
        xs = one_dtype(given.embeddings)
        unit = _are_unit(xs)
        parts = []
        for (size, loss), factor in zip(self._each(), self.weights or [1.0] * len(self.dims), strict=True):
            cut = given
            if size < self.dims[-1]:
                cut = given._replace(embeddings=[_prefix(x, size, unit) for x in xs])
                if given.tokens is not None:
                    cut = cut._replace(tokens=[(_prefix(x, size, unit), mask) for x, mask in given.tokens])
            parts.append(factor * apply(loss, cut))
        return torch.stack(parts).sum()

    def _each(self) -> list[tuple[int, Loss]]:
        losses = [*self.prefixes, self.loss]
        return [(size, cast(Loss, loss)) for size, loss in zip(self.dims, losses, strict=True)]

    def _check(self, dim: int) -> None:
        if dim != self.dims[-1]:
            raise ValueError(f"the last of Matryoshka's dims is the whole embedding, {dim}; got {self.dims}")


def _are_unit(xs: Sequence[Tensor]) -> Tensor:
    """Return a 0-d bool on the device: every row has norm 1."""
    return torch.stack(
        [((torch.linalg.vector_norm(x.detach(), dim=1, dtype=wide_dtype(x)) - 1).abs() < 0.01).all() for x in xs]
    ).all()


def _prefix(x: Tensor, size: int, unit: Tensor) -> Tensor:
    """Return the first coordinates of rows (n, D) or tokens (n, L, D), normalised where the rows are unit vectors.

    They are normalised in float32. Halves are returned as halves where the device multiplies halves.
    """
    cut = x[..., :size].to(wide_dtype(x))
    cut = torch.where(unit, F.normalize(cut, dim=-1, eps=1e-6), cut)
    return cut.to(x.dtype) if multiplies_halves(x) else cut
