"""An index with the model that made it: it is asked with texts, files and arrays."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.model import JointModel
from align.scoring import How, choose, list_unread
from align.search.index import Index
from align.search.item import Found, Hit
from align.search.parts import Part, name_parts
from align.search.where import Where, parse

Query = Mapping[str, Any] | Sequence[Part]
"""``{modality: input}``, or parts with weights."""


def open_index(folder: str | Path, model: Any = None, *, allow: Sequence[str] = ()) -> Searcher:
    """Open an index folder for search.

        index = align.open_index("idx")
        index.search({"audio": wave, "text": "at night"}, of="image", k=10, where={"year": {"gte": 2020}})

    model: a JointModel, or a name that ``align.load`` takes. None loads the model that the index names.

    Raises FileNotFoundError where there is no index, or its model is gone. Raises ValueError where the index is
    damaged, newer than this align, or of another model.
    """
    raise NotImplementedError


@final
class Searcher:
    """An index and its model."""

    def __init__(self, index: Index, model: JointModel):
        self.index = index
        self.model = model

    def embed(self, parts: Sequence[Part]) -> list[Tensor]:
        """Return the embedding (D,) of each part, on the CPU."""
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
        threshold: float | None = None,
        text: str | None = None,
        fold: bool = False,
    ) -> Found:
        """Return the k best samples by their rows of modality ``of``.

        A modality's query vector is the sum of its parts' unit vectors by their weights. The score is the rule's over
        these vectors, so a part's weight is a factor of its score.

        Args:
            query: one or more parts.
            where: a filter, see ``align.search.where``.
            how: see ``align.score``. None: as ``align.scoring.choose`` says.
            threshold: the least score of a hit. None: no threshold.
            text: full text that is joined with the vectors by reciprocal rank fusion (Cormack et al. 2009, SIGIR).
            fold: near duplicates become one hit, see ``Hit.same``.

        Raises ValueError for a modality that the model or the index lacks, and for a bad filter.
        """
        parts = [Part(m, x) for m, x in query.items()] if isinstance(query, Mapping) else list(query)
        vectors = self.embed(parts)
        return self.find(parts, vectors, of, k, where=where, how=how, threshold=threshold, text=text, fold=fold)

    def find(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Tensor],
        of: str,
        k: int = 10,
        *,
        where: Where | Mapping[str, Any] | None = None,
        how: How | None = None,
        threshold: float | None = None,
        text: str | None = None,
        fold: bool = False,
    ) -> Found:
        """Return the best samples for parts that are embedded already. vectors: (D,) of each part."""
        start = time.perf_counter()
        tree = parse(where) if isinstance(where, Mapping) else where
        whole: dict[str, Tensor] = {}
        for part, vector in zip(parts, vectors, strict=True):
            whole[part.modality] = whole.get(part.modality, 0) + part.weight * F.normalize(vector.float(), dim=-1)[None]
        how = how or choose(self.model.terms, whole, of)
        total = torch.stack(list(whole.values())).sum(0)  # (1, D)
        scores, samples = self.index.search(total, of, k, tree)
        names, hits = name_parts(parts), []
        numbers = samples[0].tolist()
        for rank, (value, number, item) in enumerate(
            zip(scores[0].tolist(), numbers, self.index.items(numbers), strict=True), 1
        ):
            rows = F.normalize(self.index.rows(of, [number]).values, dim=1)  # pyright: ignore[reportArgumentType]
            row = rows[(rows @ total[0]).argmax()]
            cosines = {n: float(F.normalize(v.float(), dim=-1) @ row) for n, v in zip(names, vectors, strict=True)}
            if threshold is None or value >= threshold:
                hits.append(Hit(rank, value, number, item, cosines))
        left = list_unread(self.model.terms, whole, of) if how == "objective" else []
        return Found(hits, of, how, self.index.count(of, tree), time.perf_counter() - start, left)
