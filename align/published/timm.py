"""timm: one image tower of any timm model, with the pictures that its weights were trained on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from align.encoders import TimmImage
from align.encoders.weights import read_keys
from align.files.hub import PREFIX, is_repository, model_folder
from align.heads import Identity
from align.model import JointModel, Tower

OTHERS = ("visual.", "text.", "vision_model.", "text_model.", "transformer.", "encoder.", "embeddings.", "audio_model.")
"""First parts of names in other layouts."""
MARKS = (
    "patch_embed.",
    "blocks.0.",
    "stem.",
    "stages.0.",
    "conv_stem.",
    "layer1.0.",
    "layers.0.blocks.",
    "features.0.",
)
"""First parts of names in timm's families: transformers, ConvNeXt, EfficientNet, ResNet, Swin, DenseNet."""


def load(source: str) -> JointModel:
    """Return a model of one tower, ``image``, whose embeddings are the features of a timm model, normalised.

    source: ``NAME[.TAG]``, ``NAME@FILE`` with FILE in timm's layout, ``hf-hub:owner/name``, or a folder that timm
    saved. ``NAME`` alone takes timm's default weights.

    Raises ValueError for a name or a tag that timm does not have, and for weights of another layout or model, OSError
    for weights that are not there or cannot be fetched.
    """
    name, _, file = ("", "", "") if source.startswith(PREFIX) else source.partition("@")
    if file and not Path(source).exists():
        encoder = _from_file(name, file)
    elif source.startswith(PREFIX) or model_folder(source) is not None:
        encoder = TimmImage(source)
    elif Path(source).is_file():
        raise ValueError(f"{source} does not say its architecture; give timm's name for it: NAME@{source}")
    elif is_repository(source):
        raise ValueError(
            f"timm has no model {source!r}, and there is no such folder; on the hub it is {PREFIX}{source}"
        )
    else:
        arch, _, tag = source.partition(".")
        encoder = TimmImage(arch, tag or True)
    return JointModel({"image": Tower(None, encoder, Identity)}, encoder.width)


def _from_file(name: str, file: str) -> TimmImage:
    if not Path(file).is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        return TimmImage(name, file)
    except ValueError:
        from align.published.layouts import check_layout

        check_layout("timm", read_keys(Path(file)), file)  # a better reason where the names are of another layout
        raise


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors look like timm's. Libraries with names like timm's are taken for it."""
    return any(key.startswith(MARKS) for key in keys) and not any(key.startswith(OTHERS) for key in keys)
