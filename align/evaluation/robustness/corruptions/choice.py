"""The corruptions of a modality, by the medium that its preprocess names."""

from __future__ import annotations

from align.evaluation.robustness.corruptions import cloud, picture, sound, words
from align.evaluation.robustness.corruptions.cloud import Redrawn
from align.evaluation.robustness.corruptions.corruption import Corruption
from align.media.cloud import CLOUD
from align.media.picture import PICTURE
from align.media.sound import SOUND
from align.media.video import VIDEO
from align.media.words import WORDS
from align.preprocess import Preprocess

__all__ = ["Redrawn", "corruptions_of", "is_cloud", "known_corruptions"]

MAKERS = (
    (PICTURE, picture.corruptions),
    (VIDEO, picture.corruptions),
    (SOUND, sound.corruptions),
    (CLOUD, cloud.corruptions),
    (WORDS, words.corruptions),
)


def corruptions_of(preprocess: Preprocess) -> dict[str, Corruption]:
    """Return name -> corruption for a preprocess, {} for a medium that has none, such as arrays or one of yours."""
    return next((make(preprocess) for medium, make in MAKERS if preprocess.medium is medium), {})


def is_cloud(preprocess: Preprocess) -> bool:
    """Return True for a preprocess of point clouds, of which it draws some."""
    return preprocess.medium is CLOUD


def known_corruptions() -> list[str]:
    """Return the names of the corruptions of all media."""
    names = [*picture.NAMES, *sound.NAMES, *cloud.NAMES, *words.NAMES]
    return list(dict.fromkeys(names))
