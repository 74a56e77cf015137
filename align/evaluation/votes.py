"""Retrieval of samples by the votes of their rows, such as the snippets of a sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.hits import by_label
from align.evaluation.samples import Intervals
from align.evaluation.space import Space
from align.metrics import mean_average_precision, ranks, recall_at
from align.page.section import Measured, Section, Table
from align.scoring import choose, score, vote
from align.scoring.vote import Ballot
from align.values import Scores


@final
@dataclass(frozen=True)
class Votes:
    """``votes/audio_to_text/recall@1`` and ``votes/class/ATTRIBUTE/audio_to_audio/map``: whole samples find samples.

    All rows of a sample ask together, among all rows of the others, and their scores become one score for each pair of
    samples, see ``align.scoring.vote``. Directions in which no sample has several rows are left out. A modality asks
    for itself too, where a sample is no candidate of its own. The scores (q, c) of all rows stand in memory.

    how: the rule of the vote. Raises ValueError for another one.
    """

    name = "votes"

    how: Ballot = "mean"

    def __post_init__(self) -> None:
        if self.how not in get_args(Ballot):
            raise ValueError(f"a vote is by {', '.join(get_args(Ballot))}; got {self.how!r}")

    def run(self, space: Space) -> Findings:
        """Return recall@k by the hit rule, and the mean average precision by the classes of each attribute."""
        table = space.table()
        several = {m for m, rows in table.items() if (s := rows.sample[rows.sample >= 0]).unique().numel() < len(s)}
        pairs = [(a, b) for a in table for b in table if {a, b} & several and table[a].n and table[b].n]
        classes = {name: by_label(table, name, list(names)) for name, names in space.classes.items()}
        scores: Scores = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        for a, b in pairs:
            how = choose(space.model.terms, [a], b)
            rows = score({a: vectors(table, a)}, vectors(table, b), how, of=b, terms=space.model.terms)
            found, asking, told = vote(rows, table[a].sample, table[b].sample, self.how, skip_own=a == b)
            rules = {f"{self.name}/": space.hit.rule} if callable(space.hit.rule) else {}
            rules |= {f"{self.name}/class/{name}/": rule for name, rule in classes.items()}
            for prefix, rule in rules.items():
                hits = rule(asking, told) & found.isfinite()
                kept = hits.any(1)
                if not bool(kept.any()):
                    continue
                chosen, right = found[kept].float(), hits[kept]
                place = ranks(chosen, right)
                for k in space.ks:
                    name = f"{prefix}{a}_to_{b}/recall@{k}"
                    scores[name] = recall_at(place, k)
                    samples[name] = (((place > 0) & (place <= k)).float(), asking[kept])
                scores[f"{prefix}{a}_to_{b}/map"] = mean_average_precision(chosen, right)
        if not scores:
            return Findings({}, {"notes": ["votes are not measured: no sample has several rows of a modality"]})
        around = space.intervals(samples, {})
        facts = {"votes": f"by {self.how}, of all rows of a sample"}
        return Findings(scores, facts, _section(scores, around), samples, {}, around)


def _section(scores: Scores, around: Intervals) -> Section:
    rows = [[name.removeprefix("votes/"), Measured(value, around.get(name))] for name, value in scores.items()]
    note = "all rows of a sample ask together, and their scores become one for each other sample"
    return Section("Votes of a sample's rows", note, [Table(["score", "value"], rows)])
