"""One tower of sounds from a checkpoint of transformers, for the layouts that are no more than that."""

from __future__ import annotations

from align.encoders import HFAudio
from align.encoders.hf.model import find
from align.encoders.weights import read_keys
from align.heads import Identity
from align.model import JointModel, Tower


def load_audio(layout: str, source: str) -> JointModel:
    """Return a model of one tower, ``audio``, with the preprocessing of its publisher.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    encoder = HFAudio(check_source(layout, source), True)
    return JointModel({"audio": Tower(None, encoder, Identity)}, encoder.width)


def check_source(layout: str, source: str) -> str:
    """Return the source again. Raises ValueError where its weights look like another layout, OSError as ``find``."""
    from align.published.layouts import check_layout

    path = find(source).weights()
    check_layout(layout, read_keys(path), str(path))
    return source
