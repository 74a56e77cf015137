"""``ulip2``: ULIP-2's point tower of PointBERT, for coloured points (Xue et al. 2023, arXiv:2305.08275)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.encoders import PointBERT
from align.encoders.weight_values import read_scale
from align.encoders.weights import checksum, pick_weights, put_weights, read_keys
from align.heads import Linear
from align.model import JointModel, Tower
from align.published.layouts import check_layout
from align.published.point_towers import count_blocks, count_heads, flatten_singles, translate
from align.published.shapes import read_shape
from align.values import Origin, TermInfo

TOWER, BLOCKS, PROJECTION, SCALE = "point_encoder.", "point_encoder.blocks.blocks.", "pc_projection", "logit_scale"
CLIP = "open_clip_model."
"""Prefix of the CLIP model that the tower was aligned to, where a file holds it."""
SLIP = "token_embedding.weight"
"""A name of ULIP's files that hold towers of SLIP for pictures and texts."""
NAMES = {
    r"start": "cls_token",
    r"start_place": "cls_pos",
    r"patches\.net\.(first|second)\.(\d)": r"encoder.\1_conv.\2",
    r"patches\.lift": "reduce_dim",
    r"patches\.place\.(\d)": r"pos_embed.\1",
    r"blocks\.(\d+)\.(norm1|norm2)": r"blocks.blocks.\1.\2",
    r"blocks\.(\d+)\.qkv": r"blocks.blocks.\1.attn.qkv",
    r"blocks\.(\d+)\.out": r"blocks.blocks.\1.attn.proj",
    r"blocks\.(\d+)\.up": r"blocks.blocks.\1.mlp.fc1",
    r"blocks\.(\d+)\.down": r"blocks.blocks.\1.mlp.fc2",
}
"""Our names, as patterns, -> the published ones."""


def load(source: str) -> JointModel:
    """Return a model of one tower, ``points``, with the learned scale of its terms with pictures and texts.

    source: ULIP-2-PointBERT-10k-xyzrgb-pc-vit_g-objaverse_shapenet-pretrained.pt. Names are ``module.point_encoder.…``
    in a "state_dict", beside an ``argparse.Namespace`` and an optimizer's state, which are left out. So is the CLIP
    model, ``module.open_clip_model.…``, where the file holds it: it is open_clip's ViT-bigG-14/laion2b_s39b_b160k,
    1280-d, which ``--beside`` joins to the tower.

    The traps: the kernel that samples centres skips points at |x|² ≤ 1e-3, positions are added before every block, and
    queries, keys and values have no biases. 512 groups of 32 are no tensors.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged file, for weights of another layout,
    and for ULIP's files with SLIP's towers: ULIP-2's release of xyz alone, 512-d, is such a one.
    """
    path = Path(source)
    keys = read_keys(path)
    check_layout("ulip2", keys, source)
    if SLIP in keys:
        raise ValueError(
            f"{source} holds ULIP's point tower in the space of SLIP's towers ({SLIP}), as the release of xyz alone "
            "does; ulip2 reads the release of coloured points, in the space of ViT-bigG-14"
        )
    tensors = pick_weights(path, lambda name: not name.startswith(CLIP))
    apart = {name: tensors.pop(name) for name in (PROJECTION, SCALE) if name in tensors}
    if SCALE not in apart:
        raise ValueError(f"{source} does not fit the model: 1 missing: {SCALE}")
    scale = read_scale(apart[SCALE], SCALE, path)
    with torch.device("meta"):  # no memory for sizes that do not fit
        encoder = PointBERT("ulip2", **read_sizes(tensors, source))
    put_weights(encoder, flatten_singles(tensors), source, names=lambda name: TOWER + translate(name, NAMES))
    encoder.origin = Origin(source, checksum(path))
    _, dim = read_shape(apart, PROJECTION, 2, source)
    model = JointModel({"points": Tower(None, encoder, partial(Linear, bias=False))}, dim)
    head = model.towers["points"].head.project
    put_weights(head, {PROJECTION: apart[PROJECTION].T}, source, names=lambda name: PROJECTION)
    model.terms = [TermInfo(("points", other), "pairwise", scale) for other in ("text", "image")]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of a PointBERT of ULIP: its groups' layers and its blocks."""
    return all(any(key.startswith(part) for key in keys) for part in (f"{TOWER}encoder.", BLOCKS))


def read_sizes(tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return the arguments of the encoder that shapes state. Raises ValueError for tensors that are missing."""
    *_, width = read_shape(tensors, f"{TOWER}cls_token", 3, where)
    (hidden,) = read_shape(tensors, f"{BLOCKS}0.mlp.fc1.bias", 1, where)
    (patch_width,) = read_shape(tensors, f"{TOWER}encoder.second_conv.3.bias", 1, where)
    return {
        "channels": read_shape(tensors, f"{TOWER}encoder.first_conv.0.weight", 3, where)[1],
        "block_width": width,
        "depth": count_blocks(tensors, BLOCKS),
        "heads": count_heads(width, where),
        "hidden": hidden,
        "patch_width": patch_width,
    }
