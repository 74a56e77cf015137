"""The rule of one search: a composed query, the terms that read it, and the score of any row by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from align.model import JointModel
from align.scoring import How, choose, fits, list_unread, score
from align.search.index import Index
from align.search.linear import CURVED, Linear, one_vector, sum_terms
from align.search.parts import Part, compose, find_reversed, rescale
from align.search.shift import Shift
from align.search.where import Where
from align.values import TermInfo


@final
@dataclass(frozen=True)
class Rule:
    """A composed query with the rule that scores candidates by it.

    Args:
        how, of: the rule, and the modality of the candidates.
        query: modality -> (1, D) float64, the weighted sum of its parts.
        level: the same at the length of its parts, for volumes and areas.
        terms: the trained terms that are read. scaled: rows count with their norm. notes: sentences for the user.
    """

    how: How
    of: str
    query: Mapping[str, Tensor]
    level: Mapping[str, Tensor]
    terms: Sequence[TermInfo] = ()
    scaled: bool = False
    notes: Sequence[str] = ()

    @property
    def linear(self) -> Linear | None:
        """The query vector (1, D) and the constant, or None where a term measures a volume or an area."""
        return one_vector(self.query, self.how, self.of, self.terms)

    def score(self, rows: Tensor) -> Tensor:
        """Return the score (n,) of rows (n, D), computed in float64 and rounded to float32."""
        rows = rows.double() if self.scaled else F.normalize(rows.double(), dim=1)
        if (linear := self.linear) is not None:
            return ((linear.vector @ rows.T)[0] + linear.constant).float()
        straight, curved = self._split()
        flat = sum_terms(self.query, self.of, straight)
        scores = score(self.level, rows, "objective", of=self.of, terms=curved)[0]
        return (scores + (flat.vector @ rows.T)[0] + flat.constant).float()

    def rank(
        self,
        index: Index,
        k: int,
        where: Where | None,
        device: torch.device,
        *,
        rerank: int,
        shift: Shift | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the scores (m,) and the samples (m,) of the k best, best first.

        rerank: samples that the index gives, of each of its orders, for volumes and areas to be measured of. shift: a
        correction for hubs, of a rule that is linear.
        """
        if (linear := self.linear) is not None:
            more: dict[str, Any] = {} if shift is None else {"shift": shift}
            scores, samples = index.search(linear.vector.to(device), self.of, k, where, scaled=self.scaled, **more)
            return (scores[0].cpu().double() + linear.constant).float(), samples[0].cpu()
        queries = self._directions().to(device)
        samples = index.search(queries, self.of, max(rerank, k), where, scaled=self.scaled)[1].cpu().unique()
        rows = index.rows(self.of, samples)
        scores, samples = self.best_rows(rows.values, rows.sample)[:2]  # pyright: ignore[reportArgumentType]
        order = scores.argsort(descending=True, stable=True)[:k]
        return scores[order], samples[order]

    def best_rows(self, values: Tensor, sample: Tensor, shift: Shift | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best score of each sample (m,), the samples (m,) in ascending order, and the places of the rows.

        values: (n, D) rows, sample: (n,) their samples, ascending. shift: a correction for hubs.
        """
        scores = self.score(values)
        if shift is not None:
            scores = scores - shift.match(sample)
        by_score = scores.argsort(descending=True, stable=True)
        order = by_score[sample[by_score].argsort(stable=True)]
        ordered = sample[order]
        first = torch.ones(len(order), dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        places = order[first]
        return scores[places], sample[places], places

    def _split(self) -> tuple[list[TermInfo], list[TermInfo]]:
        curved = [term for term in self.terms if term.kind in CURVED]
        return [term for term in self.terms if term.kind not in CURVED], curved

    def _directions(self) -> Tensor:
        """Return query vectors (q, D) near which the best volumes and areas lie.

        A volume is small near the span of the query's vectors, on both sides of it: a vector's opposite counts as
        aligned. So is a projection on this span long there. An area is small near each of them.
        """
        straight, curved = self._split()
        read = {m: x for m, x in self.level.items() if any(m in term.modalities for term in curved)}
        found = list(read.values()) if len(read) > 1 else []
        found.append(torch.stack([F.normalize(x, dim=1) for x in read.values()]).sum(0))
        if any(term.kind in ("volume", "span") for term in curved):
            found += [-x for x in found]
        if straight:
            found.append(sum_terms(self.query, self.of, straight).vector)
        return torch.cat(found)


def make_rule(model: JointModel, parts: Sequence[Part], vectors: Sequence[Tensor], of: str, how: How | None) -> Rule:
    """Return the rule for parts with their embeddings. how: None: as ``align.scoring.choose`` says.

    Raises ValueError where no trained term fits, where the parts cancel each other, and for a product that a minus
    sign would turn round, see ``Searcher.search``.
    """
    if how not in (None, *get_args(How)):
        raise ValueError(f"how is 'cosine', 'mip' or 'objective'; got {how!r}")
    notes: list[str] = []
    whole = compose(parts, vectors, unit=True)
    given, how = how, how or choose(model.terms, whole, of)
    terms: list[TermInfo] = []
    away = [m for m in find_reversed(parts) if m != of or how == "mip"]
    if how == "objective":
        terms = [term for term in model.terms if fits(term, whole, of)]
        if not terms:
            score(whole, torch.zeros(1, next(iter(whole.values())).shape[1]), "objective", of=of, terms=model.terms)
        lost = [term for term in terms if _turns(term, away, of)]
        terms = [term for term in terms if term not in lost]
        if not terms and given is not None:
            raise ValueError(_no_product("each trained term that fits", away))
        notes += [f"{_name_term(term)} does not count: it cannot read {_minus(term.modalities, away)}" for term in lost]
        if not terms:
            how = "cosine"
            notes.append(f"no other trained term scores {of} by this query: the order is that of the cosines")
    if how == "mip" and len(whole) > 1 and away:
        raise ValueError(_no_product("mip", away))
    if how == "objective":
        left = list_unread(terms, whole, of)
        notes += [f"{m} does not count: no trained term joins it with {of} here; how=cosine counts it" for m in left]
    scaled = how != "cosine" and not model.normalize
    whole = compose(parts, vectors, unit=not scaled)
    rule = Rule(how, of, whole, rescale(whole, parts, vectors) if terms else whole, terms, scaled, notes)
    lengths = [float(x.norm()) for x in whole.values()]
    if how == "cosine":
        lengths = [float(torch.stack(list(whole.values())).sum(0).norm())]
    if min(lengths) < 1e-6:
        raise ValueError("the vector of the query is zero: its parts cancel each other; change a weight")
    return rule


def _turns(term: TermInfo, away: Sequence[str], of: str) -> bool:
    """Return True for a term whose whole order a minus sign would reverse, or that does not see the sign."""
    others = [m for m in term.modalities if m != of]
    return bool(set(others) & set(away)) and (len(others) > 1 or term.kind in CURVED)


def _no_product(of: str, away: Sequence[str]) -> str:
    signs = ", ".join(f"-{m}" for m in away)
    return (
        f"{of} multiplies the modalities, and {signs} alone would turn the whole order round; "
        f"add another part of {away[0]} to subtract it from, or search by cosine"
    )


def _minus(modalities: Sequence[str], away: Sequence[str]) -> str:
    return ", ".join(f"-{m}" for m in away if m in modalities)


def _name_term(term: TermInfo) -> str:
    return f"the term {' with '.join(term.modalities)}"
