"""Goldens of ``imagebind``: ImageBind's vectors of all modalities, of a small configuration filled by name.

Reference: github.com/facebookresearch/ImageBind at 53680b0. It runs outside of this repository, with einops, iopath,
ftfy and timm beside torch::

    python tests/golden/imagebind.py CHECKOUT             # writes imagebind.safetensors and both lists of keys
    python tests/golden/imagebind.py CHECKOUT --compare   # other seeds, then each tensor alone; writes nothing

Constants as the published code makes them, which are not filled: the causal mask of text and the logarithms of the
fixed scales 20, 5, 10 and 5. The learned scale of text is filled: its logarithm is that of 1 / .07 moved by .1 randn.
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from faint import make_faint
from fill import fill_named
from keys import condense

TRUNKS = ("vision", "text", "audio", "depth", "thermal", "imu")
WIDTHS = dict(zip(TRUNKS, (32, 32, 24, 16, 24, 16), strict=True))
TINY = {f"{name}_embed_dim": width for name, width in WIDTHS.items()} | {f"{name}_num_blocks": 2 for name in TRUNKS}
TINY |= {"out_embed_dim": 24, "vision_num_heads": 16, "text_num_heads": 16}
TINY |= {"depth_kernel_size": 56, "thermal_kernel_size": 56}
"""Arguments of the reference. The sizes of its rows are fixed, so the small model is small in width and depth."""
HUGE = {"vision_embed_dim": 1280, "vision_num_blocks": 32, "vision_num_heads": 16, "out_embed_dim": 1024}
HUGE |= {"text_embed_dim": 1024, "text_num_blocks": 24, "text_num_heads": 16}
"""Arguments of imagebind_huge, whose others are the reference's defaults."""
ROWS = {
    "vision": (3, 224, 224),
    "video": (3, 3, 2, 224, 224),  # three clips
    "audio": (3, 1, 128, 204),
    "depth": (1, 224, 224),
    "thermal": (1, 224, 224),
    "imu": (6, 2000),
}
LENGTHS = (3, 9, 77)
"""Ids of the three texts, with their marks."""
FIXED = {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
MASK = "modality_preprocessors.text.mask"
TEXTS = ["A dog.", "the sound of Rain &amp; thunder; café!", "a quick brown fox jumps over the lazy dog " * 12]
SECONDS = (6.0, 4.5, 1.0)
"""Lengths of the three sounds: clips side by side, clips that overlap, and less than one clip."""


def make_inputs(seed: int = 1) -> dict[str, torch.Tensor]:
    """Return three rows of each modality."""
    generator = torch.Generator().manual_seed(100 + seed)
    levels = torch.tensor([1.0, 0.1, 0.01])  # at the last ones each epsilon counts
    given = {
        name: levels.view(3, *(1 for _ in row)) * torch.randn(3, *row, generator=generator)
        for name, row in ROWS.items()
    }
    given["text"] = torch.zeros(3, 77, dtype=torch.long)
    for row, length in zip(given["text"], LENGTHS, strict=True):
        row[:length] = torch.randint(1, 49406, (length,), generator=generator)
        row[0], row[length - 1] = 49406, 49407
    return given


def make_files() -> dict[str, list[Any]]:
    """Return three PNG files, three texts and three WAV files of 16 kHz, as bytes and strings."""
    import soundfile
    from PIL import Image

    draw, files = np.random.default_rng(5), {"image": [], "text": TEXTS, "audio": []}
    for height, width in ((250, 320), (260, 230), (224, 224)):
        cells = draw.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        files["image"].append(io.BytesIO())
        Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR).save(files["image"][-1], "PNG")
    for seconds, pitch in zip(SECONDS, (200, 900, 3000), strict=True):
        t = np.arange(round(16000 * seconds)) / 16000
        wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.1 * t) * t) + draw.normal(0, 0.05, len(t)) * t + 0.05
        files["audio"].append(io.BytesIO())
        soundfile.write(files["audio"][-1], wave.clip(-1, 1), 16000, format="WAV", subtype="PCM_16")
    return {name: [x if isinstance(x, str) else x.getvalue() for x in row] for name, row in files.items()}


def make_state(shapes: dict[str, tuple[int, ...]], seed: int = 1) -> dict[str, torch.Tensor]:
    """Return a checkpoint of these tensors: fills by name, and the constants."""
    fixed = {f"modality_postprocessors.{m}.1.log_logit_scale": torch.tensor(math.log(x)) for m, x in FIXED.items()}
    constants = {MASK: torch.full((77, 77), float("-inf")).triu(1), **fixed}
    state = fill_named({name: shape for name, shape in shapes.items() if name not in constants}, seed) | constants
    state["modality_postprocessors.text.1.log_logit_scale"] += math.log(1 / 0.07)
    return {name: state[name] for name in shapes}


def build(checkout: str, **arguments):
    """Return the reference. Its readers of videos are replaced by empty ones."""
    for name in ("", ".data", ".data.clip_sampling", ".data.encoded_video"):
        sys.modules.setdefault(f"pytorchvideo{name}", MagicMock())
    sys.modules.setdefault("pkg_resources", MagicMock())
    sys.path.insert(0, checkout)
    from imagebind.models.imagebind_model import ImageBindModel

    return ImageBindModel(**arguments).eval()


@torch.no_grad()
def run(model, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the reference's vectors (3, D) of each modality, with its scale."""
    keys = {name: "vision" if name == "video" else name for name in given}
    return {name: model({keys[name]: x})[keys[name]] for name, x in given.items()}


def read_files(checkout: str, folder: Path) -> dict[str, torch.Tensor]:
    """Return the reference's rows of the files. Sounds are read by soundfile, and its sampler of clips is the one of
    the commit that it names."""
    import soundfile
    from imagebind import data

    paths: dict[str, list[str]] = {"image": [], "audio": []}
    files = make_files()
    for name, found in paths.items():
        for i, content in enumerate(files[name]):
            found.append(str(folder / f"{name}{i}"))
            Path(found[-1]).write_bytes(content)

    def load(path):
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(wave.T.copy()), rate

    def places(_, duration):
        last = max(duration - 2, 0)
        return [(last * i / 2, last * i / 2 + 2) for i in range(3)]

    bpe = f"{checkout}/imagebind/bpe/bpe_simple_vocab_16e6.txt.gz"
    with (
        patch.object(data, "return_bpe_path", lambda: bpe),
        patch.object(data, "get_clip_timepoints", places),
        patch.object(data.torchaudio, "load", load),
    ):
        audio = [data.load_and_transform_audio_data([path], "cpu") for path in paths["audio"]]
        return {
            "vision": data.load_and_transform_vision_data(paths["image"], "cpu"),
            "text": data.load_and_transform_text(files["text"], "cpu"),
            "audio": torch.cat(audio),
        }


def write(checkout: str) -> None:
    from safetensors.torch import save_file

    model = build(checkout, **TINY)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    model.load_state_dict(make_state(shapes))
    found = run(model, make_inputs())
    with tempfile.TemporaryDirectory() as folder:
        rows = read_files(checkout, Path(folder))
    found |= {f"{name} of files": x for name, x in run(model, rows).items()}
    model.load_state_dict(make_faint(make_state(shapes)))
    found |= {f"{name}.faint": x for name, x in run(model, make_inputs()).items()}
    save_file(found, HERE / "imagebind.safetensors")
    (HERE / "imagebind-tiny.keys").write_text(condense(shapes), encoding="utf-8")
    on_cpu = partial(torch.linspace, device="cpu")  # the reference reads the values of one
    with patch("torch.linspace", on_cpu), torch.device("meta"):
        huge = build(checkout, **HUGE)
    names = {name: tuple(x.shape) for name, x in huge.state_dict().items()}
    (HERE / "imagebind.keys").write_text(condense(names), encoding="utf-8")


if __name__ == "__main__":
    if "--compare" in sys.argv:
        from imagebind_compare import compare

        compare(build(sys.argv[1], **TINY))
    else:
        write(sys.argv[1])
