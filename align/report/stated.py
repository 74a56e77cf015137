"""TEMPORARY: zero-shot and retrieval Sections from the names of scores. Evaluators state their Sections themselves.

Delete this file, its two lines in ``page.py`` and its test as soon as they do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from align.page.heat import first_metric
from align.page.section import Bar, Bars, Matrix, Section, Tile

ZERO = re.compile(r"^zeroshot/(?P<attribute>.+)/(?P<modality>[^/]+)/(?P<metric>[^/]+)$")
PAIR = re.compile(r"^(?P<prefix>(?:[^/]+/)*)(?P<of>[^/]+?)_to_(?P<to>[^/]+)/(?P<metric>[^/]+)$")


def state_sections(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> list[Section]:
    """Return the Sections of zero-shot and of retrieval, without those that have no score."""
    return [section for section in (_zeroshot(scores, protocol), _retrieval(scores, protocol)) if section]


def _zeroshot(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> Section | None:
    found = {(m["attribute"], m["modality"], m["metric"]): v for k, v in scores.items() if (m := ZERO.match(k))}
    classes = protocol.get("classes") or {}
    number = {a: len(classes.get(a, ())) if isinstance(classes, Mapping) else 0 for a, _, _ in found}
    bars = [
        Bar(a, m, value, found.get((a, m, "chance"), 1 / number[a] if number[a] else None))
        for (a, m, metric), value in found.items()
        if metric == "accuracy"
    ]
    if not bars:
        return None
    tiles = []
    for a in dict.fromkeys(bar.row for bar in bars):
        best = max((bar for bar in bars if bar.row == a), key=lambda bar: (bar.value, bar.column))
        chance = found.get((a, best.column, "chance"))
        note = f"chance {chance:.3f}" if chance is not None else ""
        tiles.append(Tile(f"{a} from {best.column.replace('+', ' + ')}", best.value, "zero-shot accuracy", note))
    notes = {a: f"{n} classes" for a, n in number.items() if n}
    about = "Classes told by their names alone. The mark on a bar is chance."
    return Section("Zero-shot", about, [Bars("Attribute", "accuracy", bars, notes)], tiles)


def _retrieval(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> Section | None:
    found = [(m, value) for m, value in ((PAIR.match(key), value) for key, value in scores.items()) if m]
    if not found:
        return None
    blocks, tiles = [], []
    for prefix in sorted(dict.fromkeys(m["prefix"] for m, _ in found), key=lambda prefix: prefix.count("/")):
        metrics: dict[str, dict[tuple[str, str], float]] = {}
        for m, value in found:
            if m["prefix"] == prefix:
                metrics.setdefault(m["metric"], {})[m["of"], m["to"]] = value
        hit = "same " + (prefix.rstrip("/").rpartition("/")[2] or "object")
        blocks.append(Matrix(prefix, hit, hit, metrics))
        metric = first_metric(metrics)
        pairs = {pair: v for pair, v in metrics[metric].items() if "+" not in pair[0]}
        if pairs and prefix in ("", "class/"):
            (of, to), low = min(pairs.items(), key=lambda item: item[1])
            name = metric if not prefix else f"class {metric}"
            about = f"mean of {len(pairs)} directions" if len(pairs) > 1 else f"{of} → {to}"
            note = f"lowest {low:.3f}, {of} → {to}" if len(pairs) > 1 else ""
            tiles.append(Tile(name, sum(pairs.values()) / len(pairs), about, note))
    rule = str(protocol.get("hit rule") or "")
    about = "From every modality to every other." + (f" Hit: {rule}." if rule else "")
    return Section("Retrieval", about, blocks, tiles)
