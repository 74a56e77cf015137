"""Image and text towers of one transformers checkpoint, with its temperature: what CLIP and SigLIP share."""

from __future__ import annotations

from align.encoders import HFCaption, HFImage
from align.encoders.hf.files import find
from align.encoders.weight_values import read_number, read_scale
from align.encoders.weights import read_keys, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.published.layouts import check_layout
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
    numbers = read_weights(path, "logit_")  # under "scale", and "bias" where the model has one
    scale = read_scale(numbers["scale"], "logit_scale", path)
    bias = read_number(numbers["bias"], "logit_bias", path) if "bias" in numbers else 0.0
    model.terms = [TermInfo(("image", "text"), "pairwise", scale, bias)]
    return model
