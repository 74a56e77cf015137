"""Outputs of OpenShape's own PointBERT, on weights drawn by name. Run by hand, outside CI.

    python tests/golden/openshape.py CHECKOUT            writes openshape.safetensors and openshape.keys
    python tests/golden/openshape.py CHECKOUT --compare  prints worst differences on other seeds, and effects of tensors

CHECKOUT: of github.com/Colin97/OpenShape_code at abe5aa42b7c99c037c286ad54313f695a114bf0d, with einops and
torch_redstone installed. Its sampler, dgl's, starts at a random point. Here it is a plain loop from point 0. Steps
before the tower are those of its example.py: swap of y and z (not for the demos' files), then ``normalize_pc``, grey
without colour.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

here = Path(__file__).parent
sys.path[:0] = [str(here.parent), str(here.parent.parent)]

from faint import make_faint
from keys import condense
from point_towers import (
    DEMO,
    DEMO_BARE,
    OPENSHAPE,
    PROJECTED,
    farthest,
    fill_tower,
    make_clouds,
    make_small_clouds,
    openshape_shapes,
)

GROUPS = {PROJECTED: (384, 0.2, 64), DEMO: (64, 0.4, 256), DEMO_BARE: (64, 0.4, 256)}
FULL = {
    PROJECTED: {"width": 512, "depth": 12, "hidden": 1536, "patch_width": 256, "dim": 1280},
    DEMO: {"width": 512, "depth": 12, "hidden": 1024, "patch_width": 128, "dim": 768},
    DEMO_BARE: {"width": 512, "depth": 12, "hidden": 1024, "patch_width": 128, "dim": 0},
}


def open_reference(checkout: Path):
    """Return the modules of the reference: its towers, and its steps on clouds."""
    dgl = types.ModuleType("dgl")
    dgl.geometry = types.ModuleType("dgl.geometry")
    dgl.geometry.farthest_point_sampler = lambda xyz, count: torch.stack([farthest(x, count) for x in xyz])
    sys.modules.update({"dgl": dgl, "dgl.geometry": dgl.geometry})
    package = types.ModuleType("models")
    package.__path__ = [str(checkout / "src" / "models")]  # its __init__ needs MinkowskiEngine
    sys.modules["models"] = package
    sys.path.insert(0, str(checkout / "src"))
    from models import ppat
    from utils.data import normalize_pc

    return ppat, normalize_pc


def make(ppat, kind: str, width: int, depth: int, hidden: int, patch_width: int, dim: int):
    groups, radius, points = GROUPS[kind]
    tower = ppat.PointPatchTransformer(width, depth, width // 64, hidden, patch_width, groups, radius, points, 6)
    return ppat.Projected(tower, torch.nn.Linear(width, dim)) if dim else tower


def prepare(normalize_pc, clouds: list[np.ndarray], swap: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return xyz (n, P, 3) and features (n, P, 6)."""
    found = []
    for cloud in clouds:
        xyz, rgb = cloud[:, :3].copy(), cloud[:, 3:] if cloud.shape[1] == 6 else np.full_like(cloud[:, :3], 0.4)
        if swap:
            xyz[:, [1, 2]] = xyz[:, [2, 1]]
        found.append(np.concatenate([normalize_pc(xyz), rgb], 1))
    features = torch.from_numpy(np.stack(found)).float()
    return features[..., :3].contiguous(), features


@torch.no_grad()
def run(model, kind: str, xyz: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    if kind == DEMO_BARE:
        return model(xyz.transpose(1, 2).contiguous(), features.transpose(1, 2).contiguous())
    return model(xyz, features)


def main() -> None:
    ppat, normalize_pc = open_reference(Path(sys.argv[1]))
    if "--compare" in sys.argv:
        compare(ppat, normalize_pc)
        return
    outputs, keys = {}, []
    for kind, sizes in OPENSHAPE.items():
        model = make(ppat, kind, **sizes).eval()
        model.load_state_dict(fill_tower(openshape_shapes(**sizes)))
        outputs[kind] = run(model, kind, *prepare(normalize_pc, make_clouds(), swap=kind == PROJECTED))
        model.load_state_dict(make_faint(fill_tower(openshape_shapes(**sizes))))
        clouds = prepare(normalize_pc, make_small_clouds(), swap=kind == PROJECTED)
        outputs[f"{kind}.faint"] = run(model, kind, *clouds)
        with torch.device("meta"):
            whole = make(ppat, kind, **FULL[kind])
        prefix = "module." if kind == PROJECTED else "pc_encoder."
        shapes = {f"{prefix}{name}": tuple(x.shape) for name, x in whole.state_dict().items()}
        keys.append(f"# {kind}\n{condense(shapes)}")
    save_file({kind: x.contiguous() for kind, x in outputs.items()}, here / "openshape.safetensors")
    (here / "openshape.keys").write_text("\n".join(keys))


def compare(ppat, normalize_pc) -> None:
    from point_compare import report
    from point_towers import save_openshape

    for kind, sizes in [*OPENSHAPE.items(), *FULL.items()]:
        model = make(ppat, kind, **sizes).eval()

        def theirs(tensors, clouds, model=model, kind=kind):
            model.load_state_dict(tensors)
            return run(model, kind, *prepare(normalize_pc, clouds, swap=kind == PROJECTED))

        def save(tensors, file, kind=kind):
            return save_openshape(tensors, kind, file)

        small = sizes is OPENSHAPE[kind]
        name, seeds = (kind, (1, 2, 3)) if small else (f"{kind}, whole", (4,))
        report("openshape", name, openshape_shapes(**sizes), theirs, save, seeds, effects=small)


if __name__ == "__main__":
    main()
