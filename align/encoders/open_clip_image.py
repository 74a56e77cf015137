"""OpenClipImage: the image tower of an open_clip model."""

from __future__ import annotations

import logging
from typing import Any, final

from torch import Tensor

from align.encoders.base import Encoder, freeze_batch_norm
from align.encoders.open_clip.model import kept_config, make_tower
from align.encoders.open_clip.source import default_preprocess, find_model
from align.encoders.open_clip.wants import describe_image
from align.values import Features

log = logging.getLogger("align.encoders")


@final
class OpenClipImage(Encoder):
    """An open_clip image tower: (n, 3, size, size) normalised images -> its image features.

    They are those after the model's projection. Patches are tokens where the same norm and projection make features of
    one: in open_clip's own ViT, and in timm's ViT without a pooling by attention (EVA, MobileCLIP-B).

    Args:
        name: of open_clip ("ViT-B-32"), ``hf-hub:owner/name[@revision]``, or a folder that open_clip saved
            (``local-dir:FOLDER`` or its path). The last two bring their weights.
        pretrained: of a model named by open_clip: a tag ("laion2b_s34b_b79k"), the path of a file in open_clip's
            layout, or ``TAG@FILE``, a file with the preprocessing and the activation of a tag. None gives random
            weights. It is None again once the weights are in.
        config: the architecture as plain data ("embed_dim", "vision_cfg", "quick_gelu", "preprocess_cfg"). Then
            ``name`` is a label. A checkpoint keeps it where open_clip does not know all of it by the name.

    Only this tower is built, and only its weights are read. A model with batch normalisation keeps its statistics as
    they are, with a warning. Raises ValueError for a name, a tag or a file that does not fit, OSError where weights
    cannot be fetched.
    """

    def __init__(self, name: str, pretrained: str | None = None, config: dict[str, Any] | None = None):
        super().__init__()
        from open_clip.transformer import VisionTransformer

        source = find_model(name, pretrained, config)
        if source.note:
            log.warning(source.note)
        self.visual: Any
        self.visual, self.origin = make_tower("visual", source)
        self.name, self.pretrained, self.config, self.channels = name, None, kept_config("visual", source), 3
        self._stated = {**default_preprocess(), **source.config.get("preprocess_cfg", {})}
        size = self.visual.image_size
        self.size = size[0] if isinstance(size, tuple | list) and len(set(size)) == 1 else size
        self._vit = isinstance(self.visual, VisionTransformer)
        if self._vit:
            self.visual.output_tokens = True
        self._timm_vit = _reads_patches(self.visual)
        patches = self.visual if self._vit else self.visual.trunk.patch_embed if self._timm_vit else None
        self.grid = None if patches is None else tuple(patches.grid_size)
        self.width = source.config["embed_dim"]
        freeze_batch_norm(self, name)

    def wants(self) -> dict[str, Any]:
        return describe_image(self.size, self._stated)

    def encode(self, values: Tensor) -> Features:
        if self._timm_vit:
            return self._encode_timm(values)
        if not self._vit:
            return Features(self.visual(values))
        pooled, tokens = self.visual(values)
        if self.visual.final_ln_after_pool:
            tokens = self.visual.ln_post(tokens)
        return Features(pooled, tokens if self.visual.proj is None else tokens @ self.visual.proj)

    def _encode_timm(self, values: Tensor) -> Features:
        """Return the features of timm's ViT: each patch goes the way of the pooled token, less the pooling."""
        vit, head = self.visual.trunk, self.visual.head
        maps = vit.forward_features(values)  # (n, prefix + L, width)
        patches = maps[:, vit.num_prefix_tokens :]
        return Features(head(vit.forward_head(maps)), head(vit.head(vit.head_drop(vit.fc_norm(patches)))))


def _reads_patches(visual: Any) -> bool:
    """Return True for a ViT of timm that pools by its class token or the mean."""
    vit = getattr(visual, "trunk", None)
    plain = getattr(vit, "global_pool", None) in ("token", "avg") and getattr(vit, "attn_pool", None) is None
    return plain and all(hasattr(vit, name) for name in ("fc_norm", "head_drop", "head", "num_prefix_tokens"))
