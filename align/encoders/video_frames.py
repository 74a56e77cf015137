"""VideoFrames: the frames of a video through any image encoder, pooled."""

from __future__ import annotations

from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.frame_pools import FrameAttention, FrameTransformer, MeanPool
from align.values import Features

Pool = Literal["mean", "unit-mean", "attention", "times"]
PICTURE = "align.preprocess.Image"


@final
class VideoFrames(Encoder):
    """Frames (n, F, 3, H, W) through an image encoder, then a pooling of their features. The tokens are the frames.

    Values are {"values": (n, F, 3, H, W), "mask": (n, F)} of ``align.preprocess.Video``, or (n, F, 3, H, W) where all
    frames are real. A picture (n, 3, H, W) is a video of one frame. So one encoder serves a video tower and an image
    tower: ``share: {video: image}``, and the image tower keeps ``align.preprocess.Image``.

    The pooling is over the encoder's pooled features, before the tower's head. Those of ``OpenClipImage`` and
    ``HFImage`` are projected into the joint space already.

    Args:
        image: any image encoder.
        pool: "mean" of the features: the Perception Encoder's ``encode_video``, and LanguageBind (arXiv:2310.01852),
            whose blocks also attend over time. "unit-mean", of their unit vectors: CLIP4Clip's meanP (Luo et al. 2021,
            arXiv:2104.08860, section 3.3). "attention": weights that are learned from each frame alone. "times": a
            transformer over the frames with learned positions, CLIP4Clip's seqTransf. The first three do not see the
            order of frames.
        frames: the most that "times" reads, and the number that ``wants`` asks for.
        depth, heads: of the transformer of "times".

    Raises ValueError for a pool of another name, and for an encoder without ``width``.
    """

    videos = True

    def __init__(self, image: nn.Module, pool: Pool = "mean", frames: int = 8, depth: int = 2, heads: int = 4):
        super().__init__()
        width = getattr(image, "width", None)
        if not isinstance(width, int):
            raise ValueError(f"VideoFrames wraps an image encoder, which has a width; {type(image).__name__} has none")
        if pool not in get_args(Pool):
            raise ValueError(f"pool={pool!r} is not known; it may be {', '.join(map(repr, get_args(Pool)))}")
        if min(frames, depth) < 1:
            raise ValueError(f"frames and depth are at least 1, not {frames} and {depth}")
        self.image, self.pool, self.frames, self.depth, self.heads = image, pool, frames, depth, heads
        self.width: int = width
        self.size, self.channels = getattr(image, "size", None), getattr(image, "channels", None)
        self.origin = getattr(image, "origin", None)
        if pool == "times":
            self.frames_limit = frames
            self.pooling: nn.Module = FrameTransformer(width, frames, depth, heads)
        else:
            self.pooling = FrameAttention(width) if pool == "attention" else MeanPool(pool == "unit-mean")

    def wants(self) -> dict[str, Any] | None:
        """Return a ``Video`` of the pictures that the image encoder wants.

        Raises ValueError for a preprocess that is no ``Image``, and for other pictures than of three channels.
        """
        wanted = self.image.wants() if isinstance(self.image, Encoder) else None
        if wanted is None:
            return None
        pictures = dict(wanted.get("init_args", {}))
        channels = pictures.pop("channels", 3)
        if wanted["class_path"] != PICTURE or channels != 3:
            kind = type(self.image).__name__
            raise ValueError(
                f"{kind} reads {wanted['class_path']} of {channels} channels; the frames of a video are Image's of 3"
            )
        return {"class_path": "align.preprocess.Video", "init_args": {"frames": self.frames, **pictures}}

    def encode(self, values: Tensor | dict[str, Tensor]) -> Features:
        x, mask = (values["values"], values["mask"]) if isinstance(values, dict) else (values, None)
        if x.ndim == 4:
            x = x[:, None]
        if x.ndim != 5:
            raise ValueError(f"VideoFrames takes (n, F, 3, H, W), or pictures (n, 3, H, W), got {tuple(x.shape)}")
        pooled = self.image(x.flatten(0, 1)).pooled  # (n · F, W)
        tokens, pooled = self.pooling(torch.unflatten(pooled, 0, (-1, x.shape[1])), mask)
        return Features(pooled, tokens, mask)
