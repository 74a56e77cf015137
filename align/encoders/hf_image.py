"""HFImage: the image tower of transformers' CLIP or SigLIP."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.hf.model import plain_config
from align.encoders.hf.parts import IMAGE, open_part
from align.encoders.hf.picture import wanted_picture
from align.values import Features


@final
class HFImage(Encoder):
    """An image tower of CLIP (after its projection) or SigLIP (after its attention pooling), as transformers has it.

    It reads (n, channels, size, size) pixels, normalised. Patches are its tokens. They are in the joint space for CLIP,
    which projects them too. SigLIP's stand before the pooling.

    Args:
        name: ``owner/name``, ``hf-hub:owner/name[@revision]``, or a folder as transformers saves it, of one tower or of
            both. With ``config`` it is a label.
        pretrained: True takes the weights of ``name``, a file or a folder its own, False random ones. It is False again
            once the weights are in.
        checkpointing: compute activations again in the backward pass, for less memory.
        config: the tower's config as plain data. A checkpoint has it, so that loading asks no hub.

    Raises ValueError for a model of another type and for files that do not fit, FileNotFoundError for a source that is
    not there, ImportError where transformers is absent.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        checkpointing: bool = False,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        part, made, self.model, self.origin, found = open_part(IMAGE, name, pretrained, config, checkpointing)
        self.name, self.pretrained, self.config = name, False, plain_config(made)
        self.checkpointing = checkpointing
        self.size, self.channels = int(made.image_size), int(made.num_channels)
        self.width = int(getattr(made, "projection_dim", None) or made.hidden_size)
        side = self.size // int(made.patch_size)
        self.grid = (side, side)
        self._read = part.read
        self._wants = None if found is None else wanted_picture(found.folder, self.size, self.channels)

    def wants(self) -> dict[str, Any] | None:
        return self._wants

    def encode(self, values: Tensor) -> Features:
        return self._read(self.model, values)
