"""The interface of every loss module, with its defaults, and the one function that calls a loss."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from align.losses.kernels.numerics import nothing
from align.losses.kernels.parts import Merge
from align.losses.kernels.rule import Rule
from align.losses.kinds import KINDS


class Loss(nn.Module, ABC):
    """Abstract: a loss module as objectives, wrappers and schedules use it. A leaf sets its ``kind`` and has::

        forward(embeddings, samples, *, groups=None, weights=None, generator=None) -> 0-d tensor

    embeddings: M tensors (n_m, D). samples: M tensors (n_m,) of ids. groups, weights: M tensors (n_m,), or None.
    With ``needs_tokens`` it also takes tokens=[(tokens (n_m, L_m, D), mask (n_m, L_m)), ...]. With ``in_parts`` it also
    takes part= and merge=, and with ``takes_rule`` also rule=, as ``infonce`` does. With ``needs_numbers`` it takes
    numbers=[(n_m,), ...], the number of each row's sample in the training set. With ``needs_labels`` it takes
    labels=[(n_m, K_m), ...], the places of each row's labels in ``classes``, then -1.
    """

    kind: str
    """One of ``align.losses.kinds``: how many modalities a call takes, and how scoring reads the term."""

    needs_tokens: bool = False
    needs_encoder: str = ""
    """The class of ``align.encoders`` whose tokens the loss reads, "" for those of any encoder."""

    in_parts: bool = False
    """Each rank computes a share of the tiles, as of every loss in this folder. A loss of somebody else's that does not
    say so runs whole on every rank."""

    takes_unpaired: bool = False
    """The loss itself gives a zero with zero gradients where no sample has a row of every modality. For another loss
    ``apply`` gives that zero, as the loss's mean of nothing would be NaN."""

    takes_rule: bool = False
    """The loss leaves out the pairs that a rule names (see ``align.losses.kernels.rule``)."""

    needs_numbers: bool = False
    """The loss asks which sample of the training set each row belongs to, as ``Bank`` does."""

    needs_labels: bool = False
    """The loss asks for the classes of each row's sample, those of one ``attribute`` of the labels."""

    attribute: str = "label"
    """The attribute of the labels that the loss reads. A plain label is the attribute "label"."""

    classes: Sequence[str] = ()
    """Names of the attribute's classes. A label is given to the loss as its place among them."""

    negative_kinds: tuple[str, ...] = ()
    """The kinds of negatives that a schedule may name. "K" stands for any number above 0."""

    bias: nn.Parameter | None
    """(1,), added to the logits, or None."""

    # A leaf with a temperature overrides the property ``scale``. ``self.scale = nn.Parameter(...)`` would fail on it.
    def __init__(self):
        super().__init__()
        self.register_parameter("bias", None)
        self.register_buffer("_one", torch.ones(1), persistent=False)

    @property
    def scale(self) -> Tensor:
        """Return the multiplier, (1,). It is 1 without a temperature: scoring reads cosines, the log shows 1."""
        return cast(Tensor, self._one)

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set the scale for embeddings of D = dim, M = modalities at once and N = batch samples.

        ``Objective`` calls it. By default nothing depends on them.
        """

    def clamp_(self) -> None:
        """Keep the temperature within its limit, after the optimiser's step. By default there is no limit."""

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls, for losses that remember something of each.

        ``Objective`` calls it. So does any training loop that calls one loss for several pairs.
        """

    def list_blocks(self, modalities: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return the coordinates start..stop-1 that the loss reads of each modality's embedding. (): all of each."""
        return ()

    def list_prefixes(self) -> tuple[int, ...]:
        """Return the numbers of first coordinates that the loss trains as embeddings beside the whole ones."""
        return ()

    def find_read_tokens(self, modalities: Sequence[str]) -> list[str]:
        """Return the modalities whose tokens a call between ``modalities`` reads. The tokens of others may be L = 0."""
        return [*modalities] if self.needs_tokens else []

    def set_negatives(self, kind: str | int) -> None:
        """Set the kind of negatives of the next calls, one of ``negative_kinds``."""
        self.negatives = kind

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes of the attribute, as the training set has them.

        ``align train`` calls it before the first step, for a loss that ``needs_labels`` and has no classes yet.
        """
        self.classes = [*names]


class Given(NamedTuple):
    """Arguments of a call of a loss: M sets of rows, with their ids, groups, weights and tokens."""

    embeddings: Sequence[Tensor]  # (n_m, D)
    samples: Sequence[Tensor]  # (n_m,)
    groups: Sequence[Tensor] | None = None
    weights: Sequence[Tensor] | None = None
    generator: torch.Generator | None = None
    tokens: Sequence[tuple[Tensor, Tensor]] | None = None  # (n_m, L_m, D) and masks (n_m, L_m)
    part: tuple[int, int] = (0, 1)
    merge: Merge | None = None
    rule: Rule | None = None
    numbers: Sequence[Tensor] | None = None  # (n_m,) of each row's sample in the training set, -1 for none
    labels: Sequence[Tensor] | None = None  # (n_m, K_m) places of each row's labels among the classes, then -1


def apply(loss: Loss, given: Given) -> Tensor:
    """Return the 0-d loss, called with tokens where it needs them and with its part where it is computed in parts.

    Raises ValueError where it needs tokens and there are none or takes no rule and there is one, TypeError where it
    returns more than one number.
    """
    more: dict[str, Any] = {}
    if loss.needs_tokens:
        if given.tokens is None:
            raise ValueError(f"{type(loss).__name__} reads tokens: call it with tokens=[(tokens, mask), ...]")
        more["tokens"] = given.tokens
    if loss.in_parts:
        more |= {"part": given.part, "merge": given.merge}
    if loss.takes_rule:
        more["rule"] = given.rule
    elif given.rule is not None:
        raise ValueError(f"{type(loss).__name__} takes no rule about its pairs; InfoNCE and SigLIP do")
    if loss.needs_numbers:
        more["numbers"] = given.numbers
    if loss.needs_labels:
        more["labels"] = given.labels
    if not loss.takes_unpaired and not has_complete(given.samples, contrasts=KINDS[loss.kind].contrasts):
        return nothing(*given.embeddings, *(x for x, _ in more.get("tokens", ())), *loss.parameters())
    value = loss(
        given.embeddings,
        given.samples,
        groups=given.groups,
        weights=given.weights,
        generator=given.generator,
        **more,
    )
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{type(loss).__name__} returned {got}; a loss is one number, a 0-d tensor")
    return value.reshape(())


def has_complete(samples: Sequence[Tensor], *, contrasts: bool = True) -> Tensor:
    """Return a 0-d bool: some sample has a row in each of M tensors (n_m,) of ids.

    Of one modality whose rows a loss contrasts, some sample has two rows.
    """
    first, *rest = samples
    if not rest and contrasts:
        ordered = first.sort().values
        return ((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)).any()
    meeting = first >= 0
    for other in rest:
        meeting = meeting & torch.isin(first, other)
    return meeting.any()


def number(value: Tensor | float) -> Tensor:
    """Return a loss's scale or bias as a 0-d tensor without gradient. Another class may keep it as a plain number."""
    return torch.as_tensor(value).detach().reshape(())
