"""``siglip-hf``: SigLIP, and SigLIP 2 of a fixed resolution, as transformers saves them (Zhai et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel
from align.published.hf_pair import load_pair

NAMES = {"logit_scale", "logit_bias", "vision_model.head.probe", "text_model.head.weight"}
PATCHES = "vision_model.embeddings.patch_embedding.weight"


def load(source: str) -> JointModel:
    """Return image and text towers, with the learned scale and bias of the sigmoid loss.

    source: a hub id or a saved folder. SigLIP 2 with a variable number of patches (NaFlex) is refused.
    """
    return load_pair("siglip-hf", source)


def fits(keys: Collection[str]) -> bool:
    """Return True for names of both towers of SigLIP."""
    return set(keys) >= NAMES and PATCHES in keys
