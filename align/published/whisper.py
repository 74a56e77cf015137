"""``whisper``: the encoder of a Whisper checkpoint of transformers, as one tower of sounds."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel
from align.published.audio_tower import load_audio


def load(source: str) -> JointModel:
    """Return a model of one tower, ``audio``: the mean of the encoder's tokens over the sound, normalised.

    source: a folder as transformers saves it, or ``owner/name`` or ``hf-hub:owner/name``. The decoder is left out.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    return load_audio("whisper", source)


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors look like Whisper's."""
    return any(key in keys for key in ("model.encoder.conv1.weight", "encoder.conv1.weight"))
