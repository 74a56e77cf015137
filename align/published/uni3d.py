"""``uni3d``: Uni3D's point towers, sizes ti, s, b, l and g (Zhou et al. 2023, arXiv:2310.06773)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.encoders import Uni3D
from align.encoders.uni3d import Kind
from align.encoders.weight_values import read_scale
from align.encoders.weights import checksum, listing, put_weights, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.published.layouts import check_layout
from align.values import Origin, TermInfo

INSIDE, BLOCKS = "point_encoder.", "point_encoder.visual.blocks."
SCALE = "logit_scale"
NAMES = {
    "start": "cls_token",
    "start_place": "cls_pos",
    "patch.first": "encoder.first_conv",
    "patch.second": "encoder.second_conv",
    "widen": "encoder2trans",
    "place": "pos_embed",
    "blocks": "visual.blocks",
    "norm": "visual.fc_norm",
    "project": "trans2embed",
}
"""Parts of our names -> the published ones."""
PICTURES = ("visual.patch_embed.proj", "visual.cls_token", "visual.pos_embed", "visual.head")
"""Tensors of the vision transformer that only pictures need, and that the published files still hold."""
HEAD_WIDTH = {"eva": 88, "eva02": 64, "eva02-norm": 64}
"""Width of a head of attention in timm's models, which no tensor states: g has 16 of 88, the others have 64 each."""
LICENCES: dict[str, str] = dict.fromkeys(
    (
        *("6ff7e821", "4acc1369"),  # ti, trained with LVIS and without
        *("9a6342fd", "b0198692"),  # s
        *("bb533f91", "da0da5bc"),  # b
        *("540a3caf", "b3bbdb3e"),  # l
        *("aa1f163b", "6ab35a98"),  # g
        *("f0d8ecd0", "bcbcd6be", "d2b26da8"),  # g, best on LVIS, ModelNet40 and ScanObjectNN
    ),
    "MIT",
)
"""First digits of the SHA-256 of the published files, as BAAI/Uni3D on the hub has them, -> licence."""


def load(source: str) -> JointModel:
    """Return a model of one tower, ``points``, with the learned scale of its terms with texts and with pictures.

    source: a file such as ``modelzoo/uni3d-g/model.pt``. Its tensors stand under "module", in float16, and become
    float32. Shapes say which size it is. Other names that are read: with ``module.`` before them, and without
    "module" around them. The CLIP model that it was aligned to is open_clip's EVA02-E-14-plus/laion2b_s9b_b144k, which
    ``--beside`` joins to it.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged file, for weights of another layout
    and for names or shapes that do not fit.
    """
    path = Path(source)
    tensors = read_weights(path)
    check_layout("uni3d", tensors, source)
    if SCALE not in tensors:
        raise ValueError(f"{source} does not fit the model: 1 missing: {SCALE}")
    scale = read_scale(tensors.pop(SCALE), SCALE, path)
    with torch.device("meta"):  # weights that are read need no random ones
        encoder = Uni3D(**read_sizes(tensors, source))
    put_weights(encoder, reshape(tensors), source, names=published_name)
    kept = encoder.state_dict()
    for name, x in encoder.named_buffers():
        if name not in kept:
            x.zero_()  # a key's bias, which no file holds
    digits = checksum(path)
    encoder.origin = Origin(source, digits, LICENCES.get(digits[:8], "unstated"))
    model = JointModel({"points": Tower(None, encoder, Identity)}, encoder.width)
    model.terms = [TermInfo(("points", other), "pairwise", scale) for other in ("text", "image")]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of Uni3D's tower: its bridges around the blocks of a ViT."""
    bridges = f"{INSIDE}encoder2trans.", f"{INSIDE}trans2embed."
    return any(key.startswith(bridges) for key in keys) and any(key.startswith(BLOCKS) for key in keys)


def read_sizes(tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return the arguments of the encoder that the shapes of published tensors state. where: the file, for messages.

    Raises ValueError for tensors that are missing, and for a width that is no number of heads.
    """
    widths = [f"encoder.{part}_conv.{i}.weight" for part in ("first", "second") for i in (0, 3)]
    needed = [f"{INSIDE}{name}" for name in (*widths, "trans2embed.weight", "visual.blocks.0.mlp.fc2.weight")]
    if missing := [name for name in needed if name not in tensors]:
        raise ValueError(f"{where} does not fit the model: {len(missing)} missing: {listing(missing)}")
    if odd := [f"{name} {tuple(tensors[name].shape)}" for name in needed if tensors[name].ndim < 2]:
        raise ValueError(f"{where} has {len(odd)} tensors of another shape: {listing(odd)}")
    *patch, (width, block_width), (_, hidden) = (tensors[name].shape[:2] for name in needed)
    kind = _recognise(tensors, hidden)
    heads, rest = divmod(block_width, HEAD_WIDTH[kind])
    if rest:
        raise ValueError(f"{where} is {block_width} wide, which is no number of heads of {HEAD_WIDTH[kind]} ({kind})")
    blocks = {found[1] for name in tensors if (found := re.match(rf"{re.escape(BLOCKS)}(\d+)\.", name))}
    return {
        "width": width,
        "kind": kind,
        "block_width": block_width,
        "depth": len(blocks),
        "heads": heads,
        "hidden": hidden,
        "patch_widths": [size[0] for size in patch],
    }


def published_name(name: str) -> str:
    """Return the published name of one of the encoder's tensors."""
    part = next(part for part in NAMES if name == part or name.startswith(f"{part}."))
    return f"{INSIDE}{NAMES[part]}{name.removeprefix(part)}"


def reshape(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors in the encoder's shapes, without those that only pictures need."""
    found = {}
    for name, x in tensors.items():
        inner = name.removeprefix(INSIDE)
        if inner.startswith(PICTURES):
            continue
        if inner.startswith(("encoder.first_conv", "encoder.second_conv")) and x.ndim == 3 and x.shape[2] == 1:
            x = x[..., 0]  # a convolution over single points is a linear layer
        elif inner in ("cls_token", "cls_pos"):
            x = x.flatten()
        found[name] = x
    return found


def _recognise(tensors: Mapping[str, Tensor], hidden: int) -> Kind:
    """Return the kind of the blocks. hidden: width inside their MLP, half of SwiGLU's matrix in one."""
    packed = tensors.get(f"{BLOCKS}0.mlp.fc1.weight")
    if packed is None:
        return "eva02-norm"
    return "eva02" if packed.shape[:1] == (2 * hidden,) else "eva"
