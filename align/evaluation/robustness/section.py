"""The section of a robustness run: curves over the strengths, and tables of what is retained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from align.evaluation.robustness.corruptions import Corruption
from align.evaluation.samples import Intervals
from align.page.section import Block, Curve, Measured, Section, Table
from align.values import Scores


def robustness_section(
    scores: Scores, around: Intervals, used: Mapping[str, Mapping[str, Corruption]], strengths: Sequence[int]
) -> Section:
    """Return a curve for each modality and measure, a table of corruptions, and those of draws and missing modalities.

    used: modality -> its corruptions. Strength 0 of a curve is the clean score.
    """
    curves: list[Block] = []
    rows: list[list[str | float | Measured]] = []

    def cell(name: str) -> Measured | str:
        return Measured(scores[name], around.get(name)) if name in scores else ""

    for m, some in used.items():
        for measure in _measures(scores, f"robustness/{m}/clean/"):
            lines, bands = {}, {}
            for name in some:
                names = {0: f"robustness/{m}/clean/{measure}"}
                names |= {s: f"robustness/{m}/{name}@{s}/{measure}" for s in sorted(strengths)}
                lines[name] = [(s, scores[key]) for s, key in names.items()]
                if all(key in around for key in names.values()):
                    bands[name] = [(s, *around[key]) for s, key in names.items()]
                mean = f"robustness/{m}/{name}/mean/{measure}"
                mean = mean if mean in scores else f"robustness/{m}/{name}@{strengths[0]}/{measure}"
                ends = [cell(names[0]), cell(mean), cell(f"robustness/{m}/{name}/retained/{measure}")]
                rows.append([m, name, _words(measure), *ends])
            if lines:
                curves.append(Curve(f"{m}: {_words(measure)}", "strength", measure.rpartition("/")[2], lines, bands))
    blocks = [*curves]
    if rows:
        blocks.append(Table(["modality", "corruption", "measure", "clean", "mean", "retained"], rows, 3, "Damages"))
    spread: list[list[str | float | Measured]] = []
    for m in used:
        for case in ("sampling", "up_axes"):
            for measure in _measures(scores, f"robustness/{m}/{case}/mean/"):
                ends = [cell(f"robustness/{m}/{case}/{end}/{measure}") for end in ("mean", "lowest", "highest")]
                spread.append(
                    [m, {"sampling": "sampling seeds", "up_axes": "both up axes"}[case], _words(measure), *ends]
                )
    if spread:
        blocks.append(Table(["modality", "over", "measure", "mean", "lowest", "highest"], spread, 3, "Draws and axes"))
    gone: list[list[str | float | Measured]] = []
    for query, missing, measure in _list_dropped(scores):
        prefix = f"robustness/{query}"
        ends = [cell(f"{prefix}/whole/{measure}"), cell(f"{prefix}/without_{missing}/{measure}")]
        gone.append([query, missing, _words(measure), *ends, cell(f"{prefix}/without_{missing}/retained/{measure}")])
    if gone:
        blocks.append(
            Table(["query", "without", "measure", "whole", "without it", "retained"], gone, 3, "A missing modality")
        )
    note = "One modality is damaged at a time, and its rows ask. Strength 0 is clean. Retained is the mean over clean."
    return Section("Robustness", note, blocks)


def _measures(scores: Iterable[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in scores if name.startswith(prefix)]


def _list_dropped(scores: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (query, the missing modality, measure) of each score without a modality."""
    found = []
    for name in scores:
        query, _, rest = name.removeprefix("robustness/").partition("/")
        state, _, measure = rest.partition("/")
        if state.startswith("without_") and not measure.startswith("retained/"):
            found.append((query, state.removeprefix("without_"), measure))
    return found


def _words(measure: str) -> str:
    """Return a measure in words.

    >>> _words("zeroshot/shape/accuracy"), _words("to_text/recall@1")
    ('zero-shot shape', 'recall@1 of text')
    """
    first, _, rest = measure.partition("/")
    return f"zero-shot {rest.rpartition('/')[0]}" if first == "zeroshot" else f"{rest} of {first.removeprefix('to_')}"
