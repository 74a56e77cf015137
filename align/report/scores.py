"""The scores as tables: headline numbers, zero-shot (attribute × modality), and the matrix of ordered pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from align.report.markup import Markup, join, name, number, tag

PAIR = re.compile(r"^(?P<prefix>(?:[^/]+/)*)(?P<of>[^/]+?)_to_(?P<to>[^/]+)/(?P<metric>[^/]+)$")
ZERO = re.compile(r"^zeroshot/(?P<attribute>.+)/(?P<modality>[^/]+)/(?P<metric>[^/]+)$")
LEVELS = 20  # colours of the heat map, as page.css has them


class Pair(NamedTuple):
    """A score between an ordered pair. prefix: "" or what counts as a hit there, such as "class/" or "class/shape/"."""

    prefix: str
    of: str
    to: str
    metric: str
    value: float


def pairs(scores: Mapping[str, float]) -> list[Pair]:
    """All scores named ``[PREFIX/]A_to_B/METRIC``."""
    found = [(PAIR.match(key), value) for key, value in scores.items()]
    return [Pair(m["prefix"], m["of"], m["to"], m["metric"], value) for m, value in found if m]


def modalities(names: Iterable[str]) -> list[str]:
    """Each once, in alphabetic order, composed ones ("audio+image") last."""
    return sorted(set(names), key=lambda m: (m.count("+"), m))


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


def bar(value: float, chance: float | None) -> Markup:
    """A bar of `value` in [0,1], with a mark at `chance`."""
    fill = tag("rect", width=f"{100 * min(1.0, max(0.0, value)):.1f}", height=6, class_="fill")
    mark = (
        tag("rect", x=f"{100 * chance - 0.6:.1f}", width=1.2, height=6, class_="chance") if chance is not None else ""
    )
    track = tag("rect", width=100, height=6, class_="track")
    return tag(
        "svg", track, fill, mark, class_="bar", viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true"
    )


def first_metric(metrics: Iterable[str]) -> str:
    """What is shown first: recall@10 if it was measured, else the recall with the largest k, else the last one."""
    seen = list(dict.fromkeys(metrics))
    recalls = sorted((m for m in seen if m.startswith("recall@")), key=lambda m: int(m.rsplit("@")[-1]))
    return "recall@10" if "recall@10" in seen else (recalls or seen)[-1]


def _hit(prefix: str) -> str:
    """The prefix in words: "" -> same object, "class/" -> same class, "class/shape/" -> same shape."""
    parts = [p for p in prefix.split("/") if p]
    return "same object" if not parts else f"same {parts[-1]}"


def matrix(scores: Mapping[str, float], linked: set[tuple[str, str]]) -> Markup:
    """A heat map query × answer for each metric and each meaning of a hit, one of them shown.

    linked: pairs that the gallery has; their cells lead there.
    """
    found = pairs(scores)
    if not found:
        return Markup()
    prefixes = sorted(dict.fromkeys(p.prefix for p in found), key=lambda p: p.count("/"))
    panels, start = [], first_metric(p.metric for p in found if p.prefix == prefixes[0])
    for prefix in prefixes:
        for metric in dict.fromkeys(p.metric for p in found if p.prefix == prefix):
            cells = {(p.of, p.to): p.value for p in found if p.prefix == prefix and p.metric == metric}
            hidden = (prefix, metric) != (prefixes[0], start)
            panels.append(
                tag(
                    "div",
                    _heat(cells, metric, linked),
                    class_="scroll",
                    data_hit=prefix,
                    data_metric=metric,
                    hidden=hidden,
                )
            )
    metrics = list(dict.fromkeys(p.metric for p in found))
    controls = [choice("metric", "Metric", [(m, m.replace("_", " "), None) for m in metrics], start)]
    if len(prefixes) > 1:
        controls.append(choice("hit", "Counts as a hit", [(p, _hit(p), None) for p in prefixes], prefixes[0]))
    return tag("div", tag("div", *controls, class_="controls"), *panels, class_="matrix", id="matrix")


def choice(key: str, legend: str, options: Sequence[tuple[str, str, Markup | None]], chosen: str) -> Markup:
    """A row of buttons of which one is down: radio buttons, so that the arrow keys work. Options: value, text, icon."""
    buttons = [
        tag("label", tag("input", type="radio", name=key, value=v, checked=v == chosen), tag("span", drawn or "", text))
        for v, text, drawn in options
    ]
    return tag("fieldset", tag("legend", legend), tag("div", *buttons), class_="choice")


def _heat(cells: Mapping[tuple[str, str], float], metric: str, linked: set[tuple[str, str]]) -> Markup:
    rows, columns = modalities(of for of, _ in cells), modalities(to for _, to in cells)
    heated = all(0 <= v <= 1 for v in cells.values()) and "rank" not in metric.replace("reciprocal_rank", "")
    body = []
    for of in rows:
        row = []
        for to in columns:
            value = cells.get((of, to))
            if value is None:
                row.append(tag("td", class_="self"))
                continue
            inside = (
                tag("a", number(value), href=f"#{of}_to_{to}", title=f"see {of} → {to}")
                if (of, to) in linked
                else number(value)
            )
            row.append(tag("td", inside, class_=f"h h{round(LEVELS * value)}" if heated else "h"))
        mean = [v for (a, _), v in cells.items() if a == of]
        body.append(
            tag("tr", tag("th", name(of), scope="row"), *row, tag("td", number(sum(mean) / len(mean)), class_="mean"))
        )
    head = [
        tag("td", tag("small", "query ↓ answer →")),
        *(tag("th", name(to), scope="col") for to in columns),
        tag("th", "mean", scope="col"),
    ]
    foot = []
    for to in columns:
        mean = [v for (_, b), v in cells.items() if b == to]
        foot.append(tag("td", number(sum(mean) / len(mean)), class_="mean"))
    foot = tag(
        "tr", tag("th", "mean", scope="row"), *foot, tag("td", number(sum(cells.values()) / len(cells)), class_="mean")
    )
    return tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body, foot), class_="heat")


def everything(scores: Mapping[str, float]) -> Markup:
    """Each score by its name in results.json."""
    rows = [tag("tr", tag("th", key, scope="row"), tag("td", number(scores[key]))) for key in sorted(scores)]
    return tag("div", tag("table", tag("tbody", *rows), class_="plain"), class_="scroll")
