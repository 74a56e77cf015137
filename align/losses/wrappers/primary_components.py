"""PrimaryComponents: a loss that sees the large components of one modality's rows, and not the details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32, exact, one_dtype
from align.losses.loss import Given, apply
from align.losses.wrappers.memory_queue import MemoryQueue
from align.losses.wrappers.wrapper import Wrapper


def keep_components(x: Tensor, k: int) -> Tensor:
    """Return rows (n, D) of which the k largest principal components are left (Zhang et al. 2024, Long-CLIP,
    arXiv:2403.15378, section 3.2):

        μ + V Vᵀ (x - μ),  V the k first eigenvectors of the rows' covariance, μ their mean

    Rows that are all unit vectors are made unit vectors again. μ and V are constants in the gradient: where eigenvalues
    are equal, as with fewer rows than D, an eigenvector has no derivative. With k >= min(n - 1, D) nothing is left out,
    nor where a row is not finite.
    """
    (x,) = at_least_float32([x])
    if k >= x.shape[1] or k >= len(x) - 1:
        return x
    with torch.no_grad():
        mean = x.mean(0)
        spread = (x - mean).T @ (x - mean)
        if not bool(spread.isfinite().all()):  # a step that is not finite is skipped; LAPACK would end the run
            return x
        _, vectors = torch.linalg.eigh(spread)  # the largest last
        V = vectors[:, -k:]  # (D, k)
        unit = ((torch.linalg.vector_norm(x, dim=1) - 1).abs() < 0.01).all()
    coarse = mean + (x - mean) @ V @ V.T
    return torch.where(unit, F.normalize(coarse, dim=1, eps=1e-6), coarse)


@final
class PrimaryComponents(Wrapper):
    """A loss in which one modality's rows keep their k largest principal components, as of a short caption's picture.

    It is Long-CLIP's matching of primary components (Zhang et al. 2024, arXiv:2403.15378, section 3.2). A short caption
    names the main attributes of a picture alone. Trained with long captions, a picture's row holds the details too, and
    the short caption would have to guess them. So a second term compares it with the large components of the row.

    In a config, where ``long`` and ``text`` are long and short captions of one encoder:

        long: {loss: align.losses.InfoNCE, between: [image, long]}
        short:
          loss:
            class_path: align.losses.PrimaryComponents
            init_args: {k: 32, of: image, loss: {class_path: align.losses.InfoNCE}}
          between: [image, text]

    The components are those of all rows of the call, on all ranks, hard negatives included, each counted alike. Scoring
    reads the term with whole rows. Tokens are not changed.

    loss: any loss, or a wrapper around one, but a queue or a bank, whose rows are of other batches.
    k: components that are kept, at least 1. The paper keeps 32 of 512.
    of: the modality. Without ``between`` modalities are "0", "1", …

    Raises ValueError for another loss or k, and in the forward pass for a call without the modality.
    """

    def __init__(self, loss: nn.Module, k: int, of: str):
        super().__init__(loss)
        if k < 1:
            raise ValueError(f"k is a number of components of at least 1; got {k}")
        if self.needs_numbers or any(isinstance(part, MemoryQueue) for part in loss.modules()):
            outside = "MemoryQueue(PrimaryComponents(loss))"
            raise ValueError(f"PrimaryComponents goes inside MemoryQueue and Bank, not around them: {outside}")
        self.k, self.of = k, of
        self._names: tuple[str, ...] | None = None

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls."""
        self._names = tuple(modalities)
        super().between(modalities)

    def around(self, given: Given) -> Tensor:
        """Return the inner loss, of coarse rows of one modality and whole rows of the others."""
        check_embeddings(given.embeddings)
        names = self._names or tuple(str(i) for i in range(len(given.embeddings)))
        if self.of not in names:
            raise ValueError(f"PrimaryComponents reads {self.of!r}; the call has {', '.join(names)}")
        rows = [*given.embeddings]
        with exact(rows[0]):
            rows[names.index(self.of)] = keep_components(rows[names.index(self.of)], self.k)
        return apply(self.loss, given._replace(embeddings=one_dtype(rows)))
