"""The comparison of a written Sentence Transformers folder with the model that it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from align.extras import pip_install
from align.media import WORDS
from align.model import JointModel

TOLERANCE = 1e-5
TEXTS = ["a photo of a dog", "Größe, naïve café: 3.14 & “so” — 日本", "two  spaces\nand lines", "x"]
"""Texts that tokenizers treat differently: other letters, spaces, and one of one token."""
SPACES = ["  a photo of a dog \n"]


class Compared(NamedTuple):
    """Lines about a folder: where it encodes otherwise than the model, None where it does not, and a note."""

    difference: str | None
    notes: tuple[str, ...] = ()


def compare(model: JointModel, folder: Path) -> Compared:
    """Return where Sentence Transformers encodes otherwise than the model.

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
        reason = " ".join(str(error).split())[:160]
        return Compared(f"Sentence Transformers does not load the modules that it was written as ({reason})")
    words = next(m for m in model.modalities if model.preprocess[m].medium is WORDS)
    context = getattr(model.preprocess[words], "context", 0)
    words_each = context if 0 < context <= 600 else 100  # a text that is cut; longer rows differ by rounding
    texts = [*TEXTS, " ".join(["long"] * words_each)]
    inputs: dict[str, list[Any]] = {words: texts} | ({"image": _draw()} if "image" in model.modalities else {})
    for name, given in inputs.items():
        gap = _measure(model, made, name, given)
        if not gap <= TOLERANCE:
            return Compared(f"Sentence Transformers' modules would encode {name} {gap:.1e} apart from the model")
    if _measure(model, made, words, SPACES) > TOLERANCE:
        return Compared(None, ("align strips the spaces around a text, and this folder's tokenizer reads them",))
    return Compared(None)


def _measure(model: JointModel, made: Any, name: str, given: list[Any]) -> float:
    """Return the largest difference of a coordinate, for embeddings of length 1."""
    theirs = torch.from_numpy(made.encode(given, show_progress_bar=False))
    ours = model.embed(**{name: given})[name].cpu()
    return float((theirs - ours).abs().max() / ours.norm(dim=1).max())


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
