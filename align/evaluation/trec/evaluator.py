"""The evaluator that writes TREC's files: the answers and the judgements of every direction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import torch
from torch import Tensor

from align.distributed import rank
from align.evaluation.directions import Direction, list_directions
from align.evaluation.findings import Findings
from align.evaluation.hits import Captions, by_caption
from align.evaluation.overlap import refuse_overlap
from align.evaluation.ranking import Block, score_queries
from align.evaluation.space import Space
from align.evaluation.trec.names import name_rows, name_samples
from align.files import atomic_write
from align.values import TermInfo

TAG = "align"


@final
@dataclass(frozen=True)
class Trec:
    """FOLDER/image_to_text.run and FOLDER/image_to_text.qrels, … of every direction, by the hit rule.

    A run line is ``qid Q0 docid rank score tag``, for the best ``depth`` candidates of each query. A qrels line is
    ``qid 0 docid 1``, for each hit. A query without a hit is in neither file. qid and docid are the samples' keys, see
    ``trec.names``. Of equal scores the wrong candidates stand first. trec_eval orders these by docid, so it may give
    another score where scores tie.

    Raises ValueError for a depth below 1, and for a folder that is a file.
    """

    name = "trec"

    folder: str | Path
    depth: int = 1000

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"a run has 1 candidate of a query at least, got a depth of {self.depth}")
        if Path(self.folder).exists() and not Path(self.folder).is_dir():
            raise ValueError(f"{self.folder} is a file; TREC's files go into a folder")

    def run(self, space: Space) -> Findings:
        """Write the files, by the first rank alone, and return their names and counts of queries for the protocol."""
        table, hits, distractors = space.table(), space.hit.rule, None
        if space.distractors is not None:
            refuse_overlap(space, "distractors", "distractors would equal the answers", "of other samples")
            distractors = space.table(split="distractors")
            if isinstance(hits, Captions):
                hits = by_caption(table, hits.text, distractors)
        terms, counts = space.model.terms, {}
        for one in list_directions(table, hits, terms=terms, distractors=distractors):
            of, asked = one.asked.of, "+".join(one.names)
            queries = name_rows(table, asked) if len(one.names) == 1 else _name_composed(name_samples(table), one)
            documents = name_rows(table, of, distractors)
            if n := self._write(f"{asked}_to_{of}", one, queries, documents, terms):
                counts[f"{asked}_to_{of}"] = n
        facts: dict[str, Any] = {"folder": str(self.folder), "depth": self.depth, "queries": counts}
        facts["ties"] = "wrong candidates first; trec_eval reads the scores and orders ties by docid"
        return Findings({}, {"trec": facts})

    def _write(
        self, name: str, one: Direction, queries: Sequence[str], documents: Sequence[str], terms: Sequence[TermInfo]
    ) -> int:
        """Write the two files of a direction, and return the number of queries. Of none there are no files."""
        count = 0
        with ExitStack() as files:
            run: IO[str] | None = None
            judged: IO[str] | None = None
            for block in score_queries(one.asked, one.rule, terms=terms):
                count += len(block.at)
                if rank():
                    continue
                if run is None or judged is None:
                    run, judged = (
                        files.enter_context(atomic_write(Path(self.folder) / f"{name}.{kind}", "w"))
                        for kind in ("run", "qrels")
                    )
                for at, places, scores, hits in _list(block, self.depth):
                    query = queries[at]
                    run.writelines(
                        f"{query} Q0 {documents[place]} {number} {score:.9g} {TAG}\n"
                        for number, (place, score) in enumerate(zip(places, scores, strict=True), 1)
                    )
                    judged.writelines(f"{query} 0 {documents[place]} 1\n" for place in hits)
        return count


def _name_composed(names: list[str], one: Direction) -> list[str]:
    return [names[sample] for sample in one.sample.tolist()]


def _list(block: Block, depth: int) -> list[tuple[int, list[int], list[float], list[int]]]:
    """Return for each query its place, the best candidates with their scores, and its hits."""
    out = []
    for i, at in enumerate(block.at.tolist()):
        scores, hit = block.scores[i], block.levels[i] > 0
        best = _order(scores, hit, None if block.skip is None else block.skip[i])[:depth]
        out.append((at, best.tolist(), scores[best].tolist(), hit.nonzero().flatten().tolist()))
    return out


def _order(scores: Tensor, hit: Tensor, skip: Tensor | None) -> Tensor:
    """Return the candidates in the order of their scores (c,), of equals the wrong ones first. NaN is in no list."""
    listed = ~scores.isnan() if skip is None else ~scores.isnan() & ~skip
    kept = torch.cat([(listed & ~hit).nonzero().flatten(), (listed & hit).nonzero().flatten()])
    return kept[scores[kept].sort(descending=True, stable=True).indices]
