"""ConFu: two modalities fused into one row by a learned head, against a third one, beside the pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.infonce import infonce
from align.losses.kernels.inputs import Scale, one_number, sets
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.kernels.pairing import complete_tuples
from align.losses.kernels.parts import Merge, check_part
from align.losses.temperature import ClipTemperature

HEAD = ("inner", "inner_bias", "outer", "outer_bias")
"""Names of a fusion head's parameters."""

Fuse = Callable[[Sequence[Tensor], Sequence[int]], Tensor]
"""Rows (n, D) of some modalities, one row of each a sample, and the modalities' places -> fused rows (n, D)."""


def confu(
    embeddings: Sequence[Tensor],
    fuse: Fuse,
    scale: Scale,
    *,
    share: float = 0.5,
    size: int = 2,
    samples: Sequence[Tensor] | None = None,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the contrastive loss of fused rows against further modalities, and of all pairs; a 0-d tensor.

    It is Contrastive Fusion (Koutoupis et al. 2025, arXiv 2511.21331): twice their objective,

        share · mean of infonce(fuse(x_i, x_j), x_k)  +  (1 - share) · mean of infonce(x_i, x_j)

    over every pair of modalities fused against every third one, and over every pair. ``share`` is their λ.

    When to use it: where pairs tell something and only two together tell the rest (a sum, an exclusive or), and one
    space shall answer both kinds of query. The fusion is learned, so it is not bound to a product as ``symile`` is,
    and a query of two modalities needs the head. For M modalities it costs C(M, 2)·(M-2) + C(M, 2) calls of
    ``infonce``: 6 for three, 18 for four.

    embeddings: M >= 3 tensors (n_m, D).
    fuse: the learned fusion, see ``Fuse``.
    scale: the multiplier of all calls, already exponentiated.
    share: of the fused part, from 0 to 1.
    size: how many modalities are fused, 2 to M-1. The paper's is 2. With M-1 each modality meets all others at once.
    samples: M tensors (n_m,) of ids. Without ids, row i belongs to sample i. Every combination of a sample's rows is
        fused. Id -1 belongs to no sample: such a row is fused with nothing, and is a negative elsewhere.
    groups: M tensors (n_m,) of ids. A fused row is of a group where all its rows are.
    weights: M tensors (n_m,): how much each anchor counts. A fused row counts the mean of its rows.
    part, merge: as in ``infonce``. All rows are fused in every part, as that costs n·D² only.

    A call in which nothing pairs is a zero with zero gradients. Raises ValueError for shapes and options that do not
    fit.
    """
    xs, ids, kinds, counts = sets(embeddings, samples, groups, weights)
    M = len(xs)
    if M < 3:
        raise ValueError(f"ConFu fuses modalities against a further one: it takes three at least; got {M}")
    _check(share, size)
    check_part(part, merge)
    if size >= M:
        raise ValueError(f"size is how many of the {M} modalities are fused against another, 2 to {M - 1}; got {size}")
    with exact(xs[0]):
        scale = one_number(scale, xs[0])

        def meet(a: tuple[Tensor, Tensor, Tensor | None, Tensor], k: int) -> Tensor:
            x, sample, group, weight = a
            return infonce(
                x,
                xs[k],
                scale,
                sample_a=sample,
                sample_b=ids[k],
                group_a=group,
                group_b=kinds[k] if kinds else None,
                weight_a=weight,
                weight_b=counts[k],
                part=part,
                merge=merge,
            )

        fused, pairs = [], []
        for places in itertools.combinations(range(M), size):
            rows = complete_tuples([ids[m] for m in places])  # (C, size)
            picked = [*zip(places, rows.unbind(1), strict=True)]
            x = fuse(at_least_float32([xs[m][row] for m, row in picked]), places)
            group = None
            if kinds:
                columns = torch.stack([kinds[m][row] for m, row in picked])  # (size, C)
                group = torch.where((columns == columns[0]).all(0), columns[0], -1)
            weight = torch.stack([counts[m][row] for m, row in picked]).mean(0)
            one = (x, ids[places[0]][rows[:, 0]], group, weight)
            fused += [meet(one, k) for k in range(M) if k not in places]
        for i, j in itertools.combinations(range(M), 2):
            pairs.append(meet((xs[i], ids[i], kinds[i] if kinds else None, counts[i]), j))
        return share * torch.stack(fused).mean() + (1 - share) * torch.stack(pairs).mean()


def _check(share: float, size: int) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"share is the part of the fused rows in the loss, 0 to 1; got {share}")
    if size < 2:
        raise ValueError(f"size is how many modalities are fused, two at least; got {size}")


@final
class ConFu(ClipTemperature):
    """``confu`` with its fusion heads and a learned temperature, from 1/0.07 up to 100. In a config::

        terms:
          fused: {loss: {class_path: align.losses.ConFu, init_args: {share: 0.5}}, between: [audio, image, text]}

    A head is an MLP with one hidden layer over the rows laid end to end, its output at unit length. The paper's reads
    the encoders' features and has dropout. This one reads the embeddings. ``start`` makes a head for each combination
    of ``size`` places in ``between``, so the sets of one term share their heads by place.

    Scoring reads the pairs alone, at the learned scale: a model folder holds no heads. ``fuse`` gives the fused query,
    to be held against a third modality by cosine. The heads' weights are in the run's checkpoints with the objective.

    share: of the fused part, above 0 and below 1. Without pairs there would be nothing to score by.
    size: as in ``confu``.
    hidden: units of the hidden layer. None: 4·D.
    start_scale, max_scale, learn_scale: None takes the values above.
    """

    kind = "fused"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self,
        share: float = 0.5,
        size: int = 2,
        hidden: int | None = None,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        _check(share, size)
        if not 0 < share < 1:
            raise ValueError(f"share is above 0 and below 1, so that pairs are trained for scoring too; got {share}")
        if hidden is not None and hidden < 1:
            raise ValueError(f"hidden is at least one unit; got {hidden}")
        self.share, self.size, self.hidden = share, size, hidden
        self.places: list[tuple[int, ...]] = []
        for name in HEAD:
            self.register_parameter(name, None)

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set CLIP's scale and limit, and make a head for each combination of places."""
        super().start(dim, modalities, batch)
        self.places = [*itertools.combinations(range(modalities), self.size)]
        hidden, wide = self.hidden or 4 * dim, self.size * dim
        shapes = ((hidden, wide), (hidden,), (dim, hidden), (dim,))
        for name, shape in zip(HEAD, shapes, strict=True):  # one tensor for all heads
            bound = 0.0 if len(shape) == 1 else math.sqrt(3 / shape[1])  # weights have a variance of 1 / fan-in
            values = (2 * torch.rand(len(self.places), *shape) - 1) * bound
            setattr(self, name, nn.Parameter(values.to(self.log_scale)))

    def fuse(self, rows: Sequence[Tensor], of: Sequence[int]) -> Tensor:
        """Return the fused rows (n, D), unit vectors in float32 at least.

        rows: ``size`` tensors (n, D), row i of each of one sample. of: their places in ``between``, growing.
        Raises ValueError for places that have no head.
        """
        if tuple(of) not in self.places:
            had = (
                ", ".join(map(str, self.places)) or "none yet: call start(dim, modalities, batch) once before training"
            )
            raise ValueError(f"ConFu has no head for the places {tuple(of)}; it has {had}")
        head = self.places.index(tuple(of))
        *xs, _ = at_least_float32([*rows, self.log_scale])
        with exact(xs[0]):
            weights = [getattr(self, name)[head].to(xs[0]) for name in HEAD]
            hidden = F.gelu(F.linear(torch.cat(xs, 1), *weights[:2]))  # (n, hidden)
            return F.normalize(F.linear(hidden, *weights[2:]), dim=1)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of M sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        return confu(
            embeddings,
            self.fuse,
            self.scale,
            share=self.share,
            size=self.size,
            samples=samples,
            groups=groups,
            weights=weights,
            part=part,
            merge=merge,
        )
