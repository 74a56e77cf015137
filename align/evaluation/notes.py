"""Facts that change how the numbers are read, for the protocol; and a line of each for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from align.evaluation.classes import Scored, scored
from align.evaluation.hits import Captions, Rule, equal_answers
from align.evaluation.labels import numerals
from align.evaluation.prompts import equal_prompts
from align.model import JointModel
from align.values import Embeddings, Scores

LABELS = 100  # labels outside the classes that a protocol names, of an attribute


def facts(
    model: JointModel,
    embeddings: Embeddings,
    scores: Scores,
    classes: Mapping[str, Mapping[str, str]],
    templates: Mapping[str, Sequence[str]],
    hits: Rule | Captions,
    *,
    known: Sequence[str],
    total: int,
    text: str = "text",
) -> dict[str, Any]:
    """Entries of the protocol; ``notes`` are their lines, [] where there is nothing to say.

    "scored": attribute -> samples with a class, with other labels (and which), without a label, classes without a
    sample; "same prompts": attribute -> label -> the label whose prompts are the same; "equal answers": modality -> its
    rows that equal another which is no hit where they are.

    classes: attribute -> label -> name in prompts; known: the shards' attributes; total: the shards' samples.
    """
    labels = {a: scored(embeddings.labels, a, list(names)) for a, names in classes.items()}
    same: dict[str, dict[str, str]] = {}
    if text in model.modalities:
        for a, names in classes.items():
            if labels[a].samples:
                first = equal_prompts(model, list(names.values()), templates[a], text=text)
                found = {label: list(names)[i] for label, i in zip(names, first, strict=True)}
                same[a] = {label: kept for label, kept in found.items() if label != kept}
    equal = {m: n for m, n in equal_answers(embeddings, hits).items() if n}
    notes: list[str] = []
    if left := total - embeddings.size:
        notes.append(f"{left:,} of {total:,} samples have no row that could be read: they are left out")
    for a, names in classes.items():
        notes += _labels(a, labels[a], same.get(a, {}))
        if a in same and numerals(list(names.values())):
            notes.append(_numbers(a, list(names.values()), templates[a]))
    if classes and (rest := [a for a in known if a not in classes]):
        notes.append(f"measured for {', '.join(classes)} alone, by the classes given; the shards have {some(rest)} too")
    notes += _zeroshot(model, embeddings, scores, labels, text) + _retrieval(embeddings, scores)
    notes += [_equal(m, n, embeddings[m].n, m == text) for m, n in equal.items()]
    return {
        "scored": {a: _counts(found) for a, found in labels.items()},
        "same prompts": {a: found for a, found in same.items() if found},
        "equal answers": equal,
        "notes": notes,
    }


def _counts(found: Scored) -> dict[str, Any]:
    others = dict(list(found.others.items())[:LABELS])
    return {
        "samples": found.samples,
        "samples with other labels": found.outside,
        "samples without a label": found.unlabelled,
        "other labels": others,
        "classes without a sample": found.absent,
    }


def _labels(attribute: str, found: Scored, same: Mapping[str, str]) -> list[str]:
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


def _zeroshot(
    model: JointModel, embeddings: Embeddings, scores: Scores, labels: Mapping[str, Scored], text: str
) -> list[str]:
    if text not in model.modalities:
        return [f"zero-shot is not measured: the model has no tower for {text}; it has {', '.join(model.modalities)}"]
    if not labels:
        return ["zero-shot is not measured: the shards have no labels"]
    out = []
    for a, found in labels.items():
        for m, rows in embeddings.items():
            if found.samples and m != text and rows.n and f"zeroshot/{a}/{m}/accuracy" not in scores:
                out.append(f"zero-shot of {a} from {m} is not measured: no sample with a class has a row of {m}")
    return out


def _retrieval(embeddings: Embeddings, scores: Scores) -> list[str]:
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
    """The first names for a line, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
