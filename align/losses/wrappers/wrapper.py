"""The base of all wrappers: a loss module that passes everything but its arithmetic on to the loss inside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from align.losses.adopt import as_loss
from align.losses.kernels.parts import Merge
from align.losses.kernels.rule import Rule
from align.losses.kinds import KINDS
from align.losses.loss import Given, Loss


class Wrapper(Loss, ABC):
    """Abstract: a loss module around another, ``loss``. A leaf delivers ``around``.

    All that ``Loss`` declares is passed on to the inner loss, which alone learns a scale and a bias.

    Raises ValueError where ``loss`` is no loss module, or already holds a wrapper of this class.
    """

    loss: Loss
    takes_unpaired = True  # ``apply`` reads the inner loss's

    def __init__(self, loss: nn.Module):
        nn.Module.__init__(self)  # not Loss's, whose scale and bias would hide the inner loss's
        name = type(self).__name__
        try:
            inner = as_loss(loss)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} goes around a loss module; {error}") from None
        if any(isinstance(part, type(self)) for part in loss.modules()):
            raise ValueError(f"{name} goes around a loss once; {type(loss).__name__} already holds one")
        self.loss = inner
        self.kind = inner.kind
        self.needs_tokens, self.in_parts = inner.needs_tokens, inner.in_parts
        self.takes_rule, self.needs_numbers = inner.takes_rule, inner.needs_numbers
        self.needs_labels, self.attribute = inner.needs_labels, inner.attribute
        self.negative_kinds = inner.negative_kinds

    def check_pair(self) -> None:
        """Raise ValueError unless the inner loss is one between two modalities, of rows that the batch holds."""
        name, kind = type(self).__name__, KINDS[self.kind]
        if kind.most != 2 or kind.ordered:
            raise ValueError(f"{name} goes around a loss between two modalities; {type(self.loss).__name__} is none")
        if self.needs_numbers:
            raise ValueError(f"{name} goes around a loss without Bank, whose rows are of one frozen modality")

    @property
    def scale(self) -> Tensor:
        """Return the inner loss's multiplier, (1,)."""
        return self.loss.scale

    @property
    def bias(self) -> nn.Parameter | None:  # pyright: ignore[reportIncompatibleVariableOverride]  passed on, not held
        """Return the inner loss's bias, (1,), where it has one."""
        return self.loss.bias

    @property
    def classes(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleVariableOverride]  passed on, not held
        """Return the names of the inner loss's classes."""
        return self.loss.classes

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes of the inner loss."""
        self.loss.name_classes(names)

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start the inner loss."""
        self.loss.start(dim, modalities, batch)

    def clamp_(self) -> None:
        """Clamp the inner loss's temperature. Call it after the optimiser's step."""
        self.loss.clamp_()

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls to the inner loss."""
        self.loss.between(modalities)

    def list_blocks(self, modalities: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return the coordinates that the inner loss reads of each modality's embedding."""
        return self.loss.list_blocks(modalities)

    def list_prefixes(self) -> tuple[int, ...]:
        """Return the prefixes that the inner loss trains."""
        return self.loss.list_prefixes()

    def find_read_tokens(self, modalities: Sequence[str]) -> list[str]:
        """Return the modalities whose tokens the inner loss reads."""
        return self.loss.find_read_tokens(modalities)

    def set_negatives(self, kind: str | int) -> None:
        """Set the inner loss's kind of negatives."""
        self.loss.set_negatives(kind)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        tokens: Sequence[tuple[Tensor, Tensor]] | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
        rule: Rule | None = None,
        numbers: Sequence[Tensor] | None = None,
        labels: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the 0-d loss of M sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise.

        tokens, part, merge, rule, numbers, labels: as the inner loss takes them.
        """
        given = Given(embeddings, samples, groups, weights, generator, tokens, part, merge, rule, numbers)
        return self.around(given._replace(labels=labels))

    @abstractmethod
    def around(self, given: Given) -> Tensor:
        """Return the 0-d loss, by calls of the inner one: ``align.losses.loss.apply(self.loss, ...)``."""
