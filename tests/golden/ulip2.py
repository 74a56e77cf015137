"""Outputs of ULIP-2's own PointBERT for coloured points, on weights drawn by name. Run by hand, outside CI.

    python tests/golden/ulip2.py CHECKOUT            writes ulip2.safetensors and ulip2.keys
    python tests/golden/ulip2.py CHECKOUT --compare  prints worst differences on other seeds, and effects of tensors

CHECKOUT: of github.com/salesforce/ULIP at f194ddbfc1219ee1030e866b8be62d77539a3642, with termcolor installed. Its CUDA
sampler, of pointnet2_ops, is a plain loop here that leaves the same points out. Steps before the tower are those of its
Objaverse data: the cloud's mean to 0 and its farthest point to 1 (``pc_normalize`` of dataset_3d.py), grey without
colour.
"""

from __future__ import annotations

import sys
import types
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import save_file

here = Path(__file__).parent
sys.path[:0] = [str(here.parent), str(here.parent.parent)]

from faint import make_faint
from keys import condense
from point_towers import ULIP2, farthest, fill_tower, make_clouds, make_small_clouds, ulip2_shapes

FULL = {"width": 384, "depth": 18, "hidden": 1536, "patch_width": 256, "dim": 1280}


def open_reference(checkout: Path):
    """Return the reference's class of the tower. Its two CUDA libraries are replaced by plain torch."""
    operations = types.ModuleType("pointnet2_ops.pointnet2_utils")
    operations.furthest_point_sample = lambda xyz, count: torch.stack([farthest(x, count, skip=True) for x in xyz])
    operations.gather_operation = lambda planes, index: planes.gather(2, index[:, None].expand(-1, 3, -1))
    package = types.ModuleType("pointnet2_ops")
    package.pointnet2_utils = operations
    neighbours = types.ModuleType("knn_cuda")
    neighbours.KNN = lambda **_: None  # of a part that the tower does not use
    sys.modules.update({"pointnet2_ops": package, "pointnet2_ops.pointnet2_utils": operations, "knn_cuda": neighbours})
    sys.path.insert(0, str(checkout))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from models.pointbert.point_encoder import PointTransformer_Colored
    return PointTransformer_Colored


def make(kind, width: int, depth: int, hidden: int, patch_width: int, dim: int):
    if hidden != 4 * width:
        raise ValueError("the reference's MLP is four times as wide as its blocks")
    sizes = {"trans_dim": width, "depth": depth, "num_heads": width // 64, "encoder_dims": patch_width}
    fixed = {"drop_path_rate": 0.1, "cls_dim": 40, "group_size": 32, "num_group": 512}
    return kind(SimpleNamespace(**sizes, **fixed), args=SimpleNamespace(evaluate_3d=True))


def prepare(clouds: list[np.ndarray]) -> torch.Tensor:
    """Return rows (n, P, 6)."""
    found = []
    for cloud in clouds:
        xyz, rgb = cloud[:, :3], cloud[:, 3:] if cloud.shape[1] == 6 else np.full_like(cloud[:, :3], 0.4)
        xyz = xyz - np.mean(xyz, axis=0)
        found.append(np.concatenate([xyz / np.max(np.sqrt(np.sum(xyz**2, axis=1))), rgb], 1))
    return torch.from_numpy(np.stack(found)).float()


@torch.no_grad()
def run(tower, tensors: dict[str, torch.Tensor], clouds: list[np.ndarray]) -> torch.Tensor:
    tensors = {name.removeprefix("point_encoder."): x for name, x in tensors.items()}
    projection = tensors.pop("pc_projection")
    tensors.pop("logit_scale")
    tower.load_state_dict(tensors)
    return tower(prepare(clouds)) @ projection  # as encode_pc has it


def main() -> None:
    kind = open_reference(Path(sys.argv[1]))
    if "--compare" in sys.argv:
        from point_compare import report
        from point_towers import save_ulip2

        for name, sizes in {"small": ULIP2, "whole": FULL}.items():
            read = partial(run, make(kind, **sizes).eval())
            small = name == "small"
            report("ulip2", name, ulip2_shapes(**sizes), read, save_ulip2, (1, 2, 3) if small else (4,), effects=small)
        return
    tower = make(kind, **ULIP2).eval()
    filled = fill_tower(ulip2_shapes(**ULIP2))
    outputs = {"points": run(tower, filled, make_clouds())}
    outputs["points.faint"] = run(tower, make_faint(filled), make_small_clouds())
    save_file(outputs, here / "ulip2.safetensors")
    whole = make(kind, **FULL)
    shapes = {f"module.point_encoder.{name}": tuple(x.shape) for name, x in whole.state_dict().items()}
    shapes |= {"module.pc_projection": (2 * FULL["width"], FULL["dim"]), "module.logit_scale": ()}
    (here / "ulip2.keys").write_text(condense(shapes))


if __name__ == "__main__":
    main()
