"""An index with the model that made it: it is asked with texts, files and arrays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal, final

import torch
from torch import Tensor

from align.model import JointModel
from align.scoring import How
from align.search.corrected import Chosen, choose_shift
from align.search.hits import fold_ranking, make_hits, read_rows, stand_alone
from align.search.hybrid import DEPTH, Ranking, fuse, list_texts
from align.search.index import Index, Noting
from align.search.item import Found, Hit
from align.search.makers import cut_rows
from align.search.near import BOUND
from align.search.parts import Part, check_parts, name_parts, nearest
from align.search.rule import make_rule
from align.search.space import Subspace, find_space
from align.search.threshold import find_calibrated
from align.search.where import Where, parse

Query = Mapping[str, Any] | Sequence[Part]
"""``{modality: input}``, or parts with weights."""


@final
class Searcher:
    """An index and its model. Several threads may ask one searcher.

    device: where blocks of rows are scored. None: the model's GPU, or the CPU.
    dims: the first coordinates of the model's embeddings by which the index is asked, for an index of an earlier model
        that this one is compatible with. None: all.
    """

    def __init__(
        self,
        index: Index,
        model: JointModel,
        *,
        device: torch.device | str | None = None,
        dims: int | None = None,
    ):
        self.index = index
        self.model = model
        self.dims = dims
        there = model.device if model.device.type == "cuda" else "cpu"
        self.device = torch.device(there if device is None else device)
        self.subspace: Subspace | None = None

    def in_space(self, name: str) -> Searcher:
        """Return a searcher of the same index that asks in one space of the model (see ``align.heads.Streams``).

        Scores are sums of the cosines in the space. Corrections for hubs and calibrated thresholds are of the whole
        embeddings, so they do not hold in it. ``fold`` compares whole embeddings. Raises ValueError where the model has
        no such space.
        """
        searcher = copy(self)
        searcher.subspace = find_space(self.model, name)
        return searcher

    def embed(self, parts: Sequence[Part]) -> list[Tensor]:
        """Return the embedding (D,) of each part, on the CPU.

        Raises ValueError for a modality that the model lacks, with the nearest, and as ``JointModel.embed`` does.
        """
        check_parts(parts, self.model.modalities)
        out: list[Tensor | None] = [part.value if isinstance(part.value, Tensor) else None for part in parts]
        for m in dict.fromkeys(part.modality for part in parts):
            places = [i for i, part in enumerate(parts) if part.modality == m and out[i] is None]
            if places:
                lists: dict[str, Any] = {m: [parts[i].value for i in places]}
                for i, row in zip(places, self.model.embed(**lists)[m].cpu(), strict=True):
                    out[i] = row
        return [row for row in out if row is not None]

    def search(
        self,
        query: Query,
        of: str,
        k: int = 10,
        *,
        where: Where | Mapping[str, Any] | None = None,
        how: How | None = None,
        threshold: float | Literal["calibrated"] | None = None,
        text: str | None = None,
        fold: bool = False,
        near: float = BOUND,
        rerank: int = 1000,
        correct: bool = True,
    ) -> Found:
        """Return the k best samples by their rows of modality ``of``.

        A modality's query vector is the sum of its parts' unit vectors by their weights, and the score is the rule's
        over these vectors. For one part of weight 1 a modality it is exactly ``align.score``.

        - "cosine": the sum of the parts' cosines by their weights.
        - "objective": in a pairwise term the weight is a factor of the part's share. A Symile term takes the product
          of the modalities' vectors: two texts of weights 1 and -1 beside a picture ask, in the light of the picture,
          for the first and against the second. A volume or an area reads the direction of the vectors only.
        - "mip": the product of the modalities' vectors, as in a Symile term.

        A minus sign on all parts of a modality would turn the whole order of a product round, and two such signs would
        cancel. So a product, a volume or an area does not read it: such a term is left out, with a note. Where no term
        is left, cosine scores. "mip", and "objective" where it was asked for, raise ValueError then.

        Args:
            query: one or more parts. None of them, with ``text``, is a search of the captions alone.
            where: a filter, see ``align.search.where``.
            how: see ``align.score``. None: as ``align.scoring.choose`` says.
            threshold: the least score of a hit, see ``align.search.threshold``. "calibrated": the stored one. With
                ``text`` it holds for the vectors' hits. None: no threshold.
            text: words for the captions' full text, joined with the vectors' order, see ``align.search.hybrid``.
            fold: near duplicates become one hit, see ``Hit.same``, among the best 10,000 samples. near: their least
                cosine.
            rerank: volumes and areas are measured of this many samples at least, the best by cosine. It is exact for
                an index that has no more.
            correct: scores are lowered by the correction for hubs that the index keeps for such a query, see
                ``align.search.corrected``.

        Raises ValueError for a modality that the model or the index lacks, weights that are all 0 or no numbers, a
        bad filter, and a k below 1.
        """
        parts = [Part(m, x) for m, x in query.items()] if isinstance(query, Mapping) else list(query)
        vectors = self.embed(parts) if parts or text is None else []
        options: dict[str, Any] = {"where": where, "how": how, "threshold": threshold, "text": text}
        return self.find(parts, vectors, of, k, fold=fold, near=near, rerank=rerank, correct=correct, **options)

    def find(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Tensor],
        of: str,
        k: int = 10,
        *,
        where: Where | Mapping[str, Any] | None = None,
        how: How | None = None,
        threshold: float | Literal["calibrated"] | None = None,
        text: str | None = None,
        fold: bool = False,
        near: float = BOUND,
        rerank: int = 1000,
        without: Sequence[int] = (),
        correct: bool = True,
    ) -> Found:
        """Return the best samples for parts that are embedded already, see ``search``.

        vectors: (D,) of each part. without: numbers of samples that are left out.
        """
        start = time.perf_counter()
        self._check(of, k)
        vectors = [cut_rows(x, self.dims, normalize=self.model.normalize) for x in vectors]
        if self.subspace is not None:
            self._check_space(of, how, threshold)
            (parts, vectors), how, correct = self.subspace.ask(parts, vectors), "cosine", False
        tree = parse(where) if isinstance(where, Mapping) else where
        count, rule = self.index.count(of, tree), None
        if parts or text is None:
            check_parts(parts, self.model.modalities)
            rule = make_rule(self.model, parts, vectors, of, how)
        least = threshold
        if isinstance(threshold, str):
            least = None if rule is None else find_calibrated(self.index.about, parts, of, rule.how)
        chosen = Chosen()
        if correct:
            chosen = choose_shift(self.index, parts, of, rule, calibrated=isinstance(threshold, str))

        def rank(n: int) -> Ranking:
            found = rank_all(n + len(without))
            kept = ~torch.isin(found.samples, torch.tensor(without, dtype=torch.long))
            return found._replace(scores=found.scores[kept][:n], samples=found.samples[kept][:n])

        def rank_all(n: int) -> Ranking:
            if rule is None:
                return list_texts(self.index, text or "", of, n, tree)
            depth = n if text is None else max(n, DEPTH)
            scores, samples = rule.rank(self.index, depth, tree, self.device, rerank=rerank, shift=chosen.shift)
            reached = scores >= (-torch.inf if least is None else float(least))
            ranking = Ranking(scores[reached], samples[reached])
            return ranking if text is None else fuse(ranking, list_texts(self.index, text, of, depth, tree), n)

        def answer() -> list[Hit]:
            ranking, groups = fold_ranking(rank, self.index, of, k, near) if fold else stand_alone(rank(k))
            made = make_hits(ranking, groups, self.index, of, rule, name_parts(parts), vectors, chosen.shift)
            return made if self.subspace is None else self.subspace.lift_hits(made)

        try:
            hits = answer()
        except KeyError:  # a writer deleted a found sample before its item was read
            hits = answer()
        if rule is None:
            notes = [] if threshold is None else ["the threshold is not of words alone, whose scores are BM25's"]
            return Found(hits, of, "text", count, time.perf_counter() - start, notes)
        notes = [*rule.notes, *chosen.notes, *(self.index.list_notes() if isinstance(self.index, Noting) else ())]
        if rule.linear is None and max(rerank, k) < count:
            notes.append(f"volumes are measured of the best {max(rerank, k)} samples of {count} by cosine")
        if text is not None:
            notes.append(f"words and vectors (by {rule.how}) are joined by rank, from the best {max(k, DEPTH)} of each")
        name, method = rule.how if text is None else "hybrid", "" if chosen.shift is None else chosen.shift.method
        return Found(hits, of, name, count, time.perf_counter() - start, notes, method)

    def like(self, sample: int, of: str, k: int = 10, *, by: Sequence[str] | None = None, **options: Any) -> Found:
        """Return the samples that are most like one of the index, which is left out itself.

        The query is its stored rows of the modalities ``by``, and the mean of them where a modality has several.

        Args:
            sample: its number.
            by: None: its rows of ``of``, or of all modalities where it has none of these.
            options: those of ``find``.

        Raises KeyError for a number that is not in the index, ValueError where the sample has no row of ``by``.
        """
        self._check(of, k)
        self.index.items([sample])
        have = {m: values for m in self.index.modalities if len(values := read_rows(self.index, m, [sample])[0])}
        chosen = list(by) if by is not None else [of] if of in have else [m for m in have if m in self.model.modalities]
        for m in chosen:
            if m not in have:
                raise ValueError(f"the sample has no row of {m!r}; {nearest(m, have)}")
        parts = [Part(m, row, 1 / len(have[m])) for m in chosen for row in have[m]]
        return self.find(parts, [part.value for part in parts], of, k, without=[sample], **options)

    def _check(self, of: str, k: int) -> None:
        if of not in self.index.modalities:
            raise ValueError(f"the index has no {of!r}; {nearest(of, self.index.modalities)}")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")

    def _check_space(self, of: str, how: How | None, threshold: float | str | None) -> None:
        assert self.subspace is not None
        self.subspace.check(of)
        if how not in (None, "cosine"):
            raise ValueError(f"a space is read by cosines; how={how!r} reads the whole embeddings")
        if isinstance(threshold, str):
            raise ValueError("the calibrated threshold is of the whole embeddings; in a space give a number")
