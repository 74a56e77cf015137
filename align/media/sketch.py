"""Small drawings in plain characters: a wave as blocks, a cloud as dots, a picture as coloured half blocks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from align.media import pictures, sounds
from align.media.npy import read_npy
from align.media.pictures.read import read_picture
from align.media.sounds.read import from_file
from align.values import BadSample

BLOCKS = " ▁▂▃▄▅▆▇█"
Coloured = list[list[tuple[tuple[int, int, int], tuple[int, int, int]]]]
"""Lines of cells, each with the colour of its upper and of its lower half."""


def wave_blocks(wave: np.ndarray, width: int = 24) -> str:
    """(T,) -> ``width`` characters: the square root of each part's peak, the loudest part being a full block."""
    parts = np.array_split(np.nan_to_num(np.abs(wave)), width)
    loud = np.array([float(part.max()) if len(part) else 0.0 for part in parts])
    if not loud.max() > 0:
        return BLOCKS[1] * width
    heights = np.ceil((len(BLOCKS) - 1) * np.sqrt(loud / loud.max())).astype(int)
    return "".join(BLOCKS[max(1, height)] for height in heights)


def cloud_dots(xyz: np.ndarray, width: int = 12, height: int = 5) -> str:
    """(P, 3) seen along y, z up, in Braille: 2 x 4 dots a character, as ``height`` lines."""
    flat = xyz[np.isfinite(xyz).all(axis=1)][:, [0, 2]].astype(np.float64)
    if not len(flat):
        return ""
    low, high = flat.min(axis=0), flat.max(axis=0)
    W, H = 2 * width, 4 * height
    scale = min((W - 1) / max(high[0] - low[0], 1e-12), (H - 1) / max(high[1] - low[1], 1e-12))
    at = np.round((flat - (low + high) / 2) * scale + [(W - 1) / 2, (H - 1) / 2]).astype(int).clip(0, [W - 1, H - 1])
    dots = np.zeros((H, W), dtype=bool)
    dots[H - 1 - at[:, 1], at[:, 0]] = True
    weight = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)  # (height, width, 4, 2)
    codes = 0x2800 + (cells * weight).sum(axis=(2, 3))
    return "\n".join("".join(map(chr, line)) for line in codes.tolist())


def picture_cells(pixels: np.ndarray, width: int = 16) -> Coloured:
    """(H, W, 3) uint8 as lines of ``width`` cells of two pixels, one over the other; at most 8 lines."""
    from PIL import Image as Picture
    from PIL.Image import Resampling

    rows = 2 * min(8, max(1, round(width * pixels.shape[0] / pixels.shape[1] / 2)))
    small = np.asarray(Picture.fromarray(pixels).resize((width, rows), Resampling.BOX)).tolist()
    return [[(tuple(a), tuple(b)) for a, b in zip(small[i], small[i + 1], strict=True)] for i in range(0, rows, 2)]


def sketch(member: str, data: bytes) -> str | Coloured | None:
    """A drawing of a member by its suffix, or None where there is none or it cannot be read."""
    suffix = member.rpartition(".")[2]
    try:
        if suffix in sounds.SUFFIXES:
            return wave_blocks(from_file(data, 600.0)[0])
        if suffix in pictures.SUFFIXES:
            return picture_cells(read_picture(data, 2**25).permute(1, 2, 0).numpy())
        if suffix == "npy":
            array: Any = read_npy(io.BytesIO(data), "points", limit=1 << 25)
            return cloud_dots(array[:, :3]) if array.ndim == 2 and array.shape[1] in (3, 6) else None
    except BadSample:
        return None
    return None
