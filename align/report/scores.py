"""Headline numbers, the zero-shot table (attribute × modality), and every score by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from align.page.markup import Markup, join, name, number, tag
from align.page.svg import bar
from align.report.retrieval import first_metric, modalities, pairs

ZERO = re.compile(r"^zeroshot/(?P<attribute>.+)/(?P<modality>[^/]+)/(?P<metric>[^/]+)$")


def headline(scores: Mapping[str, float]) -> Markup:
    """Up to six tiles: the best modality of each attribute, and the mean recall over all ordered pairs."""
    tiles = []
    best: dict[str, tuple[float, str]] = {}
    for key, value in scores.items():
        m = ZERO.match(key)
        if m and m["metric"] == "accuracy":
            best[m["attribute"]] = max(best.get(m["attribute"], (-1.0, "")), (value, m["modality"]))
    for attribute, (value, modality) in best.items():
        chance = scores.get(f"zeroshot/{attribute}/{modality}/chance")
        note = f"chance {chance:.3f}" if chance is not None else ""
        tiles.append(_tile(f"{attribute} from {modality.replace('+', ' + ')}", value, "zero-shot accuracy", note))
    del tiles[4:]
    found = pairs(scores)
    for prefix in ("", "class/"):
        metric = first_metric([p.metric for p in found if p.prefix == prefix] or [""])
        row = [p for p in found if p.prefix == prefix and p.metric == metric and "+" not in p.of]
        if row and len(tiles) < 6:
            low = min(row, key=lambda p: p.value)
            what = metric if not prefix else f"class {metric}"
            of = f"mean of {len(row)} directions" if len(row) > 1 else f"{low.of} → {low.to}"
            note = f"lowest {low.value:.3f}, {low.of} → {low.to}" if len(row) > 1 else ""
            tiles.append(_tile(what, sum(p.value for p in row) / len(row), of, note))
    return tag("div", *tiles, class_="tiles") if tiles else Markup()


def _tile(what: str, value: float, about: str, note: str) -> Markup:
    return tag(
        "div",
        tag("div", number(value), class_="big"),
        tag("div", what, class_="what"),
        tag("div", about, tag("span", note) if note else "", class_="note"),
        class_="tile",
    )


def zeroshot(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> Markup:
    """Accuracy by attribute and modality, with a bar and a mark at chance."""
    found = {(m["attribute"], m["modality"], m["metric"]): v for k, v in scores.items() if (m := ZERO.match(k))}
    columns = modalities(m for _, m, metric in found if metric == "accuracy")
    attributes = list(dict.fromkeys(a for a, _, metric in found if metric == "accuracy"))
    if not attributes:
        return Markup()
    classes = protocol.get("classes") or {}
    rows = []
    for a in attributes:
        n = len(classes.get(a, ())) if isinstance(classes, Mapping) else 0
        cells, chances = [], []
        for m in columns:
            chance = found.get((a, m, "chance"), 1 / n if n else None)
            value = found.get((a, m, "accuracy"))
            if value is None:
                cells.append(tag("td", "–", class_="none"))
                continue
            chances += [chance] if chance is not None else []
            cells.append(tag("td", number(value), bar(value, chance)))
        told = _range(chances)
        rows.append(
            tag("tr", tag("th", a, tag("small", f"{n} classes") if n else "", scope="row"), *cells, tag("td", told))
        )
    head = tag(
        "tr",
        tag("th", "Attribute", scope="col"),
        *(tag("th", name(m), scope="col") for m in columns),
        tag("th", "Chance", scope="col"),
    )
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="zeroshot"), class_="scroll")


def _range(chances: Sequence[float]) -> Markup:
    if not chances:
        return Markup("–")
    low, high = min(chances), max(chances)
    return number(low) if f"{low:.3f}" == f"{high:.3f}" else join([number(low), "–", number(high)])


def everything(scores: Mapping[str, float]) -> Markup:
    """Each score by its name in results.json."""
    rows = [tag("tr", tag("th", key, scope="row"), tag("td", number(scores[key]))) for key in sorted(scores)]
    return tag("div", tag("table", tag("tbody", *rows), class_="plain"), class_="scroll")
