"""Layered: an encoder whose tokens are the features of some of its layers, and the encoder cut after one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders.inside import Around, replace
from align.values import Features, Values


@final
class Layered(Around):
    """An encoder of blocks with the features (n, K, W) of K of its layers as tokens: 2-D Matryoshka's (Li et al. 2024,
    arXiv:2402.14776, section 3.1), whose every layer has the embedding that the encoder would give if it ended there.

    The features of a layer pass the encoder's last norm and its pooling. Each block runs once, the parts before and
    after the blocks once a layer. `align.losses.Layers` trains the layers. `align.model.layers.at_layer` gives the
    model whose tower ends after one. The tower's head reads pooled features, such as Linear and MLP: a head that pools
    tokens would mix the layers. ::

        encoder:
          class_path: align.encoders.Layered
          init_args:
            encoder: {class_path: align.encoders.TransformerText, init_args: {depth: 6}}
            layers: [2, 4, 6]

    encoder: any with a list of its blocks: TransformerText, Series and PointTransformer, a vision transformer of timm.
    layers: growing numbers of blocks. The last is all of them.
    blocks: path of the list in the encoder. ``model.blocks`` is that of TimmImage.

    Raises ValueError for layers that are others, and where there is no list at the path.
    """

    def __init__(self, encoder: nn.Module, layers: Sequence[int], blocks: str = "blocks"):
        super().__init__(encoder)
        depth = len(find_blocks(encoder, blocks))
        if not layers or layers[0] < 1 or any(a >= b for a, b in itertools.pairwise(layers)) or layers[-1] != depth:
            raise ValueError(f"layers are growing numbers from 1 to {depth}, the last of all blocks; got {[*layers]}")
        self.layers, self.blocks = layers, blocks

    def encode(self, values: Values) -> Features:
        pooled = torch.stack([*self._each(values)], 1)  # (n, K, W)
        return Features(pooled[:, -1], pooled)

    def _each(self, values: Values) -> Iterator[Tensor]:
        """Yield the features (n, W) of each layer. A layer begins with the output of the one before."""
        blocks, before = [*find_blocks(self.encoder, self.blocks)], None
        for start, stop in itertools.pairwise([0, *self.layers]):
            kept = _Keep(blocks[stop - 1])
            first = [] if before is None else [_Resume(before)]
            yield replace_blocks(self.encoder, self.blocks, [*first, *blocks[start : stop - 1], kept])(values).pooled
            before = kept.output


class _Keep(nn.Module):
    """A block that keeps its output."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block
        self.output: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.output = self.block(*args, **kwargs)
        return self.output


class _Resume(nn.Module):
    """A block that gives what an earlier one kept."""

    def __init__(self, output: Any):
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.output


def cut_after(encoder: Layered, layer: int) -> nn.Module:
    """Return the encoder inside as it ends after a layer, with the same parameters and no others.

    Raises ValueError for a layer that is none of the encoder's.
    """
    if layer not in encoder.layers:
        raise ValueError(f"the layers are {', '.join(map(str, encoder.layers))}; got {layer}")
    made = replace_blocks(encoder.encoder, encoder.blocks, [*find_blocks(encoder.encoder, encoder.blocks)][:layer])
    if hasattr(made, "depth"):
        made.depth = layer
    return made


def replace_blocks(encoder: nn.Module, path: str, blocks: Sequence[nn.Module]) -> Any:
    """Return the encoder with other blocks at a path, and all of its other parts. It does not change itself."""
    inside = find_blocks(encoder, path)
    return replace(
        encoder, path, nn.Sequential(*blocks) if isinstance(inside, nn.Sequential) else nn.ModuleList(blocks)
    )


def find_blocks(encoder: nn.Module, path: str) -> nn.ModuleList | nn.Sequential:
    """Return an encoder's list of blocks. Raises ValueError where there is none at the path."""
    found: Any = encoder
    for name in path.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, nn.ModuleList | nn.Sequential) or not len(found):
        raise ValueError(f"{type(encoder).__name__} has no list of blocks at {path!r}; blocks= names its path")
    return found
