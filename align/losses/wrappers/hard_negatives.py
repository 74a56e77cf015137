"""HardNegatives: a weight for rows that were made to mislead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from align.losses.infonce import InfoNCE
from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.loss import Given, apply
from align.losses.siglip import SigLIP
from align.losses.symile import Symile
from align.losses.wrappers.wrapper import Wrapper


@final
class HardNegatives(Wrapper):
    """A loss that counts rows of sample id -1 by a weight. They are the shard's hard negatives, ``0001.text.neg.txt``.

    Each line of the file is a row. Every loss takes such rows for negatives of all anchors, which is NegCLIP's
    objective (Yuksekgonul et al. 2023, arXiv 2210.01936, section 4). An image meets all captions and all altered
    captions, those of its own caption among them. An altered caption is no anchor. The wrapper adds log(weight) to
    their logits. In a softmax each then counts as ``weight`` rows, in SigLIP exp(s + bias) counts ``weight`` times, and
    a tuple of Symile with k such rows counts weight^k times. Use it where they are few against the batch. It costs M
    more coordinates.

    In a config:

        pair:
          loss:
            class_path: align.losses.HardNegatives
            init_args:
              weight: 3.0
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    The logit is a product of rows, so each modality m gets one more coordinate: log(weight) / scale in its rows of id
    -1, 0 in its other rows, and 1 in all other modalities. That holds for InfoNCE, SigLIP and Symile and for no wrapper
    that stores, cuts or mixes rows, so this one is the innermost. Rows of id -1 that wrappers around it add (a queue's,
    mixed ones) get the weight too.

    It cannot hold a hard negative against the anchor of its sample alone: a row of id -1 does not say whose it is.

    loss: InfoNCE, SigLIP or Symile without stand-ins and ``spread``.
    weight: above 0. At 1 the loss is unchanged.

    Raises ValueError for another loss or weight.
    """

    def __init__(self, loss: nn.Module, weight: float = 1.0):
        super().__init__(loss)
        if not isinstance(loss, InfoNCE | SigLIP | Symile):
            raise ValueError(
                f"HardNegatives goes around InfoNCE, SigLIP or Symile itself, inside all other wrappers; "
                f"got {type(loss).__name__}"
            )
        if isinstance(loss, Symile) and (loss.missing == "learned" or loss.spread):
            raise ValueError(
                "HardNegatives adds coordinates to the rows, which Symile's stand-ins and spread cannot have: "
                "give it Symile(missing='complete', spread=0)"
            )
        if not 0 < weight < math.inf:
            raise ValueError(f"weight is a positive number; got {weight}")
        self.weight = weight

    def around(self, given: Given) -> Tensor:
        """Return the inner loss of rows with M more coordinates, where the weight is not 1."""
        if self.weight != 1:
            given = given._replace(embeddings=self._add_coordinates(given.embeddings, given.samples))
        return apply(self.loss, given)

    def _add_coordinates(self, embeddings: Sequence[Tensor], samples: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows (n_m, D + M) with the coordinates that carry the weight."""
        check_embeddings(embeddings)
        with exact(embeddings[0]):
            xs = at_least_float32(embeddings)
            more = math.log(self.weight) / self.scale.to(xs[0])  # (1,)
            wider = []
            for m, (x, sample) in enumerate(zip(xs, samples, strict=True)):
                extra = torch.where(sample.to(x.device) < 0, more, 0)  # (n_m,)
                columns = [extra if k == m else torch.ones_like(extra) for k in range(len(xs))]
                wider.append(torch.cat([x, torch.stack(columns, dim=1)], dim=1))  # (n_m, D + M)
            return wider
