"""The evaluator ``robustness``: zero-shot accuracy and recall of damaged, redrawn and missing rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, final

from align.evaluation.altered import Change
from align.evaluation.composed import composed_queries
from align.evaluation.findings import Findings
from align.evaluation.notes import some
from align.evaluation.robustness.corruptions import (
    STRENGTHS,
    Corrupted,
    Corruption,
    Redrawn,
    corruptions_of,
    is_cloud,
    known_corruptions,
)
from align.evaluation.robustness.ledger import Ledger
from align.evaluation.robustness.measure import Asked, Measures
from align.evaluation.robustness.section import robustness_section
from align.evaluation.space import Space

SEEDS = (0, 1, 2)
CASES = ("sampling", "dropped")  # besides the corruptions


@final
@dataclass(frozen=True)
class Robustness:
    """``robustness/image/blur@3/zeroshot/shape/accuracy`` and ``robustness/image/blur@3/to_text/recall@1``.

    One modality changes at a time, and its rows ask. Prompts and answers stay as they are. The queries are the same
    everywhere, so all values are paired. Each modality has ``clean``, CORRUPTION@STRENGTH, CORRUPTION/mean over the
    strengths, and CORRUPTION/retained, the mean over the clean score. Clouds have ``sampling@SEED`` too, other draws of
    their points, with mean, lowest and highest, and ``up_axes``, those of both conventions of the up axis. A query of
    several modalities has ``whole`` and, for each of them, ``without_MODALITY``, over the same samples.

    The modality is embedded anew for each corruption and strength: 20 times for pictures and sounds by default.

    Args:
        corruptions: names of corruptions, "sampling" and "dropped". None of them: all that the modalities have.
        strengths: from 1 to 5.
        measure: "zeroshot", "retrieval", or both.
        text: the modality of class prompts.
        k: of recall@k.

    Raises ValueError for a corruption, a strength or a measure that is unknown.
    """

    name = "robustness"
    corruptions: Sequence[str] = ()
    strengths: Sequence[int] = STRENGTHS
    measure: Sequence[Literal["zeroshot", "retrieval"]] = ("zeroshot", "retrieval")
    text: str = "text"
    k: int = 1

    def __post_init__(self) -> None:
        known = (*known_corruptions(), *CASES)
        for name in self.corruptions:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                raise ValueError(f"no corruption {name!r}; " + (f"did you mean {near[0]!r}?" if near else _list(known)))
        for strength in self.strengths:
            if strength not in STRENGTHS:
                raise ValueError(f"strengths are 1, 2, 3, 4 and 5, not {strength!r}")
        for name in self.measure:
            if name not in ("zeroshot", "retrieval"):
                raise ValueError(f"robustness measures 'zeroshot' and 'retrieval', not {name!r}")
        if not self.strengths or not self.measure:
            raise ValueError("robustness needs at least one strength and one measure")
        if self.k < 1:
            raise ValueError(f"recall@k needs k >= 1, got {self.k}")

    def run(self, space: Space) -> Findings:
        """Return the scores of every modality that has rows and corruptions, with curves over the strengths."""
        measures = Measures(space, self.measure, text=self.text, k=self.k)
        ledger, used, notes = Ledger(), dict[str, dict[str, Corruption]](), list[str]()
        for m, rows in measures.table.items():
            preprocess = space.model.preprocess[m]
            having = corruptions_of(preprocess)
            if rows.n and not having and any(map(self._wants, known_corruptions())):
                medium = preprocess.medium
                notes.append(
                    f"robustness: {m} is not corrupted, its medium ({medium and medium.name}) has no corruptions"
                )
            chosen = {name: one for name, one in having.items() if self._wants(name)}
            redrawn = is_cloud(preprocess) and self._wants("sampling")
            clean = measures.ask_with(measures.table, m) if rows.n and (chosen or redrawn) else {}
            if rows.n and (chosen or redrawn) and not clean:
                notes.append(f"robustness of {m} is not measured: {self._reason(m, measures)}")
            if not clean:
                continue
            used[m] = chosen
            for name, asked in clean.items():
                ledger.add(f"robustness/{m}/clean/{name}", asked)
            for name, one in chosen.items():
                self._corrupt(measures, ledger, m, name, one, clean)
            if redrawn:
                self._redraw(measures, ledger, m, clean)
        dropped = self._drop(measures, ledger) if self._wants("dropped") else []
        notes += self._unused(used, dropped, measures)
        if ledger.zero:
            notes.append(f"robustness: without a share retained, since the clean score is 0: {some(ledger.zero, 3)}")
        around = space.intervals(ledger.samples, ledger.statistics)
        protocol: dict[str, Any] = {
            "robustness": {
                "strengths": list(self.strengths),
                "measure": list(self.measure),
                "corruptions": {
                    m: {name: {"values": list(one.values), "meaning": one.meaning} for name, one in named.items()}
                    for m, named in used.items()
                },
                "sampling seeds": list(SEEDS) if any(is_cloud(space.model.preprocess[m]) for m in used) else [],
                "dropped": dropped,
                "retained": "the mean over the strengths, over the clean score of the same queries",
            },
            "notes": notes,
        }
        section = robustness_section(ledger.scores, around, used, self.strengths) if ledger.scores else None
        return Findings(ledger.scores, protocol, section, ledger.samples, ledger.statistics, around)

    def _wants(self, name: str) -> bool:
        return not self.corruptions or name in self.corruptions

    def _corrupt(
        self,
        measures: Measures,
        ledger: Ledger,
        m: str,
        name: str,
        corruption: Corruption,
        clean: dict[str, Asked],
    ) -> None:
        """Add the scores of one corruption of a modality at all strengths."""
        found = {s: self._alter(measures, m, f"{name}@{s}", Corrupted(corruption.apply, s)) for s in self.strengths}
        for measure, asked in clean.items():
            for s, altered in found.items():
                ledger.add(f"robustness/{m}/{name}@{s}/{measure}", altered[measure])
            ledger.add_kept(f"robustness/{m}/{name}", measure, [one[measure] for one in found.values()], asked)
        if name == "up_axis":
            last = STRENGTHS[-1]
            other = found.get(last) or self._alter(measures, m, "the other up axis", Corrupted(corruption.apply, last))
            for measure, asked in clean.items():
                ledger.add_spread(f"robustness/{m}/up_axes", measure, [asked, other[measure]])

    def _redraw(self, measures: Measures, ledger: Ledger, m: str, clean: dict[str, Asked]) -> None:
        """Add the scores of a cloud's other draws of points."""
        found = {seed: self._alter(measures, m, f"sampling@{seed}", Redrawn(seed)) for seed in SEEDS}
        for measure in clean:
            for seed, one in found.items():
                ledger.add(f"robustness/{m}/sampling@{seed}/{measure}", one[measure])
            ledger.add_spread(f"robustness/{m}/sampling", measure, [one[measure] for one in found.values()])

    def _alter(self, measures: Measures, m: str, words: str, change: Change) -> dict[str, Asked]:
        measures.space.announce(f"{m} {words}")
        return measures.ask_with(measures.space.altered({m: change}).table(), m)

    def _drop(self, measures: Measures, ledger: Ledger) -> list[str]:
        """Add the scores of composed queries with and without each modality. Return the names of the queries."""
        names = []
        for of in measures.table:
            for together in composed_queries(measures.terms, of) if measures.table[of].n else ():
                query, sample = measures.ask_together(together)
                whole = measures.ask(query, sample, [of]) if len(sample) else {}
                prefix = f"robustness/{'+'.join(together)}"
                for measure, asked in whole.items():
                    ledger.add(f"{prefix}/whole/{measure}", asked)
                for gone in together if whole else ():
                    rest = measures.ask({m: x for m, x in query.items() if m != gone}, sample, [of])
                    for measure, asked in whole.items():
                        ledger.add(f"{prefix}/without_{gone}/{measure}", rest[measure])
                        ledger.add_kept(f"{prefix}/without_{gone}", measure, [rest[measure]], asked)
                names += [prefix.partition("/")[2]] if whole else []
        return sorted(set(names))

    def _reason(self, m: str, measures: Measures) -> str:
        if m == self.text and not measures.retrieval:
            return "zero-shot asks by prompts, which no corruption changes; retrieval measures it"
        return "no query of it has an answer that counts"

    def _unused(self, used: dict[str, dict[str, Corruption]], dropped: list[str], measures: Measures) -> list[str]:
        """Return lines about corruptions that were asked for and that no modality has."""
        had = {name for named in used.values() for name in named} | ({"dropped"} if dropped else set())
        if any(is_cloud(measures.space.model.preprocess[m]) for m in used):
            had.add("sampling")
        lines = {
            "sampling": "robustness: no points are drawn anew, no modality is a point cloud",
            "dropped": "robustness: no modality is dropped, no trained term joins three modalities",
        }
        return [
            lines.get(name, f"robustness: {name} is not measured, no measured modality has it")
            for name in dict.fromkeys(self.corruptions)
            if name not in had
        ]


def _list(names: Sequence[str]) -> str:
    return f"there are {', '.join(names)}"
