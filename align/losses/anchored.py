"""Modules of losses that contrast an anchor modality with tuples of the others."""

from __future__ import annotations

from typing import ClassVar

from align.losses.kernels.anchors import Anchor, check_anchor
from align.losses.temperature import ClipTemperature


class Anchored(ClipTemperature):
    """Abstract: a loss module over an anchor and tuples, with a learned temperature.

    anchor: "all", or the place of the anchor in ``between``.
    start_scale, max_scale, learn_scale: None takes CLIP's values.
    """

    modalities: ClassVar[int | None] = None  # in one call; None: any number

    def __init__(
        self,
        anchor: Anchor = "all",
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        check_anchor(anchor, self.modalities)
        self.anchor: Anchor = anchor
