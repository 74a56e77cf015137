"""``openshape``: OpenShape's point towers of PointBERT (Liu et al. 2023, arXiv:2305.10764)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.encoders import PointBERT
from align.encoders.pickles import read_pickle
from align.encoders.weight_values import read_scale
from align.encoders.weights import checksum, put_weights, read_weights
from align.heads import Identity, Linear
from align.model import JointModel, Tower
from align.published.layouts import check_layout
from align.published.point_towers import count_blocks, count_heads, flatten_singles, translate
from align.published.shapes import read_shape
from align.values import Origin, TermInfo

FIRST = "sa.mlp_convs.0.weight"
MARKS = re.compile(r"(.*\.|)sa\.mlp_convs\.\d+\.weight"), re.compile(r"(.*\.|)transformer\.layers\.\d+\.0\.fn\..+")
"""Names of the groups' layers and of the attention, behind the prefix of the tower."""
DEMO = "pc_encoder."
"""Prefix of the two files of the demos, vitl14 and vitb32. They read y-up rows, and have groups of their own."""
SIZES: dict[tuple[int, ...], tuple[int, float, int]] = {  # of the training code, by its scaling, 1 to 6
    (256, 6, 1024, 96): (64, 0.4, 256),
    (512, 6, 1024, 128): (64, 0.4, 256),
    (512, 12, 1024, 128): (128, 0.35, 128),
    (512, 12, 1536, 256): (384, 0.2, 64),
    (768, 12, 2304, 256): (512, 0.2, 64),
    (768, 24, 3072, 256): (512, 0.2, 64),
}
"""Width, depth, width of the MLP and of a group -> groups, their radius and their points, which no tensor states."""
GROUPS, DEMO_GROUPS = SIZES[512, 12, 1536, 256], (64, 0.4, 256)
NAMES = {
    r"start": "cls_token",
    r"patches\.layers\.(\d+)": r"sa.mlp_convs.\1",
    r"patches\.norms\.(\d+)": r"sa.mlp_bns.\1",
    r"patches\.lift": "lift.0",
    r"patches\.norm": "lift.2",
    r"blocks\.(\d+)\.norm1": r"transformer.layers.\1.0.norm",
    r"blocks\.(\d+)\.qkv": r"transformer.layers.\1.0.fn.to_qkv",
    r"blocks\.(\d+)\.out": r"transformer.layers.\1.0.fn.to_out.0",
    r"blocks\.(\d+)\.norm2": r"transformer.layers.\1.1.norm",
    r"blocks\.(\d+)\.up": r"transformer.layers.\1.1.fn.net.0",
    r"blocks\.(\d+)\.down": r"transformer.layers.\1.1.fn.net.3",
}
"""Our names, as patterns, -> the published ones."""


def load(source: str) -> JointModel:
    """Return a model of one tower, ``points``, and where the file holds the learned scale, its terms with pictures and
    texts.

    source: a model.pt of OpenShape. Two kinds of file are read. Those of the training code (pointbert-vitg14-rgb,
    -no-lvis, -shapenet) have ``module.ppat`` and ``module.proj`` in a "state_dict", and their space is open_clip's
    ViT-bigG-14/laion2b_s39b_b160k, 1280-d. Those of the demos have ``pc_encoder.``: vitl14 in OpenAI's ViT-L/14, 768-d,
    and vitb32 in OpenAI's ViT-B/32, 512-d, without a projection. Other parts of a demo's file are left out.

    The traps: the demos' files have 64 groups of 256 within .4, the others 384 of 64 within .2. No tensor says so, and
    none says that the demos read y-up rows, where the others have y and z swapped. Sampling starts at a random point in
    the original, here at the first. The MLP of a block is three times as wide, twice in the demos' files.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged file, for weights of another layout,
    and for a space that is not the CLIP model's own.
    """
    path = Path(source)
    tensors = read_weights(path)
    check_layout("openshape", tensors, source)
    demo = any(name.startswith(DEMO) for name in tensors)
    scale = _read_scale(path, tensors)
    if demo:
        tensors = {name: x for name, x in tensors.items() if name.startswith(DEMO)}
    prefix = next(found[1] for name in tensors if (found := MARKS[0].fullmatch(name)))
    outer = prefix.removesuffix("ppat.") if prefix.endswith("ppat.") else None  # None: no projection
    inner = {name: x for name, x in tensors.items() if outer is None or not name.startswith(f"{outer}proj.")}
    with torch.device("meta"):  # no memory for sizes that do not fit
        encoder = PointBERT("openshape", **read_sizes(inner, prefix, demo, source))
    put_weights(encoder, flatten_singles(inner), source, names=lambda name: prefix + translate(name, NAMES))
    encoder.origin = Origin(source, checksum(path))
    if outer is None:
        model = JointModel({"points": Tower(None, encoder, Identity)}, encoder.width)
    else:
        projection = {name: x for name, x in tensors.items() if name not in inner}
        (dim,) = read_shape(projection, f"{outer}proj.bias", 1, source)
        model = JointModel({"points": Tower(None, encoder, partial(Linear, bias=True))}, dim)
        head = model.towers["points"].head.project
        put_weights(head, projection, source, names=lambda name: f"{outer}proj.{name}")
    if scale is not None:
        model.terms = [TermInfo(("points", other), "pairwise", scale) for other in ("text", "image")]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of OpenShape's PointBERT: set abstraction before its transformer."""
    return all(any(map(mark.fullmatch, keys)) for mark in MARKS)


def read_sizes(tensors: Mapping[str, Tensor], prefix: str, demo: bool, where: str) -> dict[str, Any]:
    """Return the arguments of the encoder that shapes state, with the groups that were published for them.

    prefix: before the tower's names. Raises ValueError for tensors that are missing or of other dimensions.
    """
    layers = f"{prefix}transformer.layers."
    (width,) = read_shape(tensors, f"{prefix}cls_token", 1, where)
    (hidden,) = read_shape(tensors, f"{layers}0.1.fn.net.0.bias", 1, where)
    (patch_width,) = read_shape(tensors, f"{prefix}sa.mlp_convs.2.bias", 1, where)
    channels = read_shape(tensors, f"{prefix}{FIRST}", 4, where)[1] - 3
    depth = count_blocks(tensors, layers)
    groups, radius, neighbours = DEMO_GROUPS if demo else SIZES.get((width, depth, hidden, patch_width), GROUPS)
    return {
        "channels": channels,
        "block_width": width,
        "depth": depth,
        "heads": count_heads(width, where),
        "hidden": hidden,
        "patch_width": patch_width,
        "groups": groups,
        "neighbours": neighbours,
        "radius": radius,
        "preprocess": {"swap": False} if demo else None,
    }


def _read_scale(path: Path, tensors: Mapping[str, Tensor]) -> float | None:
    """Return the learned scale, which stands beside the tower's tensors, None where there is none."""
    content = {} if path.suffix == ".safetensors" else read_pickle(path)
    for part in ("text_proj", "image_proj"):
        if content.get(part) is not None:
            raise ValueError(f"{path} holds {part}: its space is not that of a CLIP model, but of a projection of it")
    kept = content.get("logit_scale")
    found = {**tensors, **(kept if isinstance(kept, dict) else {} if kept is None else {"logit_scale": kept})}
    name = next((name for name in found if str(name).rpartition(".")[2] == "logit_scale"), None)
    if name is None:
        return None
    if not isinstance(found[name], Tensor):
        raise ValueError(f"{path} holds no tensor {name}, but a {type(found[name]).__name__}")
    return read_scale(found[name], name, path)
