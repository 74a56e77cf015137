"""Goldens of ``uni3d``: baaivision/Uni3D at commit 64e03c3, with timm 0.9.7, as its README names it.

    python tests/golden/uni3d.py CHECKOUT            # writes uni3d.safetensors and uni3d-SIZE.keys
    python tests/golden/uni3d.py CHECKOUT --compare  # other seeds, and each tensor filled again

timm 0.9.7 stands before the installed one on PYTHONPATH. The reference needs a CUDA kernel for farthest point sampling,
in whose place stands a plain loop of what the kernel does: it starts at point 0, and |x|² <= 1e-3 is never chosen
after that. Constants of the reference: the zeros in the place of a key's bias, which no file holds.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from faint import make_faint
from fill import draw, fill_named
from keys import condense

SIZES = {  # size -> model of timm, width, as the reference's scripts name them
    "g": ("eva_giant_patch14_560", 1408),
    "l": ("eva02_large_patch14_448", 1024),
    "b": ("eva02_base_patch14_448", 768),
    "s": ("eva02_small_patch14_224", 384),
    "ti": ("eva02_tiny_patch14_224", 192),
}
TINY = {  # kind of trunk -> the reference's model, and its arguments with fewer and narrower blocks
    "eva": ("eva_giant_patch14_560", {"embed_dim": 176, "num_heads": 2, "mlp_ratio": 300.5 / 176, "depth": 2}),
    "eva02-norm": ("eva02_base_patch14_448", {"embed_dim": 128, "num_heads": 2, "depth": 2}),
    "eva02": ("eva02_small_patch14_224", {"embed_dim": 128, "num_heads": 2, "depth": 2}),
}
GROUPS, NEIGHBOURS, WIDTH, PATCH = 24, 16, 48, 40
SCALE = 4.6052  # the reference clamps the logarithm of its scale there


def clouds(seed: int) -> Tensor:
    """Return three clouds (3, 200, 6): shells of three shapes with a few points at the origin, and colours."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.randn(3, 200, 3, generator=generator)
    xyz = xyz / xyz.norm(dim=-1, keepdim=True) * torch.tensor([[1, 1, 1], [1, 0.5, 0.2], [0.3, 0.9, 0.6]])[:, None]
    xyz[:, 150:160] *= 0.02
    return torch.cat([xyz, torch.rand(3, 200, 3, generator=generator)], -1)


def read_clouds(seed: int) -> list[np.ndarray]:
    """Return three clouds as files have them: neither centred nor scaled, colours from 0 to 255."""
    generator = np.random.default_rng(seed)
    sizes = np.array([[3, 1, 1], [20, 4, 9], [0.1, 0.2, 0.4]])
    xyz = [generator.standard_normal((150, 3)) * size + 5 * size for size in sizes]
    return [np.concatenate([x, generator.integers(0, 256, (150, 3))], 1).astype(np.float32) for x in xyz]


def shapes_of(kind: str) -> dict[str, list[int]]:
    """Return name -> shape of the tensors of a tiny model, as the goldens file notes them."""
    return read_notes()["shapes"][kind]


def read_notes() -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(HERE / "uni3d.safetensors", "pt") as file:
        return json.loads(file.metadata()["notes"])


def filled(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """Return the published tensors, in float16 and with the scale that the reference clamps to."""
    tensors = {name: x.half() for name, x in fill_named(shapes, seed).items()}
    tensors["logit_scale"] = torch.tensor(SCALE).half()
    for name in tensors:
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
    return tensors


def farthest(xyz: Tensor, count: int) -> Tensor:
    """Return the indices (n, count) that the kernel chooses, point by point."""
    chosen = torch.zeros(len(xyz), count, dtype=torch.long)
    for row, cloud in zip(chosen, xyz.tolist(), strict=True):
        seen = [x * x + y * y + z * z > 1e-3 for x, y, z in cloud]
        nearest, last = [1e10] * len(cloud), 0
        for i in range(count):
            row[i] = last
            best = -1.0
            for k, point in enumerate(cloud):
                if not seen[k]:
                    continue
                nearest[k] = min(nearest[k], sum((a - b) ** 2 for a, b in zip(point, cloud[row[i]], strict=True)))
                if nearest[k] > best:
                    best, last = nearest[k], k
            last = last if best >= 0 else 0
    return chosen


def import_reference(checkout: Path) -> Any:
    """Return the reference's module of the model, its kernel replaced."""
    operations = types.ModuleType("pointnet2_utils")
    operations.furthest_point_sample = farthest
    operations.gather_operation = lambda x, index: x.gather(2, index[:, None].expand(-1, x.shape[1], -1))
    package = types.ModuleType("pointnet2_ops")
    package.pointnet2_utils = operations
    sys.modules |= {"pointnet2_ops": package, "pointnet2_ops.pointnet2_utils": operations}
    for unused in ("open3d", "h5py", "wandb"):
        sys.modules.setdefault(unused, types.ModuleType(unused))
    sys.path.insert(0, str(checkout))
    linspace = torch.linspace  # timm 0.9.7 reads its numbers, which the meta device has none of
    torch.linspace = lambda *args, **kwargs: linspace(*args, **kwargs | {"device": "cpu"})
    return importlib.import_module("models.uni3d")


def leave_timm() -> None:
    """Forget timm 0.9.7, so that our encoder takes the installed one."""
    sys.path.remove(str(Path(sys.modules["timm"].__file__).parent.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]


def make_reference(module: Any, name: str, sizes: dict[str, Any], **given: Any) -> torch.nn.Module:
    import timm

    assert timm.__version__ == "0.9.7", timm.__version__
    args = {"pc_feat_dim": sizes.get("embed_dim"), "embed_dim": 1024, "group_size": 64, "num_group": 512}
    args |= {"pc_encoder_dim": 512, "patch_dropout": 0.0, **given}
    encoder = importlib.import_module("models.point_encoder").PointcloudEncoder
    trunk = timm.create_model(name, **sizes)
    return module.Uni3D(encoder(trunk, types.SimpleNamespace(**args))).eval()


def make_tiny(module: Any, kind: str) -> torch.nn.Module:
    name, sizes = TINY[kind]
    side = {"img_size": 28} if kind == "eva" else {"img_size": 28, "ref_feat_shape": (2, 2)}
    given = {"embed_dim": WIDTH, "group_size": NEIGHBOURS, "num_group": GROUPS, "pc_encoder_dim": PATCH}
    return make_reference(module, name, {**sizes, **side}, **given)


def prepare(rows: list[np.ndarray]) -> Tensor:
    """Return the clouds as the reference's evaluation prepares those of ModelNet40."""
    pc_normalize = importlib.import_module("data.datasets").pc_normalize
    made = [np.concatenate([pc_normalize(x[:, :3]), x[:, 3:] / 255.0], 1) for x in rows]
    return torch.from_numpy(np.stack(made)).float()


@torch.no_grad()
def write(checkout: Path) -> None:
    from safetensors.torch import save_file

    module, notes, outputs = import_reference(checkout), {"shapes": {}}, {}
    for kind in TINY:
        model = make_tiny(module, kind)
        notes["shapes"][kind] = {k: list(x.shape) for k, x in model.state_dict().items()}
        model.load_state_dict(filled(notes["shapes"][kind], 0))
        outputs[kind] = model.encode_pc(clouds(0))
        model.load_state_dict(make_faint(filled(notes["shapes"][kind], 0)))
        outputs[f"{kind}.faint"] = model.encode_pc(clouds(0))
        model.load_state_dict(filled(notes["shapes"][kind], 0))
        outputs[f"{kind}.files"] = model.encode_pc(prepare(read_clouds(0)))
    save_file(outputs, HERE / "uni3d.safetensors", {"notes": json.dumps(notes)})
    for size, (name, width) in SIZES.items():
        with torch.device("meta"):
            whole = make_reference(module, name, {}, pc_feat_dim=width)
        shapes = {k: tuple(x.shape) for k, x in whole.state_dict().items()}
        head = f"# Uni3D-{size}: {name}, {sum(x.numel() for x in whole.state_dict().values()):,} numbers\n"
        (HERE / f"uni3d-{size}.keys").write_text(head + condense(shapes))


@torch.no_grad()
def compare(checkout: Path) -> None:
    import proof

    from align.published import load_published

    module = import_reference(checkout)
    references = {kind: make_tiny(module, kind) for kind in TINY}
    leave_timm()
    for kind, model in references.items():
        shapes = {k: list(x.shape) for k, x in model.state_dict().items()}
        for seed in (1, 2, 3):
            tensors = filled(shapes, seed)
            model.load_state_dict(tensors)
            x, theirs = clouds(seed), model.encode_pc(clouds(seed))
            with tempfile.TemporaryDirectory() as folder:
                torch.save({"module": tensors}, Path(folder) / "model.pt")
                ours = load_published("uni3d", str(Path(folder) / "model.pt")).towers["points"].encoder
                ours.groups, ours.neighbours = GROUPS, NEIGHBOURS
            found = ours(x).pooled
            print(f"{kind} seed {seed}: {proof.measure(found, theirs)}")
        print(f"  float noise: {float((theirs - model.double().encode_pc(x.double())).abs().max()):.1e}")
        moved, generator = {}, torch.Generator().manual_seed(99)
        model.float().load_state_dict(tensors)
        before = model.encode_pc(x)
        for name, value in model.state_dict().items():
            if name == "logit_scale" or not value.is_floating_point():
                continue
            kept = value.clone()
            value.copy_(draw(name, value, generator))
            moved[name] = float((model.encode_pc(x) - before).abs().max() / before.abs().max())
            value.copy_(kept)
        print("  cannot matter:", ", ".join(name for name, share in moved.items() if not share))
        least = sorted((share, name) for name, share in moved.items() if share)[:5]
        print("  smallest effects:", ", ".join(f"{name} {share:.1e}" for share, name in least))


if __name__ == "__main__":
    (compare if "--compare" in sys.argv[2:] else write)(Path(sys.argv[1]).resolve())
