"""CAPro: pairs with noisy labels. Texts choose clean samples, and prototypes of those correct the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, one_number, row_weights
from align.losses.kernels.labels import as_hot, check_labels
from align.losses.kernels.noisy_labels import choose_clean, correct_labels
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.kernels.parts import Merge, check_part
from align.losses.kernels.soft import soft_pairs
from align.losses.loss import number
from align.losses.temperature import ClipTemperature

_MEANS, _SEEN = "means/", "seen/"


@final
class CAPro(ClipTemperature):
    """A contrast of two modalities by noisy labels, corrected (Qin et al. 2023, arXiv 2310.09761). In a config::

        terms:
          clean:
            loss: {class_path: align.losses.CAPro, init_args: {attribute: digit}}
            between: [image, text]

    The second modality, as a rule the text, has the noisy label in it: a caption from the web, or a search word. Its
    running class means are text prototypes. Of each class in a batch the texts nearest to the prototype choose the
    clean samples (``choose_clean``), and the first modality's rows of these samples make its prototypes, which correct
    the targets (``correct_labels``). The loss is ``soft_pairs``: a row against the texts of its corrected classes. Rows
    out of distribution are left out. It knows the labels of the batch alone, and no clean one.

    The paper has a classifier, a queue and four terms, and text prototypes of definitions by a frozen model. Here one
    contrast takes the targets of all, and batch and prototypes are those of the term. Scoring reads it as InfoNCE.

    attribute: of the labels. classes: their names. None: those of the training set.
    share: of each class's texts that choose, in (0, 1]. momentum: m of the means, p ← m·p + (1 - m)·(the batch's mean).
    sharp: the multiplier of cosines with prototypes and neighbours. The paper's temperature 0.1 is 10.
    sure, bootstrap: as in ``correct_labels``.
    start_scale, max_scale, learn_scale: as in ``InfoNCE``.

    In its first batch labels count as they are. In evaluation the prototypes stay. Raises ValueError for values outside
    these ranges.
    """

    kind = "pairwise"
    takes_unpaired = True
    in_parts = True
    needs_labels = True

    def __init__(
        self,
        attribute: str = "label",
        share: float = 0.5,
        sure: float = 0.8,
        bootstrap: float = 0.2,
        momentum: float = 0.9,
        sharp: float = 10.0,
        classes: list[str] | None = None,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        for name, value, fits, words in (
            ("share", share, 0 < share <= 1, "above 0 and at most 1"),
            ("sure", sure, 0 < sure <= 1, "above 0 and at most 1"),
            ("bootstrap", bootstrap, 0 <= bootstrap < 1, "from 0 to below 1"),
            ("momentum", momentum, 0 <= momentum < 1, "from 0 to below 1"),
            ("sharp", sharp, sharp > 0, "above 0"),
        ):
            if not fits:
                raise ValueError(f"{name} is a number {words}; got {value}")
        self.attribute, self.share, self.sure, self.bootstrap = attribute, share, sure, bootstrap
        self.momentum, self.sharp, self.classes = momentum, sharp, [*(classes or ())]
        self._modalities: tuple[str, ...] = ("0", "1")
        self.register_load_state_dict_pre_hook(_make_room)

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls, and so their prototypes."""
        self._modalities = tuple(modalities)

    def prototypes(self, side: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (C, D) of a side, 0 or 1, of the next call, as unit vectors, and (C,) bool: it has one."""
        means, seen = self._read(side, like)
        return F.normalize(means, dim=1, eps=1e-6), seen

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        labels: Sequence[Tensor] | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss: embeddings (n_m, D), samples (n_m,), labels (n_m, K), groups and weights (n_m,).

        Raises ValueError without labels or classes, and for a label that is no class.
        """
        check_embeddings(embeddings)
        check_part(part, merge)
        if labels is None or not self.classes:
            raise ValueError("CAPro reads labels: call name_classes([...]), and it with labels=[places (n, K), ...]")
        with exact(embeddings[0]):
            x, t = at_least_float32(embeddings)
            hot, told = (_as_hot(y, s, len(self.classes)) for y, s in zip(labels, samples, strict=True))
            target = correct_labels(x.detach(), hot, *self.prototypes(0, x), self.sharp, self.sure, self.bootstrap)
            stays = ~hot.any(1) | (target.sum(1) > 0)  # a hard negative has no label, and stays
            w_x, w_t = (row_weights(w, y, "weights") for w, y in zip(weights or (None, None), (x, t), strict=True))
            value = soft_pairs(
                x[stays],
                t,
                one_number(self.scale, x),
                target[stays],
                told.to(t) / told.sum(1, keepdim=True).clamp(min=1),
                groups=None if groups is None else [groups[0][stays], groups[1]],
                weights=[w_x[stays], w_t],
                part=part,
                merge=merge,
            )
            if self.training:
                self._follow(x.detach(), t.detach(), samples, hot, told)
        return value

    @torch.no_grad()
    def _follow(self, x: Tensor, t: Tensor, samples: Sequence[Tensor], hot: Tensor, told: Tensor) -> None:
        """Move the prototypes: of texts by all texts, of the other side by the rows of clean samples."""
        fine = t.isfinite().all(1, keepdim=True)
        t, told = torch.where(fine, t, 0), told & fine
        self._move(1, t, told)
        clean = choose_clean(t, told, self.prototypes(1, t)[0], self.share)
        count = len(self.classes)
        place = torch.arange(count, device=x.device)
        chosen = (samples[1][:, None] * count + place)[clean]  # a sample with a class is one number
        fine = x.isfinite().all(1, keepdim=True)
        self._move(0, torch.where(fine, x, 0), hot & fine & torch.isin(samples[0][:, None] * count + place, chosen))

    def _move(self, side: int, rows: Tensor, hot: Tensor) -> None:
        means, seen = self._read(side, rows)
        found = hot.sum(0)
        mean = hot.T.to(rows) @ rows / found.clamp(min=1)[:, None]  # (C, D)
        moved = torch.where(seen[:, None], self.momentum * means + (1 - self.momentum) * mean, mean)
        setattr(self, self._name(_MEANS, side), torch.where((found > 0)[:, None], moved, means))
        setattr(self, self._name(_SEEN, side), seen | (found > 0))

    def _name(self, start: str, side: int) -> str:
        return f"{start}{'-'.join(self._modalities)}/{self._modalities[side]}"

    def _read(self, side: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (C, D) of a side and (C,) bool, made empty where there are none."""
        name, count = self._name(_MEANS, side), len(self.classes)
        if name not in self._buffers:
            self.register_buffer(name, like.new_zeros(count, like.shape[1]))
            self.register_buffer(self._name(_SEEN, side), like.new_zeros(count, dtype=torch.bool))
        return getattr(self, name).to(like), getattr(self, self._name(_SEEN, side)).to(like.device)


def _as_hot(labels: Tensor, sample: Tensor, count: int) -> Tensor:
    """Return (n, C) bool of places (n, K). A row of id -1 has no class."""
    check_labels(labels, len(sample), count)
    return as_hot(torch.where((sample >= 0)[:, None], labels, -1), count)


def _make_room(module: CAPro, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Make prototypes of the shapes of a state that is about to be loaded."""
    for name in [name for name in module._buffers if name.startswith((_MEANS, _SEEN))]:
        delattr(module, name)
    for key, value in state.items():
        if key.startswith((prefix + _MEANS, prefix + _SEEN)):
            empty = torch.empty_like(value, device=number(module.scale).device)
            module.register_buffer(key.removeprefix(prefix), empty)
