"""Bank: the rows of a whole training set as negatives, of a modality whose tower is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings, per_row
from align.losses.kernels.products import HALVES, wide_dtype
from align.losses.kernels.rule import Rule
from align.losses.loss import Given, apply
from align.losses.symile import Symile
from align.losses.wrappers.memory_queue import MemoryQueue
from align.losses.wrappers.negatives import with_negatives
from align.losses.wrappers.stored import Stored, store
from align.losses.wrappers.window import check_smoothing, find_side
from align.losses.wrappers.wrapper import Wrapper


@final
class Bank(Wrapper):
    """A loss with every row of the training set in one modality as negatives, where the modality's tower is frozen.

    A frozen tower gives a sample the same row in every epoch. So the rows of the whole set are exact negatives, without
    the drift of a queue of past rows (``MemoryQueue``). Use it where the batch is small against the set. It costs the
    loss's arithmetic with R rows on that side, R·D·4 bytes for the bank in every process, and as much again for a step.
    The logits are made in tiles.

    In a config:

        pair:
          loss:
            class_path: align.losses.Bank
            init_args:
              of: text
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    ``align train`` fills it when training starts, and after a resume. In your own loop, call ``fill``, and give each
    call ``numbers``, the number of each row's sample. A row of the bank has sample id -1 and weight 0, as the rows of a
    queue. It is no anchor and no positive, and in SigLIP a pair with it counts half. Rows of samples that the batch has
    in this modality are left out, since they are in the batch already. For each anchor, its sample's rows, rows of
    equal content and rows of its group are left out. Two rows of a batch with equal content are no negatives either.

    For Symile the rows join the tuples of negatives "all", "partial" and K. There a row has one group, so two samples
    that each share a group or content with a third one form one group.

    Between modalities without ``of``, and in eval mode, it is the loss itself.

    loss: InfoNCE, SigLIP or Symile, or a wrapper around one. A queue goes around the bank instead.
    of: the modality. Without ``between`` the modalities are called "0", "1", ...

    Raises ValueError for another loss. A call raises it where the bank is empty or has rows of another D, and without
    numbers.
    """

    def __init__(self, loss: nn.Module, of: str):
        super().__init__(loss)
        if not (self.takes_rule or self.kind == "symile"):
            raise ValueError(
                f"Bank goes around a loss that reads its rows in tiles and can leave pairs out, InfoNCE, SigLIP or "
                f"Symile; {type(loss).__name__} does not"
            )
        if any(isinstance(part, MemoryQueue) for part in loss.modules()):
            raise ValueError("Bank goes inside MemoryQueue, not around it: MemoryQueue(Bank(loss))")
        check_smoothing(self)
        self.needs_numbers = True
        self.of = of
        self._modalities: tuple[str, ...] | None = None
        self._stored: Stored | None = None  # no buffer: DDP would send it with each step, a checkpoint would hold it
        self._check_negatives()
        self.negative_kinds = tuple(kind for kind in self.negative_kinds if kind != "shuffled")

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls."""
        self._modalities = tuple(modalities)
        super().between(modalities)

    def set_negatives(self, kind: str | int) -> None:
        """Set the inner loss's kind of negatives."""
        super().set_negatives(kind)
        self._check_negatives()

    @property
    def size(self) -> int:
        """Number of rows, 0 before ``fill``."""
        return 0 if self._stored is None else len(self._stored.rows)

    @torch.no_grad()
    def fill(
        self, values: Tensor, numbers: Tensor, groups: Tensor | None = None, content: Tensor | None = None
    ) -> None:
        """Take these rows in place of those before.

        values: (R, D), as the frozen tower gives them. numbers: (R,) the number of each row's sample, at least 0.
        groups: (R,) or None. content: (R,) one id for equal content. None: rows that are equal to the bit.

        Raises ValueError for shapes that do not fit, and for rows that are not finite.
        """
        self._stored = store(values, numbers, groups, content, joins=self.kind == "symile")

    def around(self, given: Given) -> Tensor:
        """Return the inner loss with the bank's rows as negatives.

        Raises ValueError where the bank is empty or of another D, or the numbers are missing.
        """
        side = find_side(self.of, self._modalities, len(given.samples))
        if not self.training or side is None:
            return apply(self.loss, given)
        check_embeddings(given.embeddings)
        x = given.embeddings[side]
        stored = self._on(x.device)
        if stored.rows.shape[1] != x.shape[1]:
            raise ValueError(f"the bank of {self.of!r} holds rows of D = {stored.rows.shape[1]}; got D = {x.shape[1]}")
        if given.numbers is None:
            raise ValueError(f"the bank of {self.of!r} needs the number of each row's sample: give numbers=[...]")
        numbers = [
            per_row(n, e, f"numbers[{m}]") for m, (n, e) in enumerate(zip(given.numbers, given.embeddings, strict=True))
        ]
        if stored.joined is not None:
            given = given._replace(groups=stored.find_joined(numbers, given.groups))
        kept = (~torch.isin(stored.numbers, numbers[side])).nonzero().squeeze(1)  # (R',)
        groups = stored.groups if stored.joined is None else stored.joined
        added = [e[:0] for e in given.embeddings]
        added[side] = stored.rows[kept].to(x.dtype if x.dtype in HALVES else wide_dtype(x))
        added_groups = [n[:0] for n in numbers]
        added_groups[side] = groups[kept]
        more = with_negatives(given, added, added_groups)
        if stored.joined is None:
            ids = [stored.find_content(n) for n in numbers]  # (n_m, K)
            ids[side] = torch.cat(
                [stored.find_nearest(x.detach(), numbers[side])[:, None], stored.equals[kept][:, None]]
            )
            more = more._replace(rule=replace(more.rule or Rule(), alike=(ids[0], ids[1])))
        return apply(self.loss, more)

    def _on(self, device: torch.device) -> Stored:
        """Move the rows to a device, keep them there, and return them."""
        if self._stored is None or not len(self._stored.rows):
            raise ValueError(f"the bank of {self.of!r} is empty: call fill(values, numbers) before training")
        if self._stored.rows.device != device:
            self._stored = self._stored.to(device)
        return self._stored

    def _check_negatives(self) -> None:
        for part in self.loss.modules():
            if isinstance(part, Symile) and part.negatives == "shuffled":
                raise ValueError(
                    "Bank takes no negatives 'shuffled' of Symile, which draw as many as the longest side has rows; "
                    "take 'partial', 'all' or a number"
                )
