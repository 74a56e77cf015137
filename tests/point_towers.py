"""Point towers in the published layouts of OpenShape and ULIP-2, tiny and with random weights, and clouds for them."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fill import fill_named
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
PROJECTED, DEMO, DEMO_BARE = "projected", "demo", "demo-bare"
OPENSHAPE: dict[str, dict[str, int]] = {  # kind of file -> sizes; all are small, but the groups are the published ones
    PROJECTED: {"width": 128, "depth": 2, "hidden": 192, "patch_width": 96, "dim": 24},
    DEMO: {"width": 128, "depth": 2, "hidden": 192, "patch_width": 64, "dim": 24},
    DEMO_BARE: {"width": 64 * 2, "depth": 1, "hidden": 64, "patch_width": 64, "dim": 0},
}
ULIP2 = {"width": 128, "depth": 2, "hidden": 512, "patch_width": 48, "dim": 24}
SCALE = 3.2
"""Logarithm of the learned scale in the files."""


def make_clouds(seed: int = 0, points: int = 10_000) -> list[np.ndarray]:
    """Return four clouds: a torus and a box with colours, a shell without, and one whose points also crowd its centre.

    ULIP-2's sampler never chooses such a point. Any other would, as the farthest from the rest.
    """
    draw = np.random.default_rng(seed)
    a, b = draw.uniform(0, 2 * np.pi, (2, points))
    torus = np.stack([(1 + 0.3 * np.cos(b)) * np.cos(a), (1 + 0.3 * np.cos(b)) * np.sin(a), 0.3 * np.sin(b)], 1)
    box = draw.uniform(-1, 1, (points, 3)) * [1, 0.5, 2]
    box[np.arange(points), draw.integers(0, 3, points)] = 1
    shell = draw.normal(size=(points, 3))
    shell /= np.linalg.norm(shell, axis=1, keepdims=True)
    crowd = shell[::-1] * [1, 2, 0.5]
    crowd[1 : points // 20] = draw.normal(size=(points // 20 - 1, 3)) * 0.008
    colours = [np.abs(torus) / 1.4, (np.sin(5 * box) + 1) / 2, None, draw.uniform(0, 1, (points, 3))]
    shapes = [torus, box, shell * [1, 1, 0.2], crowd]
    return [
        (x if c is None else np.concatenate([x, c], 1)).astype(np.float32) for x, c in zip(shapes, colours, strict=True)
    ]


def make_small_clouds() -> list[np.ndarray]:
    """Return four clouds of 700 points, for towers whose epsilons are to show."""
    return make_clouds(3, 700)


def openshape_shapes(width: int, depth: int, hidden: int, patch_width: int, dim: int, channels: int = 6) -> Shapes:
    """Return the names and shapes of a tower of OpenShape. Without dim it has no projection, and no ``ppat.``."""
    sizes, shapes = (3 + channels, 64, 64, patch_width), {"cls_token": (width,)}
    for i, (a, b) in enumerate(pairwise(sizes)):
        shapes |= {f"sa.mlp_convs.{i}.weight": (b, a, 1, 1), f"sa.mlp_convs.{i}.bias": (b,)}
        shapes |= _batch_norm(f"sa.mlp_bns.{i}", b)
    shapes |= {"lift.0.weight": (width, patch_width + 3, 1), "lift.0.bias": (width,), **_pair("lift.2", width)}
    for i in range(depth):
        layer = f"transformer.layers.{i}."
        shapes |= _pair(f"{layer}0.norm", width)
        shapes |= {f"{layer}0.fn.to_qkv.weight": (3 * width, width), f"{layer}0.fn.to_out.0.weight": (width, width)}
        shapes |= {f"{layer}0.fn.to_out.0.bias": (width,), **_pair(f"{layer}1.norm", width)}
        shapes |= {f"{layer}1.fn.net.0.weight": (hidden, width), f"{layer}1.fn.net.0.bias": (hidden,)}
        shapes |= {f"{layer}1.fn.net.3.weight": (width, hidden), f"{layer}1.fn.net.3.bias": (width,)}
    if not dim:
        return shapes
    shapes = {f"ppat.{name}": shape for name, shape in shapes.items()}
    return shapes | {"proj.weight": (dim, width), "proj.bias": (dim,)}


def ulip2_shapes(width: int, depth: int, hidden: int, patch_width: int, dim: int, channels: int = 6) -> Shapes:
    """Return the names and shapes of ULIP-2's tower, its projection and its scale, without the CLIP model."""
    sizes = {"encoder.first_conv.0": (128, channels, 1), "encoder.first_conv.3": (256, 128, 1)}
    sizes |= {"encoder.second_conv.0": (512, 512, 1), "encoder.second_conv.3": (patch_width, 512, 1)}
    sizes |= {"reduce_dim": (width, patch_width), "pos_embed.0": (128, 3), "pos_embed.2": (width, 128)}
    for i in range(depth):
        sizes |= {f"blocks.blocks.{i}.attn.proj": (width, width), f"blocks.blocks.{i}.mlp.fc1": (hidden, width)}
        sizes |= {f"blocks.blocks.{i}.mlp.fc2": (width, hidden)}
    shapes: Shapes = {"cls_token": (1, 1, width), "cls_pos": (1, 1, width), **_pair("norm", width)}
    for name, shape in sizes.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes |= _batch_norm("encoder.first_conv.1", 128) | _batch_norm("encoder.second_conv.1", 512)
    for i in range(depth):
        shapes |= _pair(f"blocks.blocks.{i}.norm1", width) | _pair(f"blocks.blocks.{i}.norm2", width)
        shapes[f"blocks.blocks.{i}.attn.qkv.weight"] = (3 * width, width)
    shapes = {f"point_encoder.{name}": shape for name, shape in shapes.items()}
    return shapes | {"pc_projection": (2 * width, dim), "logit_scale": ()}


def _pair(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _batch_norm(name: str, size: int) -> Shapes:
    return _pair(name, size) | {
        f"{name}.running_mean": (size,),
        f"{name}.running_var": (size,),
        f"{name}.num_batches_tracked": (),
    }


def fill_tower(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a tower, drawn by name. Counts of batches and the scale are constants."""
    counted = {name: torch.tensor(700) for name in shapes if name.endswith("num_batches_tracked")}
    scale = {name: torch.tensor(SCALE) for name in shapes if name == "logit_scale"}
    drawn = {name: shape for name, shape in shapes.items() if name not in counted and name not in scale}
    filled = fill_named(drawn, seed) | counted | scale
    return {name: filled[name] for name in shapes}


def save_openshape(tensors: dict[str, Tensor], kind: str, file: Path) -> Path:
    """Save a tower of OpenShape as its file of that kind has it, other parts of a training run beside it."""
    if kind == PROJECTED:
        content: dict[str, Any] = {"state_dict": {f"module.{name}": x for name, x in tensors.items()}}
        content |= {"logit_scale": {"module.logit_scale": torch.tensor(SCALE)}, "text_proj": None, "image_proj": None}
        content |= {"optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"params": [0]}]}}
        content |= {"epoch": 3, "step": 900, "best_lvis_acc": torch.tensor(0.4)}
    else:
        content = {f"pc_encoder.{name}": x for name, x in tensors.items()}
    torch.save(content, file)
    return file


def save_ulip2(tensors: dict[str, Tensor], file: Path) -> Path:
    """Save ULIP-2's tower as its file has it: inside DistributedDataParallel, the arguments of the run beside it."""
    args = argparse.Namespace(model="ULIP2_PointBERT_Colored", npoints=10000, betas=(0.9, 0.98), lr=3e-3, gpu=0)
    content: dict[str, Any] = {"epoch": "last", "state_dict": {f"module.{name}": x for name, x in tensors.items()}}
    content |= {"optimizer": {"state": {}, "param_groups": []}, "scaler": {"scale": 1.0}, "best_acc1": 0, "args": args}
    torch.save(content, file)
    return file


def farthest(xyz: Tensor, count: int, skip: bool = False) -> Tensor:
    """Return the indices (count,) of points (P, 3) that a plain loop chooses, from point 0.

    skip: leave points at |x|² ≤ 1e-3 out, as the kernel of pointnet2_ops does.
    """
    nearest = torch.full((len(xyz),), 1e10)
    skipped = xyz.square().sum(1) <= 1e-3 if skip else torch.zeros(len(xyz), dtype=torch.bool)
    chosen = [0]
    for _ in range(count - 1):
        nearest = nearest.minimum((xyz - xyz[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.where(~skipped, -1.0).argmax()))
    return torch.tensor(chosen)
