"""A tower of videos beside a trained image tower: the same weights, read frame by frame."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

from align.encoders import VideoFrames
from align.heads import Identity
from align.model.joint import JointModel
from align.model.tower import Tower
from align.preprocess import Image, Video

VideoPool = Literal["mean", "unit-mean"]


def with_videos(
    model: JointModel,
    pool: VideoPool = "unit-mean",
    frames: int = 8,
    fps: float | None = None,
    image: str = "image",
    video: str = "video",
) -> JointModel:
    """Return the model with one more tower, which shares the encoder of an image tower and copies its head.

    A video is the mean of its frames' features, so nothing is trained: zero-shot video as CLIP4Clip (Luo et al. 2021,
    arXiv:2104.08860, section 3.3) and the Perception Encoder do it. Each trained term of images holds for videos too,
    at its scale. Images keep their embeddings. Both towers read the images' size, crop and normalisation.

    Args:
        pool: as ``VideoFrames`` takes it. "unit-mean" is of embeddings, so the image tower has no head of its own.
        frames, fps: as ``Video`` takes them.
        image, video: names of the tower that is there and of the new one.

    Raises ValueError where there is no such image tower, where ``video`` is there already, for pictures of other than
    three channels of 8 bits, for an encoder that another tower shares, and for "unit-mean" before a head.
    """
    if image not in model.modalities:
        raise ValueError(f"videos need a tower of images; the model has {', '.join(model.modalities)}")
    if video in model.modalities:
        raise ValueError(f"the model has a tower {video!r} already")
    tower, share = model.towers[image], dict(model.share or {})
    pictures = tower.preprocess
    if type(pictures) is not Image or (pictures.channels, pictures.bits) != (3, 8):
        raise ValueError(f"frames are pictures of three channels of 8 bits; the tower {image!r} reads {pictures!r}")
    if image in {*share, *share.values()}:
        raise ValueError(f"the tower {image!r} shares its encoder already")
    if pool == "unit-mean" and not isinstance(tower.head, Identity):
        raise ValueError(
            f"unit-mean is the mean of embeddings, and {image!r} has a head behind its features "
            f"({type(tower.head).__name__}); take mean"
        )
    origin = tower.read_origin(tower.encoder.state_dict())
    encoder = VideoFrames(tower.encoder, pool, frames)
    encoder.origin = origin
    towers: dict[str, Any] = {name: model.towers[name] for name in model.modalities}
    towers[image] = Tower(pictures, encoder, tower.head)
    towers[video] = Tower(Video(frames, fps, **_arguments(pictures)), None, copy.deepcopy(tower.head))
    out = JointModel(towers, model.dim, {**share, video: image}, model.normalize, model.tied)
    renamed = [
        term._replace(modalities=tuple(video if m == image else m for m in term.modalities))
        for term in model.terms
        if image in term.modalities
    ]
    out.terms = [*model.terms, *renamed]
    return out.train(model.training)


def _arguments(pictures: Image) -> dict[str, Any]:
    """Return the arguments that ``Image`` and ``Video`` have in common."""
    names = [name for name in inspect.signature(Video).parameters if hasattr(pictures, name)]
    return {name: getattr(pictures, name) for name in names}
