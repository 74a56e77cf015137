"""From scenes to shards: picture, mask, cloud, captions, and in the json a region for each solid."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from align.quickstart.scene import Scene, captions, draw_scenes, long_caption, phrases
from align.quickstart.scene_render import boxes, render_scene, scene_points
from align.quickstart.world import ATTRIBUTES


def scene_members(scene: Scene, *, train: bool) -> dict[str, bytes]:
    """Return one sample: member name -> content. A solid that no pixel shows has no region."""
    picture, mask = render_scene(scene)
    cloud, numbers = scene_points(scene)
    seen = zip(scene.solids, phrases(scene), boxes(mask, len(scene.solids)), strict=True)
    regions: list[dict[str, Any]] = [
        {"box": box, "text": text, "mask": number, "label": solid.label}
        for number, (solid, text, box) in enumerate(seen, 1)
        if box is not None
    ]
    return {
        "image.png": _png(picture),
        "mask.png": _png(mask),
        "points.npy": _npy(cloud),
        "points_mask.npy": _npy(numbers),
        "text.txt": "\n".join(captions(scene, train=train)).encode(),
        "long.txt": long_caption(scene).encode(),
        "json": json.dumps({"label": scene.label, "regions": regions}).encode(),
    }


def _make(scenes: list[Scene], train: bool) -> list[dict[str, bytes]]:
    return [scene_members(scene, train=train) for scene in scenes]


def write_scenes(
    folder: str | Path, *, train: int = 2000, test: int = 400, seed: int = 0, workers: int = 2, piece: int = 25
) -> None:
    """Write ``train-*.tar``, ``test-*.tar`` and ``manifest.json`` of scenes of two to four solids.

    ``text`` is a caption of the whole by color and shape, ``long`` one that says every parameter of every solid. In the
    json stand the ``regions``: box (left, top, right, bottom as fractions of the picture), text, label, and the
    region's number in ``mask.png``. ``points_mask.npy`` has the number of each point's solid. The labels of a scene are
    lists. Train and test share no combination of parameters of a solid.

    train, test: how many scenes. workers: processes. The bytes are the same for any number. A script that calls it with
    workers > 1 needs the usual ``if __name__ == "__main__":``. Raises ValueError for numbers below 0.
    """
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    from align.data import ShardWriter  # here, not above: the worker processes import this file and need no torch
    from align.quickstart.pieces import map_pieces

    for split, n in (("train", train), ("test", test)):
        scenes = draw_scenes(split, n, seed)
        with ShardWriter(folder, split, classes=ATTRIBUTES, licence="CC0-1.0") as shards:
            for i, sample in enumerate(map_pieces(_make, scenes, split == "train", workers=workers, piece=piece)):
                shards.write(f"{split}-{i:06d}", sample)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()
