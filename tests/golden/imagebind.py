"""Goldens of ``imagebind``: ImageBind's vectors of all modalities, with a small configuration and fills by name.

Reference: github.com/facebookresearch/ImageBind at 53680b0. It runs outside of this repository, with einops, iopath, ftfy
and timm beside torch::

    python tests/golden/imagebind.py CHECKOUT             # writes imagebind.safetensors and imagebind.keys
    python tests/golden/imagebind.py CHECKOUT --compare   # other seeds, then each tensor alone; writes nothing

Constants as the published code makes them, which are not filled: the causal mask of text and the logarithms of the fixed
scales 20, 5, 10 and 5. The learned scale of text is filled: its logarithm is that of 1 / .07 moved by .1 randn.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock, patch

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from fill import fill_named  # noqa: E402
from keys import condense  # noqa: E402

TINY = {
    "kernel_size": (2, 14, 14),
    "out_embed_dim": 24,
    "vision_embed_dim": 32,
    "vision_num_blocks": 2,
    "vision_num_heads": 16,
    "text_embed_dim": 32,
    "text_num_blocks": 2,
    "text_num_heads": 16,
    "audio_embed_dim": 24,
    "audio_num_blocks": 2,
    "audio_num_heads": 12,
    "depth_embed_dim": 16,
    "depth_kernel_size": 56,
    "depth_num_blocks": 2,
    "thermal_embed_dim": 24,
    "thermal_kernel_size": 56,
    "thermal_num_blocks": 2,
    "imu_embed_dim": 16,
    "imu_num_blocks": 2,
}
"""Arguments of the reference. Its pictures, sounds and texts have one size, so these are small in width and depth."""
HUGE = {
    "vision_embed_dim": 1280,
    "vision_num_blocks": 32,
    "vision_num_heads": 16,
    "text_embed_dim": 1024,
    "text_num_blocks": 24,
    "text_num_heads": 16,
    "out_embed_dim": 1024,
}
"""Arguments of imagebind_huge, whose others are the reference's defaults."""
ROWS = {
    "vision": (3, 224, 224),
    "video": (3, 3, 2, 224, 224),
    "audio": (3, 1, 128, 204),
    "depth": (1, 224, 224),
    "thermal": (1, 224, 224),
    "imu": (6, 2000),
}
"""Published modality, or video -> shape of a row. A video has 3 clips here."""
LENGTHS = (3, 9, 77)
"""Ids of the three texts, with their marks."""
FIXED = {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
KEY, QKV = "a key's bias adds the same to all scores of a query, which the softmax takes away", "attn.in_proj_bias"


def make_inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return three rows of each modality from a seed."""
    generator = torch.Generator().manual_seed(100 + seed)
    given = {name: torch.randn(3, *row, generator=generator) for name, row in ROWS.items()}
    given["text"] = torch.zeros(3, 77, dtype=torch.long)
    for row, length in zip(given["text"], LENGTHS, strict=True):
        row[:length] = torch.randint(1, 49406, (length,), generator=generator)
        row[0], row[length - 1] = 49406, 49407
    return given


def make_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a checkpoint of these tensors: fills by name, and the constants."""
    scales = {f"modality_postprocessors.{m}.1.log_logit_scale": math.log(x) for m, x in FIXED.items()}
    mask = "modality_preprocessors.text.mask"
    state = fill_named({k: v for k, v in shapes.items() if k not in scales and k != mask}, seed)
    for name in state:
        if name.endswith("log_logit_scale"):
            state[name] = state[name] + math.log(1 / 0.07)
    state |= {name: torch.tensor(x) for name, x in scales.items() if name in shapes}
    if mask in shapes:
        state[mask] = torch.full(shapes[mask], float("-inf")).triu(1)
    return {name: state[name] for name in shapes}


def build(checkout: str, **arguments):
    """Return the reference. Readers of files stand in its package, so their libraries are replaced by empty ones."""
    for name in ("pytorchvideo", "pytorchvideo.data", "pytorchvideo.data.clip_sampling"):
        sys.modules.setdefault(name, MagicMock())
    sys.modules.setdefault("pytorchvideo.data.encoded_video", MagicMock())
    sys.modules.setdefault("pkg_resources", MagicMock())
    sys.path.insert(0, checkout)
    from imagebind.models.imagebind_model import ImageBindModel

    return ImageBindModel(**arguments).eval()


@torch.no_grad()
def run(model, given):
    """Return the reference's vectors (3, D) of each modality, with its scale."""
    out = {}
    for name, x in given.items():
        key = "vision" if name == "video" else name
        out[name] = model({key: x})[key]
    return out


def write(checkout: str) -> None:
    from safetensors.torch import save_file

    model = build(checkout, **TINY)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    model.load_state_dict(make_state(shapes))
    found = run(model, make_inputs())
    save_file(found, HERE / "imagebind.safetensors")
    on_cpu = partial(torch.linspace, device="cpu")  # the reference reads the values of one
    with patch("torch.linspace", on_cpu), torch.device("meta"):
        huge = build(checkout, **HUGE)
    names = {name: tuple(x.shape) for name, x in huge.state_dict().items()}
    (HERE / "imagebind.keys").write_text(condense(names), encoding="utf-8")


def compare(checkout: str) -> None:
    from imagebind_compare import compare_seeds, move_tensors

    model = build(checkout, **TINY)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    compare_seeds(model, shapes)
    move_tensors(shapes)


if __name__ == "__main__":
    (compare if "--compare" in sys.argv else write)(sys.argv[1])
