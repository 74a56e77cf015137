"""SpectrogramViT: a vision transformer of timm that reads log-mel spectrograms."""

from __future__ import annotations

from typing import final

from torch import Tensor

from align.encoders.base import Encoder, freeze_batch_norm
from align.encoders.timm import model as timm_model
from align.encoders.timm.source import find
from align.values import Features


@final
class SpectrogramViT(Encoder):
    """A vision transformer of timm: (n, 1, n_mels, T) -> features, with patches as tokens (Gong et al. 2021, AST,
    arXiv:2104.01778, section 2).

    Any T: the position embedding, made for ``frames``, is resized to the input, and the spectrogram is padded to whole
    patches.

    name, pretrained: as in TimmImage. The colour channels of image weights are summed.
    checkpointing: train with fewer activations in memory; each block is computed again for its gradient.
    """

    lengths = False  # takes a tensor alone

    def __init__(
        self,
        name: str = "vit_tiny_patch16_224",
        n_mels: int = 64,
        frames: int = 512,
        pretrained: bool | str | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        found = find(name, pretrained)._replace(arguments={})  # those of an image model
        self.name, self.n_mels, self.frames, self.channels = found.name, n_mels, frames, 1
        try:
            self.model = timm_model.create(
                found, in_chans=1, img_size=(n_mels, frames), dynamic_img_size=True, dynamic_img_pad=True
            )
        except timm_model.Unknown as error:
            raise ValueError(f"{name} is no vision transformer of timm: {error}") from error
        self.pretrained, self.checkpointing = None, checkpointing
        self.origin = found.origin
        self.model.set_grad_checkpointing(checkpointing)
        self.width = timm_model.width(self.model)
        freeze_batch_norm(self, name)

    def grid_of(self, values: Tensor) -> tuple[int, int] | None:
        """Return bands and times of the patches, the lowest bands first."""
        return timm_model.grid(self.model, *values.shape[-2:])

    def encode(self, values: Tensor) -> Features:
        return timm_model.features(self.model, values)
