"""The evaluator ``robustness``: zero-shot accuracy and recall of damaged, redrawn and missing rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, final

from align.evaluation.findings import Findings
from align.evaluation.notes import some
from align.evaluation.robustness.cases import SEEDS, corrupt, drop, redraw
from align.evaluation.robustness.corruptions import (
    STRENGTHS,
    Corruption,
    corruptions_of,
    is_cloud,
    known_corruptions,
)
from align.evaluation.robustness.ledger import Ledger
from align.evaluation.robustness.measure import Measures
from align.evaluation.robustness.section import robustness_section
from align.evaluation.space import Space

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
            if rows.n and (chosen := self._measure(measures, ledger, m, notes)) is not None:
                used[m] = chosen
        dropped = drop(measures, ledger) if self._wants("dropped") else []
        clouds = [m for m in used if is_cloud(space.model.preprocess[m]) and self._wants("sampling")]
        notes += self._note_unused({name for chosen in used.values() for name in chosen}, clouds, dropped)
        if ledger.zero:
            notes.append(f"robustness: without a share retained, since the clean score is 0: {some(ledger.zero, 3)}")
        around = space.intervals(ledger.samples, ledger.statistics)
        protocol: dict[str, Any] = {
            "strengths": list(self.strengths),
            "measure": list(self.measure),
            "corruptions": {
                m: {name: {"values": list(one.values), "meaning": one.meaning} for name, one in chosen.items()}
                for m, chosen in used.items()
            },
            "sampling": {"modalities": clouds, "seeds": list(SEEDS) if clouds else []},
            "dropped": dropped,
            "retained": "the mean over the strengths, over the clean score of the same queries",
        }
        section = robustness_section(ledger.scores, around, used, self.strengths) if ledger.scores else None
        facts = {"robustness": protocol, "notes": notes}
        return Findings(ledger.scores, facts, section, ledger.samples, ledger.statistics, around)

    def _measure(self, measures: Measures, ledger: Ledger, m: str, notes: list[str]) -> dict[str, Corruption] | None:
        """Add the scores of one modality. Return its corruptions, or None where nothing of it is measured."""
        preprocess = measures.space.model.preprocess[m]
        having = corruptions_of(preprocess)
        if not having and any(map(self._wants, known_corruptions())):
            medium = preprocess.medium.name if preprocess.medium is not None else "none is named"
            notes.append(f"robustness: {m} is not corrupted, its medium ({medium}) has no corruptions")
        chosen = {name: one for name, one in having.items() if self._wants(name)}
        redrawn = is_cloud(preprocess) and self._wants("sampling")
        if not chosen and not redrawn:
            return None
        clean = measures.ask_with(measures.table, m)
        if not clean:
            notes.append(f"robustness of {m} is not measured: {self._reason(m, measures)}")
            return None
        for name, asked in clean.items():
            ledger.add(f"robustness/{m}/clean/{name}", asked)
        for name, one in chosen.items():
            corrupt(measures, ledger, m, name, one, self.strengths, clean)
        if redrawn and not redraw(measures, ledger, m, clean):
            notes.append(
                f"robustness: no draw of points changes an answer of {m}: its clouds may hold too few to choose"
            )
        return chosen

    def _wants(self, name: str) -> bool:
        return not self.corruptions or name in self.corruptions

    def _reason(self, m: str, measures: Measures) -> str:
        if m == self.text and not measures.retrieval:
            return "zero-shot asks by prompts, which no corruption changes; retrieval measures it"
        return "no query of it has an answer that counts"

    def _note_unused(self, had: set[str], clouds: Sequence[str], dropped: Sequence[str]) -> list[str]:
        """Return lines about what was asked for and that no modality has."""
        lines = {
            "sampling": "" if clouds else "no points are drawn anew, no modality is a point cloud",
            "dropped": "" if dropped else "no modality is dropped, because no trained term joins three modalities",
        }
        found = {
            name: lines.get(name, "" if name in had else f"{name} is not measured, no measured modality has it")
            for name in self.corruptions
        }
        return [f"robustness: {line}" for line in found.values() if line]


def _list(names: Sequence[str]) -> str:
    return f"there are {', '.join(names)}"
