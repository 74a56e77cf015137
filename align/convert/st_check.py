"""The comparison of a written Sentence Transformers folder with the model that it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from align.extras import pip_install
from align.model import JointModel

TOLERANCE = 1e-5
TEXTS = [
    "a photo of a dog",
    "Größe, naïve café: 3.14 & “quoted” — 日本",
    "  two  spaces\nand lines ",
    "long " * 600,
    "x",
]
"""Texts that tokenizers treat differently: other letters, spaces, a text that is cut, and one of one token."""


def find_difference(model: JointModel, folder: Path) -> str | None:
    """Return a line where Sentence Transformers encodes otherwise than the model, None where it does not.

    Both read the same texts, and pictures where the model has a tower of them. Raises ImportError without the library.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        line = f"this export needs sentence-transformers; {pip_install('sentence-transformers')}"
        raise ImportError(line) from None
    try:
        made = SentenceTransformer(str(folder), device="cpu", truncate_dim=model.dim, local_files_only=True)
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, AttributeError) as error:
        return f"Sentence Transformers does not load its modules: {' '.join(str(error).split())[:160]}"
    inputs: dict[str, list[Any]] = {"text": TEXTS} | ({"image": _draw()} if "image" in model.modalities else {})
    for name, given in inputs.items():
        m = name if name in model.modalities else model.modalities[0]
        theirs = torch.from_numpy(made.encode(given, show_progress_bar=False))
        ours = model.embed(**{m: given})[m].cpu()
        gap = float((theirs - ours).abs().max() / ours.norm(dim=1).max())
        if not gap <= TOLERANCE:
            return f"its own modules encode {name} {gap:.1e} apart"
    return None


def _draw() -> list[Any]:
    """Return pictures of several shapes: waves and noise."""
    from PIL import Image

    draws, found = np.random.default_rng(0), []
    for height, width in ((97, 53), (134, 211), (300, 300)):
        y, x = np.mgrid[:height, :width]
        waves = [127 + 90 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (4 + c)) for c in range(3)]
        pixels = np.stack(waves, axis=-1) + draws.normal(0, 20, (height, width, 3))
        found.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return found
