"""The sum of the terms, over the rows of all ranks."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from align.distributed import merge, rank, world
from align.losses import Bank, PrimaryComponents, Window
from align.losses.adopt import as_loss
from align.losses.kernels.float32 import keep_default_float32
from align.losses.kinds import KINDS, list_read
from align.losses.loss import Loss, apply, has_complete, number
from align.objective.everyone import Everyone, everyone
from align.objective.grades import Facts, gather_facts
from align.objective.labels import gather_labels
from align.objective.rows import choose_rows
from align.objective.term import Contrast, Term, check_known, contrasts
from align.values import Embeddings, TermInfo


@final
class Objective(nn.Module):
    """The weighted sum of named terms. It holds the losses, and so their learned temperatures.

    Args:
        terms: name -> Term. A term's value is the weighted sum over its contrasts.
        dim: D, for the ``start`` of each loss.
        batch: N, the samples on all ranks, for the same.
        modalities: those of the model, for ``between: all`` and for the names' check.

    ``tokens`` names the modalities whose tokens a loss reads: ``objective(model(batch, tokens=objective.tokens))``.

    Raises ValueError for terms that fit no call of their losses.
    """

    empty: Tensor

    def __init__(self, terms: dict[str, Term], *, dim: int, batch: int, modalities: list[str] | None = None):
        super().__init__()
        if not terms:
            raise ValueError("an objective has at least one term; got none")
        for name, term in terms.items():
            if not name or "." in name or "/" in name or hasattr(nn.ModuleDict, name):
                raise ValueError(f"a term's name has no dot or slash and is none of ModuleDict's own; got {name!r}")
            try:
                as_loss(term.loss)
            except (TypeError, ValueError) as error:
                raise type(error)(f"term {name!r}: {error}") from None
        self.terms = terms
        self.contrasts = {name: contrasts(name, term, modalities) for name, term in terms.items()}
        for name, term in terms.items():
            joined = {m for contrast in self.contrasts[name] for m in contrast.modalities}
            for part in term.loss.modules():
                if isinstance(part, Bank | PrimaryComponents | Window):
                    check_known(name, part.of, joined)
        self.losses = nn.ModuleDict({name: term.loss for name, term in terms.items()})
        self._chosen: dict[str, float] | None = None
        calls = [(self._loss(name), contrast) for name, contrast in self._calls()]
        self.tokens = sorted({m for loss, contrast in calls for m in loss.find_read_tokens(contrast.modalities)})
        self.register_buffer("empty", torch.zeros(len(terms), dtype=torch.int64), persistent=False)
        for name in terms:
            self._loss(name).start(dim, len(self.contrasts[name][0].modalities), batch)

    @keep_default_float32
    def forward(
        self, embeddings: Embeddings, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the 0-d total, and values for the log without gradient.

        Those are ``TERM``, ``TERM/scale`` and, of a term with several contrasts, each ``TERM/a-b``. Every rank gathers
        the rows of all, sorted by sample. It computes its share of the tiles of a loss that is ``in_parts``, and all of
        any other, so after DDP's mean the gradient is that of a single process. A term without a sample that has all
        its modalities adds a zero with zero gradients, and is counted.
        generator: for losses that draw, equal on all ranks.

        Raises ValueError for a modality that is not there, and where a bank trains on a batch without numbers.
        """
        for name, contrast in self._calls():
            for modality in contrast.modalities:
                check_known(name, modality, embeddings.keys())
        if self.training and self.needs_numbers and embeddings.number is None:
            raise ValueError("a bank asks for the number of each sample in the training set: set batch.number (B,)")
        used, weights = sorted(self.count_in()), self.weights
        labels = {
            name: gather_labels(embeddings, loss.attribute, loss.classes)
            for name in weights
            if (loss := self._loss(name)).needs_labels
        }
        sets = [contrast.modalities for name in weights for contrast in self.contrasts[name]]
        facts = gather_facts(embeddings, sets, self.needs_numbers)
        rows = {modality: everyone(embeddings, modality, modality in self.tokens) for modality in used}
        total: Tensor | None = None
        values: dict[str, Tensor] = {}
        for i, name in enumerate(self.terms):
            if name not in weights:
                continue
            summed, fits = self._term(name, rows, facts, labels.get(name), generator, values)
            weighted = weights[name] * summed
            total = weighted if total is None else total + weighted
            if self.training:
                self.empty[i] += (~fits).to(self.empty.device)
        assert total is not None
        return total, values

    def _term(
        self,
        name: str,
        rows: dict[str, Everyone],
        facts: Facts | None,
        labels: tuple[Tensor, Tensor] | None,
        generator: torch.Generator | None,
        values: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        loss, parts, fits = self._loss(name), [], []
        for contrast in self.contrasts[name]:
            loss.between(contrast.modalities)  # a queue keeps the rows of each contrast
            partial = self.terms[name].partial
            given = choose_rows(loss, contrast, rows, partial=partial, facts=facts, labels=labels, generator=generator)
            shared = world() > 1 and loss.in_parts
            if shared:
                given = given._replace(part=(rank(), world()), merge=merge)
            part = apply(loss, given)
            if shared:  # the value is whole, the gradient this rank's share: DDP's mean divides it once too often
                part = part.detach() + world() * (part - part.detach())
            parts.append(contrast.weight * part)
            fits.append(has_complete(given.samples, contrasts=KINDS[loss.kind].contrasts))
            if len(self.contrasts[name]) > 1:
                values[f"{name}/{contrast.name}"] = part.detach()
        total = torch.stack(parts).sum()
        values[name] = total.detach()
        values[f"{name}/scale"] = number(loss.scale)
        return total, torch.stack(fits).any()

    def _calls(self) -> Iterator[tuple[str, Contrast]]:
        return ((name, contrast) for name, found in self.contrasts.items() for contrast in found)

    @property
    def weights(self) -> dict[str, float]:
        """Term -> weight, of the terms that count."""
        return {name: term.weight for name, term in self.terms.items()} if self._chosen is None else self._chosen

    def weigh(self, weights: Mapping[str, float] | None) -> None:
        """Set the terms that count from now on, and their weights. Others are not computed. None: all, as constructed.

        Raises ValueError, with the nearest right name, for no term and for one that is not there.
        """
        for name in weights or ():
            if name not in self.terms:
                close = difflib.get_close_matches(name, self.terms, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.terms)}"
                raise ValueError(f"{name!r} is no term of the objective; {hint}")
        if weights is not None and not weights:
            raise ValueError(f"no term is left; the objective has {', '.join(self.terms)}")
        self._chosen = None if weights is None else dict(weights)

    def count_in(self) -> set[str]:
        """Return the modalities of the terms that count."""
        return {m for name in self.weights for contrast in self.contrasts[name] for m in contrast.modalities}

    @property
    def needs_numbers(self) -> bool:
        """True where a loss asks which sample of the training set each row belongs to."""
        return any(self._loss(name).needs_numbers for name in self.terms)

    @property
    def needs_labels(self) -> bool:
        """True where a loss asks for the classes of each row's sample."""
        return any(self._loss(name).needs_labels for name in self.terms)

    def name_classes(self, classes: Mapping[str, Sequence[str]]) -> None:
        """Name the classes of each loss that reads labels and has none. classes: attribute -> its names.

        Raises ValueError, with the term's name, for an attribute that is not there, and where a loss refuses them.
        """
        for name in self.terms:
            loss = self._loss(name)
            if not loss.needs_labels or loss.classes:
                continue
            if not classes.get(loss.attribute):
                near = f"there are {', '.join(classes)}" if classes else "the labels of the training set have none"
                raise ValueError(f"term {name!r} reads the classes of {loss.attribute!r}; {near}")
            try:
                loss.name_classes(classes[loss.attribute])
            except ValueError as error:
                raise ValueError(f"term {name!r}: {error}") from None

    @property
    def contrasted(self) -> set[str]:
        """Modalities whose rows are one another's negatives in a term."""
        return {
            m for name, contrast in self._calls() if KINDS[self._loss(name).kind].contrasts for m in contrast.modalities
        }

    @property
    def columns(self) -> list[str]:
        """Names of all values that `forward` returns for the log."""
        found: list[str] = []
        for name, some in self.contrasts.items():
            found += [f"{name}/{contrast.name}" for contrast in some if len(some) > 1]
            found += [name, f"{name}/scale"]
        return found

    def counts(self) -> dict[str, int]:
        """Return the number of training steps without a sample that has all modalities of a term, by term.

        They are counted since this process began.
        """
        return dict(zip(self.terms, self.empty.tolist(), strict=True))

    def infos(self) -> list[TermInfo]:
        """Return one TermInfo for each contrast, at the present scale and bias.

        A regulariser has none. A loss of fused rows has one for each pair.
        """
        return [
            TermInfo(
                modalities,
                str(KINDS[loss.kind].read),
                float(number(loss.scale)),
                0.0 if loss.bias is None else float(number(loss.bias)),
                loss.list_blocks(modalities),
                loss.list_prefixes(),
            )
            for name, contrast in self._calls()
            for loss in [self._loss(name)]
            for modalities in list_read(KINDS[loss.kind], contrast.modalities)
        ]

    def clamp_(self) -> None:
        """Clamp every temperature. Call it after the optimiser's step."""
        for name in self.terms:
            self._loss(name).clamp_()

    def _loss(self, name: str) -> Loss:
        return cast(Loss, self.losses[name])
