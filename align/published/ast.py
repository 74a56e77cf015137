"""``ast``: an Audio Spectrogram Transformer of transformers, as one tower of sounds."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel
from align.published.audio_tower import load_audio


def load(source: str) -> JointModel:
    """Return a model of one tower, ``audio``: the mean of the class and the distillation token, normalised.

    source: a folder as transformers saves it, or ``owner/name`` or ``hf-hub:owner/name``. A classifier is left out.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    return load_audio("ast", source)


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors look like AST's."""
    names = {key.removeprefix("audio_spectrogram_transformer.") for key in keys}
    return {"embeddings.distillation_token", "embeddings.patch_embeddings.projection.weight"} <= names
