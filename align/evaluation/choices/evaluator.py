"""The evaluator of two-alternative choice and odd one out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.choices.draw import Drawn, draw_sets
from align.evaluation.choices.judged import read_judgements
from align.evaluation.choices.sets import CHANCE, Sets, Task, judge
from align.evaluation.findings import Findings
from align.evaluation.hits import Captions, Rule, by_label, by_sample
from align.evaluation.labels import class_places
from align.evaluation.samples import Intervals, proportion
from align.evaluation.space import Space
from align.page.section import Bar, Bars, Section
from align.seeds import derive, generator
from align.values import Embeddings, Scores

WORDS: dict[Task, str] = {"2afc": "two-alternative choice", "odd": "odd one out"}


@final
@dataclass(frozen=True)
class Choices:
    """``choices/image_to_text/2afc/accuracy`` and ``choices/image/odd/accuracy``, … of sets of three rows.

    Two of UniSim's tasks (Ghazanfari et al. 2024, arXiv 2412.10594, section 3), for any modality. Two-alternative
    choice: which of two rows is more like a reference. Odd one out: which of three rows does not belong. Rows are
    compared by their cosine. A tie is wrong. Chance is 1/2 and 1/3.

    By labels, a set is two rows of one class and one of another, for each attribute. Every modality is the reference of
    every one, itself included. Odd sets are of one modality, or of three different ones, where each of them is odd as
    often. Sets of two modalities are not asked for an odd row: the gap between modalities would tell it. Without
    classes, the reference asks for the row of its own sample. Draws follow from the seed of the evaluation.

    sets: drawn for each score. judgements: a file of judged sets instead, see ``judged.read_judgements``. Their scores
    are ``choices/judged/…``. Raises ValueError for fewer than 1 set.
    """

    name = "choices"

    sets: int = 1000
    judgements: str | Path | None = None

    def __post_init__(self) -> None:
        if self.sets < 1:
            raise ValueError(f"choices draws 1 set at least for a score, got {self.sets}")

    def run(self, space: Space) -> Findings:
        """Return the accuracy of every task. Raises ValueError for a file that is none of judgements."""
        table, notes = space.table(), []
        if self.judgements is None:
            asked = list(self._draw(space))
        else:
            asked, left = _read(self.judgements, table)
            if left:
                notes.append(f"choices: {left:,} judgements are left out, as a sample lacks a row of the modality")
        found = {name: (judge(one), one) for name, one in asked if len(one.answer)}
        if not found:
            return Findings({}, {"notes": [*notes, "choices is not measured: no set of three rows can be drawn"]})
        scores: Scores = {name: float(right.double().mean()) for name, (right, _) in found.items()}
        samples = {name: (right.float(), one.sample) for name, (right, one) in found.items()}
        statistics = dict.fromkeys(samples, proportion)
        intervals = space.intervals(samples, statistics)
        facts: dict[str, Any] = {
            "sets": {name: len(right) for name, (right, _) in found.items()},
            "from": "labels, drawn by the seed" if self.judgements is None else str(self.judgements),
            "rule": "cosine; a tie is wrong",
            "chance": {WORDS[task]: chance for task, chance in CHANCE.items()},
        }
        return Findings(
            scores,
            {"choices": facts, "notes": notes},
            _show({name: one.task for name, (_, one) in found.items()}, scores, intervals),
            samples,
            statistics,
            intervals,
        )

    def _draw(self, space: Space) -> Iterator[tuple[str, Sets]]:
        """Yield the name of each score and its sets."""
        table = space.table()
        present = sorted(m for m in table if table[m].n)
        for prefix, rule, known in _list_rules(space):
            itself = not space.classes
            for m, of in product(present, present):
                if m != of or not itself:
                    name = f"choices/{prefix}{m}_to_{of}/2afc/accuracy"
                    draw = generator("choices", space.seed, name)
                    drawn = draw_sets(table, (m, of, of), rule, known, self.sets, draw, itself=itself)
                    yield name, _take(table, "2afc", (m, of, of), drawn, (0, 1, 2), 1)
            for trio in () if itself else [*((m,) * 3 for m in present), *combinations(present, 3)]:
                name = f"choices/{prefix}{'+'.join(dict.fromkeys(trio))}/odd/accuracy"
                yield name, self._draw_odd(table, trio, rule, known, derive("choices", space.seed, name))

    def _draw_odd(self, table: Embeddings, trio: tuple[str, ...], rule: Rule, known: Tensor, seed: int) -> Sets:
        """Return sets of three modalities. Each of them is odd in a third of the sets."""
        parts = []
        for odd in range(3):
            x, y = (i for i in range(3) if i != odd)
            n = len(range(odd, self.sets, 3))
            drawn = draw_sets(table, (trio[x], trio[y], trio[odd]), rule, known, n, generator(seed, odd))
            parts.append(_take(table, "odd", (trio[x], trio[y], trio[odd]), drawn, _place(x, y, odd), odd))
        rows = tuple(torch.cat([part.rows[i] for part in parts]) for i in range(3))
        answer, sample = (torch.cat([part[i] for part in parts]) for i in (2, 3))
        return Sets("odd", (rows[0], rows[1], rows[2]), answer, sample)


def _place(x: int, y: int, odd: int) -> tuple[int, int, int]:
    """Return which of (reference, alike, other) stands at each place."""
    found = {x: 0, y: 1, odd: 2}
    return found[0], found[1], found[2]


def _take(
    table: Embeddings, task: Task, modalities: tuple[str, str, str], drawn: Drawn, at: tuple[int, int, int], answer: int
) -> Sets:
    """Return drawn rows as sets. at: which of (reference, alike, other) stands at each place."""
    x, y, z = (vectors(table, modalities[i])[drawn[i]] for i in at)
    sample = table[modalities[0]].sample[drawn.reference]
    return Sets(task, (x, y, z), torch.full((len(sample),), answer), sample)


def _list_rules(space: Space) -> Iterator[tuple[str, Rule, Tensor]]:
    """Yield the prefix, the hit rule and the known samples (B,) of each attribute, or of the evaluation's rule."""
    table = space.table()
    for name, names in space.classes.items():
        known = (class_places(table.labels, name, list(names)) >= 0).any(dim=1)
        yield ("" if len(space.classes) == 1 else f"{name}/"), by_label(table, name, list(names)), known
    if not space.classes:
        rule = space.hit.rule
        yield "", by_sample() if isinstance(rule, Captions) else rule, torch.ones(table.size, dtype=torch.bool)


def _read(path: str | Path, table: Embeddings) -> tuple[list[tuple[str, Sets]], int]:
    """Return the name of each score and its judged sets, and the number of sets left out."""
    judged, left = read_judgements(path, table)
    groups: dict[str, list[int]] = {}
    for i, one in enumerate(judged):
        first, others = one.modalities[0], "+".join(sorted(set(one.modalities[1:])))
        said = f"{first}_to_{others}/2afc" if one.task == "2afc" else "+".join(sorted(set(one.modalities))) + "/odd"
        groups.setdefault(f"choices/judged/{said}/accuracy", []).append(i)
    out = []
    for name, places in groups.items():
        some = [judged[i] for i in places]
        x, y, z = (torch.stack([vectors(table, one.modalities[i])[one.rows[i]] for one in some]) for i in range(3))
        answer, sample = (
            torch.tensor(column) for column in zip(*((one.answer, one.sample) for one in some), strict=True)
        )
        out.append((name, Sets(some[0].task, (x, y, z), answer, sample)))
    return out, left


def _show(tasks: dict[str, Task], scores: Scores, intervals: Intervals) -> Section:
    """Return the section: a bar for each score, with its chance."""
    blocks = []
    for task in dict.fromkeys(tasks.values()):
        bars = []
        for name, value in scores.items():
            if tasks[name] == task:
                *attribute, of = name.split("/")[1:-2]
                row = "/".join(attribute) or "label"
                bars.append(Bar(row, of.replace("_to_", " → "), value, CHANCE[task], {}, intervals.get(name)))
        blocks.append(Bars("Attribute", f"accuracy of {WORDS[task]}", bars, {}, "Rows"))
    note = "Two rows of a class and one of another, by cosine. A tie is wrong. The mark on a bar is chance."
    return Section("Choices", note, blocks)
