"""Window: negatives count if their cosine in a frozen modality is neither too high (false) nor too low (easy)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32
from align.losses.kernels.rule import Rule, Seen
from align.losses.loss import Given, apply
from align.losses.wrappers.wrapper import Wrapper


@final
class Window(Wrapper):
    """A loss between two modalities whose negatives are chosen by the cosines of one of them.

    Row k of the modality ``of`` is a negative of an anchor if its cosine with the anchor's own row of ``of`` lies in
    [low, high]. Above ``high`` the two mean the same, and k is a false negative (two captions of one thing). Below
    ``low`` it is too easy. The own row of an anchor of the other modality is that of its sample. If there are several,
    as with captions, the nearest counts. Positives stay positives.

    Freeze the tower of ``of``, so that the cosines do not change in training. The window holds for the rows of a batch
    and for rows that a wrapper around it adds, such as ``Bank``. It costs one more product in each tile.

    In a config:

        pair:
          loss:
            class_path: align.losses.Window
            init_args:
              of: text
              high: 0.9
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    A row of the other modality with sample id -1 has no own row of ``of``, so it is a negative of all rows. An anchor
    without a row of ``of`` has no positive. Pairs with the grade bad are negatives at any cosine. In eval mode, and
    between modalities without ``of``, it is the loss itself.

    loss: InfoNCE or SigLIP, or a wrapper around one.
    of: the modality that decides. Without ``between`` the two are called "0" and "1".
    low, high: bounds of the cosine, -1 and 1 for none.

    Raises ValueError for another loss, for bounds that are not in order, and for a modality that is not there.
    """

    def __init__(self, loss: nn.Module, of: str, low: float = -1.0, high: float = 1.0):
        super().__init__(loss)
        if not self.takes_rule:
            raise ValueError(
                f"Window leaves pairs out of a loss that takes them by pairs, InfoNCE or SigLIP; "
                f"{type(loss).__name__} does not"
            )
        check_smoothing(self)
        if not -1 <= low < high <= 1:
            raise ValueError(f"low and high are cosines in order, -1 <= low < high <= 1; got {low} and {high}")
        self.of, self.low, self.high = of, low, high
        self._names: tuple[str, ...] | None = None

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls."""
        self._names = tuple(modalities)
        super().between(modalities)

    def around(self, given: Given) -> Tensor:
        """Return the inner loss without the pairs whose cosine lies outside."""
        side = find_side(self.of, self._names, len(given.samples))
        if not self.training or side is None:
            return apply(self.loss, given)
        check_embeddings(given.embeddings)
        rows = at_least_float32([x.detach() for x in given.embeddings])[side]  # (n, D)
        length = rows.norm(dim=1)
        counterparts = _find_counterparts(F.normalize(rows, dim=1), given.samples[side], given.samples[1 - side])
        low, high = (-math.inf if self.low <= -1 else self.low), (math.inf if self.high >= 1 else self.high)
        seen = Seen(side, rows, torch.where(length > 0, 1 / length, torch.nan), counterparts, low, high)
        return apply(self.loss, given._replace(rule=replace(given.rule or Rule(), seen=seen)))


def find_side(of: str, names: tuple[str, ...] | None, count: int) -> int | None:
    """Return the place of a modality among those of a call, None where it is not one of them.

    Raises ValueError where the call's modalities have no names and ``of`` is no place.
    """
    known = names or tuple(map(str, range(count)))
    if of not in known and names is None:
        raise ValueError(f"{of!r} is none of the modalities {', '.join(known)}: name them with between([...])")
    return known.index(of) if of in known else None


def check_smoothing(loss: nn.Module) -> None:
    """Raise ValueError where a loss inside smooths its labels: that takes a mean over all candidates."""
    if any(getattr(part, "label_smoothing", 0) for part in loss.modules()):
        raise ValueError(
            f"{type(loss).__name__} leaves candidates out, and label_smoothing takes the mean over all: set it to 0"
        )


def _find_counterparts(rows: Tensor, sample: Tensor, others: Tensor) -> Tensor:
    """Return up to K rows (K, n', D) of each other row's sample, NaN where there is none.

    rows: (n, D). sample: (n,), others: (n',) ids. Unused places repeat the sample's first row.
    """
    sorted_ids, order = sample.sort(stable=True)
    first = torch.searchsorted(sorted_ids, others)
    count = torch.searchsorted(sorted_ids, others, right=True) - first
    count = torch.where(others >= 0, count, 0)  # (n',)
    place = torch.arange(max(1, int(count.max())) if len(count) else 1, device=rows.device)[:, None]  # (K, 1)
    place = first + torch.where(place < count, place, 0)
    if not len(rows):
        return rows.new_full((len(place), len(others), rows.shape[1]), torch.nan)
    found = rows[order[place.clamp(max=len(rows) - 1)]]  # (K, n', D)
    return torch.where((count > 0)[None, :, None], found, torch.nan)
