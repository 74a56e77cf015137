"""The patches of CLAP's HTSAT with fusion (Wu et al. 2023, section 2.3), where every row is fused."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn
from torch.nn.functional import pad

PARTS = 3


@final
class FusedPatches(nn.Module):
    """transformers' patches with fusion, with their parts and names, for rows of the whole clip and three of its parts.

    The library fuses the rows that are marked, and finds them in the values, which no compiled graph can follow.
    """

    def __init__(self, patches: Any):
        super().__init__()
        self.proj, self.norm = patches.proj, patches.norm
        self.fusion_model, self.mel_conv2d = patches.fusion_model, patches.mel_conv2d

    def forward(self, hidden_states: Tensor, is_longer_idx: Tensor | None = None) -> Tensor:
        """Return (n, L, W) patches of (n, 4, H, W') spectrograms, the whole clip first."""
        whole = self.proj(hidden_states[:, :1])  # (n, W, h, w)
        parts = self.mel_conv2d(hidden_states[:, 1:].flatten(0, 1)[:, None])  # (n · 3, W, h, w / 3)
        beside = parts.unflatten(0, (-1, PARTS)).permute(0, 2, 3, 1, 4).flatten(3)  # one part after the other
        beside = pad(beside, (0, whole.shape[-1] - beside.shape[-1]))
        return self.norm(self.fusion_model(whole, beside).flatten(2).mT)
