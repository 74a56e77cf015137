"""The cases of a robustness run: a corruption, other draws of points, and a missing modality of a composed query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.altered import Change
from align.evaluation.composed import composed_queries
from align.evaluation.robustness.corruptions import STRENGTHS, Corrupted, Corruption, Redrawn
from align.evaluation.robustness.ledger import Ledger
from align.evaluation.robustness.measure import Asked, Measures

SEEDS = (0, 1, 2)  # of the draws of points


def corrupt(
    measures: Measures,
    ledger: Ledger,
    m: str,
    name: str,
    corruption: Corruption,
    strengths: Sequence[int],
    clean: Mapping[str, Asked],
) -> None:
    """Add the scores of a modality under one corruption, at each strength, their mean, and the share retained.

    An up axis has the spread over both conventions too, which are the clean clouds and those of the last strength.
    """
    found = {s: _alter(measures, m, f"{name}@{s}", Corrupted(corruption.apply, s)) for s in strengths}
    for measure, asked in clean.items():
        for s, altered in found.items():
            ledger.add(f"robustness/{m}/{name}@{s}/{measure}", altered[measure])
        ledger.add_kept(f"robustness/{m}/{name}", measure, [one[measure] for one in found.values()], asked)
    if name == "up_axis":
        last = STRENGTHS[-1]
        other = found.get(last) or _alter(measures, m, "the other up axis", Corrupted(corruption.apply, last))
        for measure, asked in clean.items():
            ledger.add_spread(f"robustness/{m}/up_axes", measure, [asked, other[measure]])


def redraw(measures: Measures, ledger: Ledger, m: str, clean: Mapping[str, Asked]) -> bool:
    """Add the scores of clouds whose points are drawn anew, by each of SEEDS, and their spread.

    Return True where a draw changes an answer.
    """
    found = {seed: _alter(measures, m, f"sampling@{seed}", Redrawn(seed)) for seed in SEEDS}
    for measure in clean:
        for seed, one in found.items():
            ledger.add(f"robustness/{m}/sampling@{seed}/{measure}", one[measure])
        ledger.add_spread(f"robustness/{m}/sampling", measure, [one[measure] for one in found.values()])
    return any(not one[measure].right.equal(clean[measure].right) for one in found.values() for measure in clean)


def drop(measures: Measures, ledger: Ledger) -> list[str]:
    """Add the scores of composed queries, whole and without each modality. Return the names of the queries.

    A query without a modality is scored as ``scoring.choose`` says for those that remain, over the same samples.
    """
    names = set[str]()
    for of in measures.table:
        for together in composed_queries(measures.terms, of) if measures.table[of].n else ():
            query, sample = measures.ask_together(together)
            whole = measures.ask(query, sample, [of]) if len(sample) else {}
            asked_as = "+".join(together)
            for measure, asked in whole.items():
                ledger.add(f"robustness/{asked_as}/whole/{measure}", asked)
            for gone in together if whole else ():
                rest = measures.ask({m: x for m, x in query.items() if m != gone}, sample, [of])
                for measure, asked in whole.items():
                    ledger.add(f"robustness/{asked_as}/without_{gone}/{measure}", rest[measure])
                    ledger.add_kept(f"robustness/{asked_as}/without_{gone}", measure, [rest[measure]], asked)
            names |= {asked_as} if whole else set()
    return sorted(names)


def _alter(measures: Measures, m: str, words: str, change: Change) -> dict[str, Asked]:
    """Return the measurements of a modality under a change."""
    measures.space.announce(f"{m} {words}")
    return measures.ask_with(measures.space.altered({m: change}).table(), m)
