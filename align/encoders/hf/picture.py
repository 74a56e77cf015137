"""The image processor of a transformers model, as arguments of ``align.preprocess.Image``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.encoders.hf.model import library

INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers of the interpolations that torch has."""


def wanted_picture(folder: Path, size: int, channels: int) -> dict[str, Any]:
    """Return the description of the preprocess that a model's folder states (``preprocessor_config.json``).

    transformers reads the file, with the defaults of its own version. size: pixels a side that the model takes.

    Raises ValueError for a processor whose pictures ``Image`` does not make, or that are of another size.
    """
    processor = _read(folder)
    if processor.resample is None or int(processor.resample) not in INTERPOLATIONS:
        raise ValueError(f"{folder} scales pictures by {processor.resample!r}, which is not read")
    if not processor.do_rescale or abs(processor.rescale_factor * 255 - 1) > 1e-9:
        raise ValueError(f"{folder} does not scale pixels by 1/255, which is not read")
    if processor.do_normalize:
        mean, std = list(processor.image_mean), list(processor.image_std)
    else:
        mean, std = [0.0] * channels, [1.0] * channels
    init_args = {"size": size, "channels": channels, **_geometry(processor, size, folder), "mean": mean, "std": std}
    init_args |= {"interpolation": INTERPOLATIONS[int(processor.resample)], "backend": "transformers"}
    return {"class_path": "align.preprocess.Image", "init_args": init_args}


def _read(folder: Path) -> Any:
    """Return transformers' image processor of a folder. Raises ValueError where it has none."""
    try:
        kind = library().AutoImageProcessor
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, and many lines long
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} holds no image processor that transformers reads: {reason}") from error


def _geometry(processor: Any, size: int, folder: Path) -> dict[str, Any]:
    """Return resize and crop. Raises ValueError where the pictures would not be square, or of another size."""
    scaled, kept = _sides(processor.size), _sides(processor.crop_size)
    if not processor.do_resize:
        raise ValueError(f"{folder} does not scale pictures, and the model takes {size} x {size} pixels")
    squash = {"height", "width"} <= set(scaled)
    short = scaled.get("shortest_edge", scaled.get("height", 0))
    if (squash and scaled["height"] != scaled["width"]) or (not squash and "shortest_edge" not in scaled):
        raise ValueError(f"{folder} scales pictures to {dict(scaled)}, which is not read; known: square, shortest_edge")
    crops = bool(processor.do_center_crop)
    final = (kept["height"], kept["width"]) if crops else (short, short) if squash else None
    if final != (size, size):
        raise ValueError(f"{folder} makes pictures of {final or 'any'} pixels, the model takes {size} x {size}")
    if short < size:
        raise ValueError(f"{folder} crops {size} pixels of pictures scaled to {short}")
    share = size / short
    return {"resize": "squash" if squash else "crop"} | ({} if share == 1 else {"crop": share})


def _sides(value: Any) -> Mapping[str, int]:
    return {} if value is None else {key: x for key, x in dict(value).items() if x is not None}
