"""Fingerprints of models."""

from __future__ import annotations

import hashlib

import torch

from align.model.inside import model_inside, weights


def fingerprint(model: torch.nn.Module) -> str:
    """The SHA-256 that the model's model.safetensors has, or would have."""
    from safetensors.torch import save

    kept = {k: v.cpu().contiguous().clone() for k, v in weights(model_inside(model)).items()}
    return hashlib.sha256(save(kept)).hexdigest()
