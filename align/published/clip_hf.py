"""``clip-hf``: CLIP as transformers saves it, such as openai/clip-vit-base-patch32 (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel
from align.published.hf_pair import load_pair

NAMES = {"logit_scale", "text_projection.weight", "visual_projection.weight"}


def load(source: str) -> JointModel:
    """Return image and text towers with their projections and CLIP's learned scale.

    source: a hub id or a saved folder. Its image processor and its tokenizer are read as transformers reads them.
    """
    return load_pair("clip-hf", source)


def fits(keys: Collection[str]) -> bool:
    """Return True for names of both towers of CLIP."""
    return set(keys) >= NAMES and any(k.startswith("vision_model.embeddings.class_embedding") for k in keys)
