"""Classes that an evaluation asks about: those of the shards, or those that the user gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from align.evaluation.labels import memberships, values_of
from align.evaluation.prompts import Word, default_templates, names_of

Names = Sequence[str] | Mapping[str, Word]
"""Labels, or label -> its name in prompts, or its names: synonyms, all of which are asked with."""

Classes = Mapping[str, Names] | Names
"""Attribute -> names, or the names of one attribute."""

Templates = Mapping[str, Sequence[str]] | Sequence[str]


def resolve_classes(
    known: Mapping[str, Sequence[str]], classes: Classes | None, attribute: str | None = None
) -> dict[str, dict[str, Word]]:
    """Return attribute -> label -> its name in prompts, or a list of its names.

    known: attribute -> labels of the shards. classes: asked instead of them. Classes without an attribute are those of
    ``attribute``, or of the only one. A mapping to lists is by attribute where one of its keys is an attribute, and by
    label where one is a label. Raises ValueError for an attribute that the shards do not have, and for a name that
    comes twice.
    """
    if attribute is not None and attribute not in known:
        raise ValueError(f"the shards have no attribute {attribute!r}; they have {list_attributes(known)}")
    if classes is None:
        return {a: {str(c): str(c) for c in names} for a, names in known.items()}
    if not (isinstance(classes, Mapping) and _is_by_attribute(classes, known)):
        if attribute is None and len(known) == 1:
            attribute = next(iter(known))
        if attribute is None:
            example = f'{{"{next(iter(known), "NAME")}": …}}'
            there = list_attributes(known)
            raise ValueError(f"say which attribute these classes are of: {example}; the shards have {there}")
        classes = {attribute: classes}  # pyright: ignore[reportAssignmentType]
    assert isinstance(classes, Mapping)
    unknown = sorted(set(classes) - set(known))
    if unknown:
        raise ValueError(f"the shards have no attribute {unknown[0]!r}; they have {list_attributes(known)}")
    return {name: _by_label(name, names) for name, names in classes.items()}


def _is_by_attribute(classes: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> bool:
    values = classes.values()
    if any(isinstance(value, str) for value in values) or any(isinstance(value, Mapping) for value in values):
        return not any(isinstance(value, str) for value in values)
    labels = {str(label) for names in known.values() for label in names}
    return bool(set(classes) & set(known)) or not set(map(str, classes)) & labels


def _by_label(attribute: str, names: Any) -> dict[str, Word]:
    if isinstance(names, Mapping):
        return {str(label): _word(attribute, str(label), word) for label, word in names.items()}
    if isinstance(names, str):
        raise TypeError(f"the classes of {attribute} are a list, [{names!r}, …], or label -> name in prompts")
    labels = [str(name) for name in names]
    if len(set(labels)) < len(labels):
        twice = next(name for name in labels if labels.count(name) > 1)
        raise ValueError(f"the classes of {attribute} name {twice!r} twice: equal candidates tie, ties never help")
    return {label: label for label in labels}


def _word(attribute: str, label: str, word: Any) -> Word:
    if isinstance(word, str) or not isinstance(word, Sequence):
        return str(word)
    names = names_of(word)
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        says = "no name" if twice is None else f"the name {twice!r} twice"
        raise ValueError(f"the class {label!r} of {attribute} has {says}; give its names in prompts, each one time")
    return names[0] if len(names) == 1 else names


def resolve_templates(classes: Mapping[str, Any], templates: Templates | None) -> dict[str, list[str]]:
    """Return attribute -> its templates. Raises TypeError for a single string, ValueError for an unknown attribute."""
    if isinstance(templates, str):
        raise TypeError(f"templates are a list: [{templates!r}]")
    if not isinstance(templates, Mapping):
        return {name: list(templates or default_templates) for name in classes}
    unknown = sorted(set(templates) - set(classes))
    if unknown:
        raise ValueError(f"templates for {unknown[0]!r}, but the attributes are {list_attributes(classes)}")
    for name, some in templates.items():
        if isinstance(some, str):
            raise TypeError(f"templates of {name} are a list: [{some!r}]")
    return {name: list(templates.get(name, default_templates)) for name in classes}


class LabelCounts(NamedTuple):
    """Counts of an attribute's samples: with a class, without a label, with labels of no class."""

    samples: int
    unlabelled: int
    outside: int
    others: dict[str, int]  # label outside the classes -> how many samples have it, the most frequent first
    absent: list[str]  # classes that no sample has


def count_labels(labels: Sequence[Any], attribute: str, classes: Sequence[str]) -> LabelCounts:
    """Count the samples that have a class of the attribute, and name the labels of the others."""
    table = memberships(labels, attribute, classes)
    has = table.any(dim=1).tolist()
    others: Counter[str] = Counter()
    unlabelled = outside = 0
    for label, known in zip(labels, has, strict=True):
        values = values_of(label, attribute)
        if not known and values:
            outside += 1
            others.update({str(value) for value in values})
        elif not known:
            unlabelled += 1
    absent = [str(c) for c, there in zip(classes, table.any(dim=0).tolist(), strict=True) if not there]
    return LabelCounts(sum(has), unlabelled, outside, dict(others.most_common()), absent)


def list_attributes(names: Mapping[str, Any]) -> str:
    """Return the attributes for a message."""
    return ", ".join(names) or "none (no labels)"
