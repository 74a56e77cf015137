"""Facts that change how the numbers are read. The protocol has them, and its notes say each in a line for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from align.evaluation.classes import LabelCounts, count_labels
from align.evaluation.hits import equal_answers
from align.evaluation.labels import numerals
from align.evaluation.prompts import equal_prompts
from align.evaluation.space import Space
from align.values import Embeddings, Scores

LABELS = 100  # labels outside the classes that a protocol names, of an attribute


def label_facts(space: Space, text: str = "") -> dict[str, Any]:
    """Return entries of the protocol about the labels. ``notes`` are their lines.

    "scored": attribute -> numbers of samples with a class, with other labels (and which) and without a label, and the
    classes without a sample. text: the modality of the prompts. With it, "same prompts": attribute -> label -> the
    label whose prompts are the same.
    """
    found = {a: count_labels(space.table().labels, a, list(names)) for a, names in space.classes.items()}
    same: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for a, names in space.classes.items():
        if text in space.model.modalities and found[a].samples:
            first = equal_prompts(space.model, space.names(a), space.templates[a], text=text)
            kept = {label: list(names)[i] for label, i in zip(names, first, strict=True)}
            same[a] = {label: one for label, one in kept.items() if label != one}
        notes += _labels(a, found[a], same.get(a, {}))
        asked = [name for name in space.names(a) if isinstance(name, str)]
        if a in same and len(asked) == len(names) and numerals(asked):
            notes.append(_numbers(a, asked, space.templates[a]))
    if space.classes and (rest := [a for a in space.known if a not in space.classes]):
        given = ", ".join(space.classes)
        notes.append(f"measured for {given} alone, by the classes given; the shards have {some(rest)} too")
    facts: dict[str, Any] = {"scored": {a: _counts(counts) for a, counts in found.items()}}
    if text:
        facts["same prompts"] = {a: labels for a, labels in same.items() if labels}
    return facts | {"notes": notes}


def zeroshot_facts(space: Space, scores: Scores, text: str) -> dict[str, Any]:
    """Return ``label_facts``, and notes about numbers that zero-shot does not measure."""
    facts, table = label_facts(space, text), space.table()
    modalities = space.model.modalities
    if text not in modalities:
        facts["notes"].append(
            f"zero-shot is not measured: the model has no tower for {text}; it has {', '.join(modalities)}"
        )
    elif not space.classes:
        facts["notes"].append("zero-shot is not measured: the shards have no labels")
    else:
        for a, counts in facts["scored"].items():
            for m, rows in table.items():
                if counts["samples"] and m != text and rows.n and f"zeroshot/{a}/{m}/accuracy" not in scores:
                    facts["notes"].append(
                        f"zero-shot of {a} from {m} is not measured: no sample with a class has a row of {m}"
                    )
    return facts


def retrieval_facts(space: Space, scores: Scores, text: str) -> dict[str, Any]:
    """Return ``label_facts``, "equal answers" (modality -> rows that equal another which is no hit) and notes."""
    facts, table = label_facts(space), space.table()
    equal = {m: n for m, n in equal_answers(table, space.hit.rule).items() if n}
    facts["notes"] += _pairs(table, scores) + [_equal(m, n, table[m].n, m == text) for m, n in equal.items()]
    return facts | {"equal answers": equal}


def _counts(found: LabelCounts) -> dict[str, Any]:
    others = dict(list(found.others.items())[:LABELS])
    return {
        "samples": found.samples,
        "samples with other labels": found.outside,
        "samples without a label": found.unlabelled,
        "other labels": others,
        "classes without a sample": found.absent,
    }


def _labels(attribute: str, found: LabelCounts, same: Mapping[str, str]) -> list[str]:
    total, out = found.samples + found.outside + found.unlabelled, []
    absent = some(list(map(repr, found.absent)))
    if found.samples < total:
        parts = [f"{found.samples:,} of {total:,} samples are scored"]
        if not found.samples:
            parts = [f"nothing is measured, no sample has one of its classes ({absent})"]
        if found.outside:
            names = some([f"{label!r} ({n:,})" for label, n in found.others.items()])
            parts.append(f"{found.outside:,} have a label outside the classes: {names}")
        if found.unlabelled:
            parts.append(f"{found.unlabelled:,} have no label")
        out.append(f"{attribute}: {'; '.join(parts)}")
    if found.absent and found.samples:
        out.append(f"{attribute}: no sample has the label {absent}")
    first: dict[str, list[str]] = {}
    for label, kept in same.items():
        first.setdefault(kept, [kept]).append(label)
    for many in first.values():
        names = " and ".join(map(repr, many))
        out.append(f"{attribute}: {names} have the same prompts, so they are one class in zero-shot")
    return out


def _numbers(attribute: str, names: Sequence[str], templates: Sequence[str]) -> str:
    prompts = ", ".join(repr(template.replace("{}", names[0])) for template in templates[:2])
    return (
        f"{attribute}: the class names are numbers, and zero-shot asks with {prompts}, …; give their names with "
        f"--classes: a file with one name a line, in the order of the numbers from 0"
    )


def _pairs(embeddings: Embeddings, scores: Scores) -> list[str]:
    empty = [m for m, rows in embeddings.items() if not rows.n]
    out = [f"nothing is measured of {m}: the shards have no row of it" for m in empty]
    present = sorted(set(embeddings) - set(empty))
    if len(present) == 1:
        out.append(f"retrieval is not measured: the shards have rows of {present[0]} alone")
    for one, other in permutations(present, 2):
        if not any(key.startswith(f"{one}_to_{other}/") for key in scores):
            out.append(f"retrieval from {one} to {other} is not measured: no row of {one} has a hit in {other}")
    return out


def _equal(modality: str, n: int, rows: int, text: bool) -> str:
    says = f"{n:,} of {rows:,} answers of {modality} equal another that is no hit: they tie, and a tie never helps"
    return f"{says}; --hit caption takes equal texts as one answer" if text else says


def some(names: Sequence[str], most: int = 8) -> str:
    """Return the first names for a line, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
