"""Files of LAION's CLAP in its small configuration: weights by name, and constants by plain arithmetic."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from golden.laion_clap import SEED, fill_published
from keys import read_keys
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def state(fusion: bool = False, seed: int = SEED, name: str = "small") -> dict[str, Tensor]:
    """Return a whole state dict under published names, without the prefix of DistributedDataParallel."""
    return dict(_state(fusion, seed, name))


@cache
def _state(fusion: bool, seed: int, name: str) -> dict[str, Tensor]:
    shapes = read_keys(GOLDEN / f"laion_clap-{name}{'-fusion' if fusion else ''}.keys")
    found = fill_published(shapes, seed)
    for key, shape in shapes.items():
        if key not in found:
            found[key] = _constant(key, shape)
    return found


def write_flat(path: Path, fusion: bool = False) -> Path:
    """Write the tensors alone, as others who repackage the files do."""
    torch.save(state(fusion), path)
    return path


def _constant(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("relative_position_index"):
        return _index()
    if key.endswith("attn_mask"):
        return _mask(round(shape[0] ** 0.5))
    if key.endswith("melW"):
        from transformers.audio_utils import mel_filter_bank

        bands = mel_filter_bank(513, 64, 50.0, 14000.0, 48000, norm="slaney", mel_scale="slaney")
        return torch.from_numpy(bands).float()
    if "stft.conv_" in key:
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
        fourier = np.fft.fft(np.eye(1024))[:513] * hann
        return torch.from_numpy(fourier.real if "real" in key else fourier.imag).float()[:, None]
    if key.endswith("position_ids"):
        return torch.arange(shape[1])[None]
    return torch.zeros(shape, dtype=torch.int64)  # num_batches_tracked, token_type_ids


def _index(w: int = 8) -> Tensor:
    cells = [(i, j) for i in range(w) for j in range(w)]
    return torch.tensor([[(a - c + w - 1) * (2 * w - 1) + b - d + w - 1 for c, d in cells] for a, b in cells])


def _mask(count: int, w: int = 8, shift: int = 4) -> Tensor:
    """Return (count², w², w²): -100 where two cells of a moved window come from parts of the map that are apart."""

    def part(i: int) -> int:
        return 0 if i < (count - 1) * w else 1 if i < count * w - shift else 2

    masks = []
    for row in range(count):
        for column in range(count):
            cells = [(part(row * w + i), part(column * w + j)) for i in range(w) for j in range(w)]
            kinds = torch.tensor([3 * a + b for a, b in cells])
            masks.append(-100.0 * (kinds[:, None] != kinds))
    return torch.stack(masks)
