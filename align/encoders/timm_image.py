"""TimmImage: any image model of timm, with the pooling and the pictures that its weights mean."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from align.encoders.base import Encoder, freeze_batch_norm
from align.encoders.timm import model as timm_model
from align.encoders.timm.pictures import describe_images, one_side, read_settings
from align.encoders.timm.source import find
from align.values import Features

POOLS = ("token", "avg", "max", "avgmax", "map")
MEANT = {"_dinov3": "token"}
"""Part of a name -> the pooling of its publication, where timm's default is another.

DINOv3 trains and evaluates its class token (Siméoni et al. 2025, arXiv:2508.10104, section 6); timm averages the
patches. timm's default for DINOv2 and DINO is the class token already.
"""


@final
class TimmImage(Encoder):
    """A timm model: (n, channels, H, W) normalised images -> features before the classifier, with patches as tokens.

    Args:
        name: a name of timm, "vit_tiny_patch16_224" or with a tag, "vit_base_patch16_224.augreg_in21k". Or a folder
            that timm saved (config.json and weights), or "hf-hub:owner/name", whose weights are loaded.
        pretrained: True for timm's default weights, a tag, the path of a file in timm's layout (.safetensors, or .pth
            and .bin, of which only tensors are read), a folder, or "hf-hub:owner/name". It is None again once the
            weights are in.
        size: pixels a side, or (height, width), where the model asks for a fixed one. None takes the model's.
        channels: of the images. None takes the model's. For others, timm sums or repeats the first weights.
        pool: "token", "avg", "max", "avgmax" or "map". None takes the one that the weights mean.
        patch_dropout: share of the patches that a vision transformer leaves out in training (Li et al. 2023, FLIP,
            arXiv:2212.00794).
        dynamic: take images of any size. A vision transformer interpolates its position embeddings to each.
        arguments: of the architecture, as a saved config.json states them.
        processing: timm's settings of the images: input_size, mean, std, crop_pct, crop_mode and interpolation. None
            takes those of the weights. ``wants`` follows them.

    After construction ``name`` is an architecture, so a saved model needs no hub. A model with batch normalisation
    keeps its statistics as they are, with a warning. Raises ValueError for a name, a tag or an argument that timm does
    not have, and for weights that do not fit, OSError where weights cannot be fetched.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str | None = None,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        pool: str | None = None,
        patch_dropout: float = 0.0,
        dynamic: bool = False,
        arguments: dict[str, Any] | None = None,
        processing: dict[str, Any] | None = None,
    ):
        super().__init__()
        import timm

        if pool is not None and pool not in POOLS:
            raise ValueError(f"pool={pool!r} is not known; it may be {', '.join(map(repr, POOLS))}")
        if not 0 <= patch_dropout < 1:
            raise ValueError(f"patch_dropout={patch_dropout} is a share: at least 0, below 1")
        found = find(name, pretrained)
        found = found._replace(arguments={**found.arguments, **(arguments or {})})
        settings = dict(processing or read_settings(found.name, found.config))
        config: Any = timm.get_pretrained_cfg(found.name)
        self.channels: int = channels or found.arguments.get("in_chans") or settings["input_size"][0]
        sides: Any = size
        if config.fixed_input_size and not dynamic:
            sides = size or found.arguments.get("img_size") or settings["input_size"][1:]
        options: dict[str, Any] = {"in_chans": self.channels}
        if config.fixed_input_size and sides is not None:
            options["img_size"] = sides
        if patch_dropout:
            options["patch_drop_rate"] = patch_dropout
        make = timm_model.create_dynamic if dynamic and config.fixed_input_size else timm_model.create
        self.model = make(found, **options)
        self.name, self.pretrained = found.name, None
        self.size = one_side(sides) if isinstance(sides, tuple | list) else sides
        self.patch_dropout, self.dynamic = patch_dropout, dynamic
        stated = {"in_chans", "num_classes"} | ({"img_size"} if self.size else set())  # kept under other names
        self.arguments = {k: v for k, v in found.arguments.items() if k not in stated} or None
        self.processing = settings
        self.pool = pool or next((meant for part, meant in MEANT.items() if part in found.name), None)
        if self.pool is not None:
            _set_pool(self.model, found.name, self.pool)
        self.origin = found.origin
        self.width = timm_model.width(self.model)
        sides = timm_model.fixed_size(self.model)
        self.grid = None if sides is None or self.dynamic else timm_model.grid(self.model, *sides)
        freeze_batch_norm(self, found.name)

    def wants(self) -> dict[str, Any]:
        """Return the images of timm's evaluation for these weights: scaled by PIL, cropped by crop_pct."""
        return describe_images(self.processing, self.size, self.channels)

    def grid_of(self, values: Tensor) -> tuple[int, int] | None:
        return self.grid or timm_model.grid(self.model, *values.shape[-2:])

    def encode(self, values: Tensor) -> Features:
        return timm_model.features(self.model, values)


def _set_pool(model: Any, name: str, pool: str) -> None:
    """Change the pooling and nothing else. At construction timm would also move the last norm."""
    try:
        model.reset_classifier(0, pool)
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"timm's {name} has no pool={pool!r}") from error
