"""The facts of a soup beside its weights: trained terms, origins and licences, and the towers of fitted heads."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from align.soup.ingredients import Ingredient


def merge_terms(ingredients: Sequence[Ingredient], weights: Sequence[float]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the trained terms that all models have, and a line for those that only some have.

    The scale of a term is averaged as its logarithm, the parameter that is trained: it is the weighted geometric mean.
    The bias is the weighted mean.
    """
    tables = [_by_kind(one.about.get("terms", [])) for one in ingredients]
    merged = []
    for key in tables[0]:
        if not all(key in table for table in tables):
            continue
        same = [table[key] for table in tables]
        scales = [float(term["scale"]) for term in same]
        scale = math.exp(sum(w * math.log(x) for w, x in zip(weights, scales, strict=True) if w))
        bias = sum(w * term.get("bias", 0.0) for w, term in zip(weights, same, strict=True) if w)
        merged.append({**same[0], "scale": scales[0] if len({*scales}) == 1 else scale, "bias": bias})
    known = dict.fromkeys(key for table in tables for key in table)
    lost = [key for key in known if not all(key in table for table in tables)]
    return merged, [f"not all models have the term {kind} of {', '.join(m)}: the soup has none" for m, kind, _ in lost]


def _by_kind(terms: Sequence[Mapping[str, Any]]) -> dict[tuple[tuple[str, ...], str, int], Mapping[str, Any]]:
    """Return (modalities, kind, place among those of one kind) -> term."""
    found: dict[tuple[tuple[str, ...], str, int], Mapping[str, Any]] = {}
    for term in terms:
        kind = (tuple(term["modalities"]), str(term["kind"]))
        found[(*kind, sum(key[:2] == kind for key in found))] = term
    return found


def merge_parts(ingredients: Sequence[Ingredient], changed: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return ``image.encoder`` -> its origin. changed: names of the weights that differ between the models.

    A part that began from other published weights in each model names all of them, with their licences.
    """
    merged = {}
    for part in dict.fromkeys(part for one in ingredients for part in one.about.get("parts", {})):
        known = [origin for one in ingredients if (origin := one.about.get("parts", {}).get(part)) is not None]
        one = {
            name: " + ".join(dict.fromkeys(str(origin.get(name, "unstated")) for origin in known))
            for name in ("source", "sha256", "licence")
        }
        moved = any(name.startswith(f"towers.{part}.") for name in changed)
        also = any(origin.get("changed", False) for origin in known) or len(known) < len(ingredients)
        merged[part] = {**one, "changed": moved or also}
    return merged


def merge_heads(ingredients: Sequence[Ingredient]) -> dict[str, dict[str, Any]]:
    """Return modality -> the origin of the cached features that its heads were fitted on.

    Raises ValueError for heads that were fitted on features of two towers: no tower fits their average.
    """
    first, merged = ingredients[0], {}
    for m in dict.fromkeys(m for one in ingredients for m in one.about.get("heads", {})):
        for one in ingredients:
            ours, theirs = (about.get("heads", {}).get(m, {}) for about in (first.about, one.about))
            if any(ours.get(name) != theirs.get(name) for name in ("weights", "preprocess")):
                pair = f"{first.name} and {one.name}"
                raise ValueError(f"{pair} have heads of {m} that were fitted on the features of two towers")
        merged[m] = first.about["heads"][m]
    return merged
