"""Layers: a loss at several layers of the encoders."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.loss import Given, Loss, apply
from align.losses.wrappers.wrapper import Wrapper


@final
class Layers(Wrapper):
    """The weighted sum of a loss over layers of ``align.encoders.Layered``:

        Σ_l w_l · loss(x of layer l)

    Around Matryoshka it is 2-D Matryoshka (Li et al. 2024, arXiv 2402.14776, section 3.2): the loss at each layer and
    each prefix. The paper draws one earlier layer and one prefix a step, and pulls the earlier layer's scores to the
    last one's; here all are summed, and nothing is drawn or pulled. ::

        pairs:
          loss:
            class_path: align.losses.Layers
            init_args:
              layers: [2, 4, 6]
              of: [text]
              loss:
                class_path: align.losses.Matryoshka
                init_args: {dims: [16, 64], loss: {class_path: align.losses.InfoNCE}}
          between: [image, text]

    Each layer has a temperature. The earlier ones hold copies of ``loss``. ``scale`` and ``bias`` are those of the last
    layer, which scoring reads. A modality without layers gives its whole embeddings at each.

    loss: the loss of the last layer. It reads no tokens, as the layers are the tokens of their rows.
    layers: those of the encoders, growing. of: the modalities with layers. None: all. Without ``between`` modalities
        are "0", "1", …
    weights: one for each layer. None: 1 each.

    Raises ValueError for layers and weights that do not fit, and in the forward pass for rows of another number of
    layers and for a call between none of ``of``.
    """

    def __init__(
        self, loss: nn.Module, layers: list[int], of: list[str] | None = None, weights: list[float] | None = None
    ):
        super().__init__(loss)
        if self.needs_tokens:
            raise ValueError(f"Layers goes around losses of embeddings; {type(loss).__name__} reads tokens")
        if self.needs_numbers:
            raise ValueError(f"Layers goes not around {type(loss).__name__}, whose stored rows are of the last layer")
        if not layers or layers[0] < 1 or any(a >= b for a, b in itertools.pairwise(layers)):
            raise ValueError(f"layers are growing numbers of blocks, as in [2, 4, 6]; got {layers}")
        if weights is not None and len(weights) != len(layers):
            raise ValueError(f"weights has one number for each of the {len(layers)} layers; got {len(weights)}")
        if weights is not None and not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(f"weights are numbers of at least 0; got {weights}")
        self.layers, self.of, self.weights = layers, of, weights
        self.needs_tokens = True
        self.earlier = nn.ModuleList(copy.deepcopy(loss) for _ in layers[:-1])
        self._names: tuple[str, ...] | None = None

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start each layer's loss."""
        for loss in self._each():
            loss.start(dim, modalities, batch)

    def clamp_(self) -> None:
        """Clamp every layer's temperature. Call it after the optimiser's step."""
        for loss in self._each():
            loss.clamp_()

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls to every layer's loss. Raises ValueError where none has layers."""
        if self.of is not None and not {*self.of} & {*modalities}:
            raise ValueError(f"of names {', '.join(self.of)}; a call is between {', '.join(modalities)}")
        self._names = tuple(modalities)
        for loss in self._each():
            loss.between(modalities)

    def find_read_tokens(self, modalities: Sequence[str]) -> list[str]:
        """Return the modalities with layers, which are the tokens of their rows."""
        return [m for m in modalities if self.of is None or m in self.of]

    def set_negatives(self, kind: str | int) -> None:
        """Set the kind of negatives of every layer's loss."""
        for loss in self._each():
            loss.set_negatives(kind)

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes of every layer's loss."""
        for loss in self._each():
            loss.name_classes(names)

    def around(self, given: Given) -> Tensor:
        """Return the weighted sum of the layers' losses."""
        check_embeddings(given.embeddings)
        if given.tokens is None:
            raise ValueError("Layers reads layers as tokens: call it with tokens=[(layers (n, K, D), mask), ...]")
        names = self._names or [str(m) for m in range(len(given.samples))]
        inside = [self.of is None or name in self.of for name in names]
        for name, has, (x, _) in zip(names, inside, given.tokens, strict=True):
            if has and x.shape[1] != len(self.layers):
                raise ValueError(f"layers are {self.layers}; each row of {name} has {x.shape[1]} of them")
        parts = []
        for k, (loss, factor) in enumerate(zip(self._each(), self.weights or [1.0] * len(self.layers), strict=True)):
            rows = [
                layers[:, k] if has and k + 1 < len(self.layers) else x
                for x, (layers, _), has in zip(given.embeddings, given.tokens, inside, strict=True)
            ]
            parts.append(factor * apply(loss, given._replace(embeddings=rows, tokens=None)))
        return torch.stack(parts).sum()

    def _each(self) -> list[Loss]:
        return [cast(Loss, loss) for loss in [*self.earlier, self.loss]]
