"""TimmImage: any image model of timm."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from align.encoders import timm_model
from align.encoders.base import Encoder, freeze_batch_norm
from align.values import Features


@final
class TimmImage(Encoder):
    """A timm model: (n, 3, H, W) normalised images -> its features before the classifier, with patches as tokens.

    name: a name of timm, "vit_tiny_patch16_224" or with a tag, "vit_base_patch16_224.augreg_in21k".
    pretrained: True, a tag, or the path of a file in timm's layout. It is None again once the weights are in.
    size: of the images, where the model asks for a fixed one. None takes the model's.

    A model with batch normalisation keeps its statistics as they are, with a warning. Raises ValueError for a name or
    a tag that timm does not have, OSError where weights cannot be fetched.
    """

    def __init__(self, name: str, pretrained: bool | str | None = None, size: int | None = None):
        super().__init__()
        import timm

        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        options: dict[str, Any] = {}
        if config is not None and config.fixed_input_size:
            size = size or config.input_size[-1]
            options["img_size"] = size
        self.model = timm_model.create(name, pretrained, **options)
        self.name, self.size, self.channels = name, size, 3
        self.pretrained = None
        self.width = timm_model.width(self.model)
        freeze_batch_norm(self, name)

    def encode(self, values: Tensor) -> Features:
        return timm_model.features(self.model, values)
