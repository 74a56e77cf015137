"""How towers are computed: compiled, with activations made anew in the backward pass, in channels-last order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Compute:
    """Ways to compute the towers of a run. None of them changes the model that is saved.

    Each of the first three is False, True for all modalities, or a list of modalities.

    Args:
        compile: ``torch.compile`` of each encoder.
        checkpointing: the blocks of an encoder keep no activations; the backward pass computes them anew.
        channels_last: weights and pictures of image encoders in the memory order NHWC.
        backend: of ``torch.compile``. Default: inductor.
    """

    compile: bool | list[str] = False
    checkpointing: bool | list[str] = False
    channels_last: bool | list[str] = False
    backend: str = "inductor"
