"""The average of several files of weights, one tensor at a time, so that memory holds no whole model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from align.soup.ingredients import Ingredient

COUNTER = "num_batches_tracked"  # of a BatchNorm: no value of the network depends on it


def each_average(
    ingredients: Sequence[Ingredient], weights: Sequence[float], names: Sequence[str]
) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield (name, Σ wᵢ·xᵢ, True where all xᵢ are equal) for each name, with the precision and shape of the first xᵢ.

    The sum is taken in float64. Equal tensors stay as they are to the bit, as does that of an ingredient with all the
    weight. Whole numbers have no average: those of all ingredients are equal. Counters of batches are the largest.

    Raises ValueError for whole numbers that differ, with the two models.
    """
    from safetensors import safe_open

    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(one.weights, "pt")) for one in ingredients]
        for name in names:
            first = files[0].get_tensor(name)
            if not first.is_floating_point():
                yield name, _check_whole(name, [file.get_tensor(name) for file in files], ingredients), True
                continue
            total, same = torch.zeros(first.shape, dtype=torch.float64), True
            for file, weight in zip(files, weights, strict=True):
                x = file.get_tensor(name)
                same = same and torch.equal(x, first)
                if weight:
                    total.add_(x.double(), alpha=weight)
            yield name, first if same else total.to(first.dtype), same


def _check_whole(name: str, tensors: Sequence[Tensor], ingredients: Sequence[Ingredient]) -> Tensor:
    if name.rpartition(".")[2] == COUNTER:
        return torch.stack(list(tensors)).amax(0)
    for x, one in zip(tensors, ingredients, strict=True):
        if not torch.equal(x, tensors[0]):
            raise ValueError(
                f"{ingredients[0].name} and {one.name} have other whole numbers in {name}, which have no average"
            )
    return tensors[0]
