"""Descriptions of classes: whole texts that replace the templates for the labels that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

from align.evaluation.classes import list_attributes

Descriptions = Mapping[str, Sequence[str]] | Mapping[str, Mapping[str, Sequence[str]]]
"""Label -> texts, or attribute -> label -> texts."""

STATED = 1000  # texts that a protocol writes out


def resolve_descriptions(
    classes: Mapping[str, Mapping[str, Any]], descriptions: Descriptions | None, attribute: str | None = None
) -> dict[str, dict[str, list[str]]]:
    """Return attribute -> label -> its texts, of the labels that have some.

    classes: attribute -> label -> its name in prompts. Descriptions without an attribute are those of ``attribute``, or
    of the only one. Raises ValueError for an attribute and for a label that the classes do not have.
    """
    if not descriptions:
        return {}
    if not all(isinstance(value, Mapping) for value in descriptions.values()):
        if attribute is None and len(classes) == 1:
            attribute = next(iter(classes))
        if attribute is None:
            example = f'{{"{next(iter(classes), "NAME")}": {{"{next(iter(descriptions))}": […]}}}}'
            there = list_attributes(classes)
            raise ValueError(f"say which attribute these descriptions are of: {example}; the attributes are {there}")
        by_attribute: Mapping[str, Any] = {attribute: descriptions}
    else:
        by_attribute = descriptions
    found = {}
    for name, texts in by_attribute.items():
        if name not in classes:
            raise ValueError(f"descriptions for {name!r}, but the attributes are {list_attributes(classes)}")
        found[name] = check_descriptions(list(classes[name]), texts, name)
    return found


def check_descriptions(labels: Sequence[str], texts: Mapping[str, Any], attribute: str = "") -> dict[str, list[str]]:
    """Return label -> its texts. A single text is a list of one. attribute: for messages.

    Raises ValueError for a label that is no class, with the nearest, and for a label without a text.
    """
    found: dict[str, list[str]] = {}
    for key, value in texts.items():
        label = str(key)
        if label not in labels:
            close = get_close_matches(label, labels, n=1, cutoff=0.5)
            more = f" and {len(labels) - 8:,} more" if len(labels) > 8 else ""
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(labels[:8])}{more}"
            raise ValueError(f"descriptions of {label!r}, which is no class{attribute and f' of {attribute}'}; {hint}")
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, Sequence) or not listed or not all(isinstance(x, str) and x.strip() for x in listed):
            raise ValueError(f"the descriptions of {label!r} are a text or a list of texts; got {value!r}")
        found[label] = list(listed)
    return found


def state_descriptions(descriptions: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Any]:
    """Return the entry of a protocol: the texts, or their number and the SHA-256 of their JSON where they are many."""
    n = sum(len(texts) for labels in descriptions.values() for texts in labels.values())
    if n <= STATED:
        return {a: {label: list(texts) for label, texts in labels.items()} for a, labels in descriptions.items()}
    text = json.dumps(descriptions, sort_keys=True, ensure_ascii=False)
    counted = {a: {label: len(texts) for label, texts in labels.items()} for a, labels in descriptions.items()}
    return {"texts": counted, "sha256": sha256(text.encode()).hexdigest()}
