"""The view of a picture's row: the same arithmetic as ``image_resize.fit``, on the picture's corners."""

from __future__ import annotations

from math import floor

from align.preprocess.image_resize import LONGEST
from align.preprocess.view import View


def fit_view(H: int, W: int, size: tuple[int, int], how: str, crop: float, backend: str) -> View:
    """Return the view of the row that ``fit`` makes of a picture of H x W pixels."""
    tall, wide = (floor(side / crop) for side in size)
    top = left = 0  # of the part that is scaled
    height, width = H, W
    if how == "squash":
        scaled = tall, wide
    elif how == "pad":
        ratio = max(H / tall, W / wide)
        scaled = max(1, round(H / ratio)), max(1, round(W / ratio))
    else:
        most = LONGEST[backend] * min(H, W)
        if max(H, W) > most:
            height, width = min(H, most), min(W, most)
            top, left = round((H - height) / 2), round((W - width) / 2)
        if tall == wide:
            short = min(height, width)
            scaled = max(tall, int(tall * height / short)), max(wide, int(wide * width / short))
        else:
            ratio = min(height / tall, width / wide)
            scaled = max(size[0], round(height / ratio)), max(size[1], round(width / ratio))
    down, right = (
        _corner(*sides, pads=how == "pad", down=backend == "transformers") for sides in zip(scaled, size, strict=True)
    )
    y, x = height / scaled[0], width / scaled[1]  # pixels of the picture that one of the scaled covers
    return View(
        (left + right * x) / W,
        (top + down * y) / H,
        (left + (right + size[1]) * x) / W,
        (top + (down + size[0]) * y) / H,
    )


def _corner(scaled: int, size: int, *, pads: bool, down: bool) -> int:
    """Return the place of a row's first pixel among the scaled ones, negative where the row has a border."""
    if pads and scaled < size:
        return -((size - scaled) // 2)
    return (floor if down else round)((scaled - size) / 2)
