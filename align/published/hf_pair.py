"""Image and text towers of one transformers checkpoint, with its temperature: what CLIP and SigLIP share."""

from __future__ import annotations

import math
from pathlib import Path

from align.encoders import HFCaption, HFImage
from align.encoders.hf.files import find
from align.encoders.weights import read_keys, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.published import check_layout
from align.values import TermInfo


def load_pair(layout: str, source: str) -> JointModel:
    """Return both towers with their own preprocessing, and the trained term at its learned scale and bias.

    Raises ValueError for weights of another layout, FileNotFoundError for a source that is not there.
    """
    path = find(source).weights()
    check_layout(layout, read_keys(path), str(path))
    image, text = HFImage(source, pretrained=True), HFCaption(source, pretrained=True)
    model = JointModel(
        {"image": Tower(encoder=image, head=Identity), "text": Tower(encoder=text, head=Identity)}, image.width
    )
    bias = _number(path, "logit_bias")
    model.terms = [TermInfo(("image", "text"), "pairwise", math.exp(_number(path, "logit_scale")), bias)]
    return model


def _number(path: Path, name: str) -> float:
    """Return a trained number, 0 where the checkpoint has none."""
    found = read_weights(path, name)
    return float(next(iter(found.values())).float()) if found else 0.0
