"""Masked: an encoder that also predicts masked tokens, of a teacher that follows its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from align.encoders.base import Encoder
from align.values import Features

AGREED = ("size", "channels", "lengths", "sample_rate", "n_mels", "front_end")
"""Attributes of the encoder inside that a preprocess has to agree with too."""

_steps = 0  # of all optimisers in this process


def _count(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count)


@final
class Masked(Encoder):
    """Any encoder of tokens, which in training predicts the tokens of masked places, for ``align.losses.MaskedTokens``.

    A share of the cells of a grid is set to zero in the input. From what is left, the encoder and a small predictor
    guess the tokens that a teacher gives of the whole input. The teacher's weights are a running mean of the encoder's:
    after each step, teacher ← momentum · teacher + (1 - momentum) · encoder (iBOT, Zhou et al. 2022, arXiv:2111.07832,
    section 3.1; TIPS, Maninis et al. 2024, arXiv:2410.16512, section 3.3). The pooled features are those of the input
    without a mask, so the contrastive loss does not change. In training the tokens are (n, 2 L, W): L predictions and L
    targets, with a mask of the masked places. In evaluation they are the encoder's.

    It costs two more passes forward and one more backward. The teacher is saved with the model, so that a run resumes.

    Args:
        encoder: any encoder with a token for each cell of the grid.
        cells: numbers of cells along the last axes of the input, as [8, 8] of a picture and [50] of a sound's time.
        ratio: share of the cells that is masked, the same number in every row.
        momentum: of the teacher, from 0 to 1.

    Raises ValueError for an encoder without ``width``, a ratio or momentum outside [0, 1), and in training for another
    number of tokens than cells.
    """

    def __init__(self, encoder: nn.Module, cells: Sequence[int], ratio: float = 0.5, momentum: float = 0.99):
        super().__init__()
        width = getattr(encoder, "width", None)
        if not isinstance(width, int):
            raise ValueError(f"Masked goes around an encoder, which has a width; {type(encoder).__name__} has none")
        if not 0 <= ratio < 1 or not 0 <= momentum < 1:
            raise ValueError(f"ratio and momentum are shares from 0 to below 1; got {ratio} and {momentum}")
        self.encoder, self.cells, self.ratio, self.momentum = encoder, list(cells), ratio, momentum
        self.width: int = width
        for name in AGREED:
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))
        self.origin = getattr(encoder, "origin", None)
        self.teacher: Any = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.teacher.keeps_eval = True
        self.predictor = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self._followed: tuple[int, int] | None = None  # state of the encoder's weights that the teacher has followed

    def wants(self) -> dict[str, Any] | None:
        return self.encoder.wants() if isinstance(self.encoder, Encoder) else None

    def train(self, mode: bool = True) -> Masked:
        """Set the mode. The teacher stays in evaluation."""
        super().train(mode)
        self.teacher.eval()
        return self

    def encode(self, values: Tensor) -> Features:
        found = self.encoder(values)
        if not self.training:
            return found
        self.follow()
        hidden = self._draw(len(values), values.device)  # (n, cells)
        guessed = self.encoder(values * self._spread(~hidden, values)).tokens
        with torch.no_grad():
            wanted = self.teacher(values).tokens
        if guessed is None or guessed.shape[1] != hidden.shape[1]:
            gives = "no tokens" if guessed is None else f"{guessed.shape[1]} tokens"
            raise ValueError(f"Masked has cells of {self.cells}, and {type(self.encoder).__name__} gives {gives}")
        tokens = torch.cat([self.predictor(guessed), wanted], 1)
        return Features(found.pooled + tokens[:0].sum(), tokens, torch.cat([hidden, hidden], 1))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the encoder, if a step has changed the encoder's weights since the last call.

        The first call always does. So chunks of a batch share one teacher, and a resumed run goes on as it would have.
        Steps are counted, because a fused optimiser leaves the versions of the weights as they were.
        """
        state = _steps, sum(p._version for p in self.encoder.parameters())
        if state == self._followed:
            return
        self._followed = state
        for theirs, ours in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            theirs.lerp_(ours, 1 - self.momentum)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a plain encoder as this one takes them: encoder and teacher begin with them."""
        if weights.keys() != self.encoder.state_dict().keys():
            return weights
        both = {f"{part}.{name}": x for part in ("encoder", "teacher") for name, x in weights.items()}
        return {**self.state_dict(), **both}

    def _draw(self, n: int, device: torch.device) -> Tensor:
        """Return (n, cells) bool, true for the masked cells. The draws are those of the step's dropout."""
        cells = math.prod(self.cells)
        return torch.rand(n, cells, device=device).argsort(1) < round(self.ratio * cells)

    def _spread(self, cells: Tensor, values: Tensor) -> Tensor:
        """Return a factor of the values, 0 or 1, from cells (n, cells): each covers an equal part of the last axes."""
        axes = len(self.cells)
        out = cells.view(len(cells), *self.cells)
        for axis, (count, size) in enumerate(zip(self.cells, values.shape[-axes:], strict=True), 1):
            place = torch.arange(size, device=values.device) * count // size
            out = out.index_select(axis, place)
        return out.view(len(cells), *(1,) * (values.ndim - 1 - axes), *values.shape[-axes:]).to(values.dtype)
