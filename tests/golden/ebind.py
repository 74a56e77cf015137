"""Goldens of ``ebind``: the package ebind 0.1.0, its heads, its audio encoder and its point encoder, small and filled.

The package runs outside of this repository, with einops, iopath, ftfy and timm beside torch. FOLDER is where its wheel
was unpacked::

    python tests/golden/ebind.py FOLDER            # writes ebind.safetensors and ebind.keys
    python tests/golden/ebind.py FOLDER --compare  # other seeds, then each tensor of the heads alone; writes nothing

Constants: the logarithm of the audio's scale of 20. The package samples points in torch where its CUDA kernel is not
built, and skips the points that the kernel skips.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from faint import make_faint
from fill import fill_named
from keys import condense

AUDIO, POINTS, HIDDEN, SPACE = 24, 20, 40, 16
"""Numbers of ImageBind's vector, of Uni3D's, inside the heads, and of the space of pictures."""
GROUPS, NEIGHBOURS = 12, 8
WIDE = {"audio_embed_dim": 24, "audio_num_blocks": 2, "out_embed_dim": AUDIO}
EVA = {"embed_dim": 88, "num_heads": 1, "mlp_ratio": 100.5 / 88, "depth": 2, "img_size": 28}
SCALE = "postprocessor.1.log_logit_scale"
PARTS = {"preprocessor": "preprocessors", "trunk": "trunks", "head": "heads", "postprocessor": "postprocessors"}


def inputs(seed: int) -> dict[str, Tensor]:
    """Return three sounds of three clips as mel (3, 3, 1, 128, 204), and three clouds (3, 60, 6)."""
    generator = torch.Generator().manual_seed(200 + seed)
    sounds = torch.randn(3, 3, 1, 128, 204, generator=generator)
    clouds = torch.rand(3, 60, 6, generator=generator)
    clouds[..., :3] = (2 * clouds[..., :3] - 1) * torch.tensor([[1, 1, 1], [1, 0.4, 0.2], [0.3, 1, 0.7]])[:, None]
    clouds[:, 40:45, :3] *= 0.01
    return {"audio": sounds, "points": clouds}


def read_notes() -> dict[str, dict[str, list[int]]]:
    """Return part -> name -> shape of the small models."""
    from safetensors import safe_open

    with safe_open(HERE / "ebind.safetensors", "pt") as file:
        return json.loads(file.metadata()["shapes"])


def filled(shapes: dict[str, dict[str, list[int]]], seed: int) -> dict[str, dict[str, Tensor]]:
    """Return part -> the package's name -> tensor, with the constant and the counters in their places."""
    made = {part: fill_named(named, seed) for part, named in shapes.items()}
    made["audio"][SCALE] = torch.tensor(math.log(20.0))
    for name in made["points"]:
        if name.endswith("num_batches_tracked"):
            made["points"][name] = torch.tensor(7)
    return made


def write_files(made: dict[str, dict[str, Tensor]], folder: Path) -> dict[str, str]:
    """Write the three files as they are published, and return their sources."""
    from safetensors.torch import save_file

    head = {f"projectors.{name}.{k}": x for name in ("audio", "points") for k, x in made[f"{name}_head"].items()}
    names = {name: name.replace(name.partition(".")[0], "", 1) for name in made["audio"]}
    audio = {f"modality_{PARTS[k.partition('.')[0]]}.audio{names[k]}": x for k, x in made["audio"].items()}
    save_file(head, folder / "model.safetensors")
    save_file(audio, folder / "imagebind.safetensors")
    torch.save({"module": made["points"]}, folder / "model.pt")
    files = {"ebind": "model.safetensors", "imagebind": "imagebind.safetensors", "uni3d": "model.pt"}
    return {layout: str(folder / file) for layout, file in files.items()}


def import_reference(folder: str) -> Any:
    """Return the package. What only reads videos is replaced by nothing."""
    for name in ("torchcodec", "torchcodec.decoders"):
        sys.modules.setdefault(name, MagicMock())
    sys.path.insert(0, folder)
    return importlib.import_module("ebind")


def make_reference() -> dict[str, torch.nn.Module]:
    import timm
    from ebind.models.ebind.projector import MLPProjector
    from ebind.models.imagebind.imagebind_model import ImageBindAudioEncoder
    from ebind.models.uni3d.point_encoder import PointcloudEncoder
    from ebind.models.uni3d.uni3d import UNI3D_DEFAULT_ARGS, Uni3D

    args = UNI3D_DEFAULT_ARGS | {"pc_feat_dim": 88, "embed_dim": POINTS, "pc_encoder_dim": 16}
    args |= {"num_group": GROUPS, "group_size": NEIGHBOURS}
    trunk = timm.create_model(args["pc_model"], **EVA)
    parts = {"audio": ImageBindAudioEncoder(**WIDE), "points": Uni3D(PointcloudEncoder(trunk, args))}
    parts |= {
        f"{name}_head": MLPProjector(width, SPACE, [HIDDEN]) for name, width in (("audio", AUDIO), ("points", POINTS))
    }
    return {name: part.eval() for name, part in parts.items()}


@torch.no_grad()
def run(parts: dict[str, torch.nn.Module], seed: int) -> dict[str, Tensor]:
    return {name: parts[f"{name}_head"](parts[name](x)) for name, x in inputs(seed).items()}


def write(folder: str) -> None:
    from safetensors.torch import save_file

    package, parts = import_reference(folder), make_reference()
    shapes = {part: {k: list(x.shape) for k, x in module.state_dict().items()} for part, module in parts.items()}
    made = filled(shapes, 0)
    for part, module in parts.items():
        module.load_state_dict(made[part])
    outputs = run(parts, 0)
    for part, module in parts.items():
        module.load_state_dict(make_faint(made[part]))
    outputs |= {f"{name}.faint": x for name, x in run(parts, 0).items()}
    save_file(outputs, HERE / "ebind.safetensors", {"shapes": json.dumps(shapes)})
    whole = package.EBindModel(package.modeling.EBindConfig()).state_dict()
    count = sum(x.numel() for x in whole.values())
    head = f"# EBind, all heads: {count:,} numbers\n"
    (HERE / "ebind.keys").write_text(head + condense({k: tuple(x.shape) for k, x in sorted(whole.items())}))


@torch.no_grad()
def compare(folder: str) -> None:
    import proof
    from fill import draw

    from align.model import JointModel
    from align.published import ebind, load_published

    import_reference(folder)
    parts = make_reference()
    shapes = {part: {k: list(x.shape) for k, x in module.state_dict().items()} for part, module in parts.items()}
    for seed in (1, 2, 3):
        made = filled(shapes, seed)
        for part, module in parts.items():
            module.load_state_dict(made[part])
        theirs = run(parts, seed)
        with tempfile.TemporaryDirectory() as place:
            sources = write_files(made, Path(place))
            others = {f"{k}:{sources[k]}": load_published(k, sources[k]) for k in ("imagebind", "uni3d")}
            others["open_clip:PE"] = stand_in()
            model: JointModel = ebind.load(sources["ebind"], others).eval()
        ours = encode(model, seed)
        for name, x in ours.items():
            print(f"{name} seed {seed}: {proof.measure(x, theirs[name])}")
    moved, generator = {}, torch.Generator().manual_seed(99)
    for part, module in parts.items():
        for name, value in module.state_dict().items():
            if not value.is_floating_point() or not value.ndim:
                continue
            kept = value.clone()
            value.copy_(draw(name, value, generator))
            key = part.partition("_")[0]
            moved[f"{part}.{name}"] = float((run(parts, seed)[key] - theirs[key]).abs().max() / theirs[key].abs().max())
            value.copy_(kept)
    print("cannot matter:", ", ".join(name for name, share in moved.items() if not share))
    print("smallest:", ", ".join(f"{n} {m:.1e}" for m, n in sorted((m, n) for n, m in moved.items() if m)[:6]))
    print("of the heads:", ", ".join(f"{n} {m:.1e}" for n, m in moved.items() if "_head" in n))


def stand_in() -> Any:
    """Return a model of pictures and texts in the small space."""
    from align.encoders import ImageCNN, TransformerText
    from align.heads import Linear
    from align.model import JointModel, Tower
    from align.preprocess import Bytes, Image

    towers = {
        "image": Tower(Image(16), ImageCNN(8, widths=(8,), stem=2), Linear),
        "text": Tower(Bytes(8), TransformerText(Bytes(8).vocabulary, 8, width=8, depth=1, heads=2), Linear),
    }
    return JointModel(towers, SPACE).eval()


def encode(model: Any, seed: int) -> dict[str, Tensor]:
    """Return the unit vectors of our towers for the inputs."""
    encoder = model.towers["points"].encoder
    encoder.groups, encoder.neighbours = GROUPS, NEIGHBOURS
    given = {name: model.towers[name].head(model.towers[name].encoder(x)) for name, x in inputs(seed).items()}
    return {name: torch.nn.functional.normalize(x, dim=-1) for name, x in given.items()}


if __name__ == "__main__":
    (compare if "--compare" in sys.argv[2:] else write)(sys.argv[1])
