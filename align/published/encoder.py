"""The encoder of one tower of a published model, for a config."""

from __future__ import annotations

from align.encoders import Encoder
from align.published.loading import load_published


def load_encoder(source: str, modality: str) -> Encoder:
    """Return the encoder of one tower of LAYOUT:SOURCE with its published weights, to be trained under a new head.

    A config names this function as ``class_path``, so a run starts from any layout. The run's own checkpoints hold the
    class of the encoder and its weights.

    Raises ValueError for a source without a layout and for a modality that the model has no tower for, and as
    ``load_published``.
    """
    layout, colon, place = source.partition(":")
    if not colon:
        raise ValueError(f"source {source!r}: a published model is LAYOUT:SOURCE, as in uni3d:model.pt")
    model = load_published(layout, place, towers=[modality])
    return model.towers[modality].encoder.train()  # pyright: ignore[reportReturnType, reportCallIssue]
