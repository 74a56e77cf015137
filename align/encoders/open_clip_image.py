"""OpenClipImage: the image part of an open_clip model."""

from __future__ import annotations

from typing import final

from torch import Tensor

from align.encoders import open_clip_model
from align.encoders.base import Encoder, freeze_batch_norm
from align.values import Features


@final
class OpenClipImage(Encoder):
    """An open_clip image tower: (n, 3, size, size) images, normalised with CLIP's mean -> its image features.

    They are those after the model's projection. Patches, through the same norm and projection, are tokens where the
    model is open_clip's ViT.

    pretrained: a tag, or the path of a file in open_clip's layout. None gives random weights. It is None again once the
        weights are in.

    A model with batch normalisation keeps its statistics as they are, with a warning. Raises ValueError for a name, a
    tag or a file that does not fit, OSError where weights cannot be fetched.
    """

    def __init__(self, name: str, pretrained: str | None = None):
        super().__init__()
        from open_clip.transformer import VisionTransformer

        whole = open_clip_model.create(name, pretrained)
        self.visual = whole.visual
        self.name, self.pretrained, self.channels = name, None, 3
        size = self.visual.image_size
        self.size = size[0] if isinstance(size, tuple | list) and len(set(size)) == 1 else size
        self._vit = isinstance(self.visual, VisionTransformer)
        if self._vit:
            self.visual.output_tokens = True
        self.width = open_clip_model.width(name)
        freeze_batch_norm(self, name)

    def encode(self, values: Tensor) -> Features:
        if not self._vit:
            return Features(self.visual(values))
        pooled, tokens = self.visual(values)
        if self.visual.final_ln_after_pool:
            tokens = self.visual.ln_post(tokens)
        return Features(pooled, tokens if self.visual.proj is None else tokens @ self.visual.proj)
