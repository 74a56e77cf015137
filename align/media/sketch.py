"""Small drawings in plain characters: a wave as blocks, a cloud as dots, a picture as coloured half blocks."""

from __future__ import annotations

import numpy as np

from align.media.medium import Cells

BLOCKS = " ▁▂▃▄▅▆▇█"


def wave_blocks(wave: np.ndarray, width: int = 24) -> str:
    """Draw a wave (T,) as ``width`` blocks, each the square root of its part's peak. The loudest one is full."""
    parts = np.array_split(np.nan_to_num(np.abs(wave)), width)
    loud = np.array([float(part.max()) if len(part) else 0.0 for part in parts])
    if not loud.max() > 0:
        return BLOCKS[1] * width
    heights = np.ceil((len(BLOCKS) - 1) * np.sqrt(loud / loud.max())).astype(int)
    return "".join(BLOCKS[max(1, height)] for height in heights)


def cloud_dots(xyz: np.ndarray, width: int = 12, height: int = 5) -> str:
    """Draw points (P, 3) as seen along y, z up, in ``height`` lines of Braille, 2 x 4 dots a character."""
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


def picture_cells(pixels: np.ndarray, width: int = 16) -> Cells:
    """Draw (H, W, 3) uint8 as at most 8 lines of ``width`` cells of two pixels, one over the other."""
    from PIL import Image as Picture
    from PIL.Image import Resampling

    rows = 2 * min(8, max(1, round(width * pixels.shape[0] / pixels.shape[1] / 2)))
    small = np.asarray(Picture.fromarray(pixels).resize((width, rows), Resampling.BOX)).tolist()
    return [[(tuple(a), tuple(b)) for a, b in zip(small[i], small[i + 1], strict=True)] for i in range(0, rows, 2)]
