"""The matrix of ordered pairs: how well each modality finds each other one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from align.page.markup import Markup, choice, name, number, tag

PAIR = re.compile(r"^(?P<prefix>(?:[^/]+/)*)(?P<of>[^/]+?)_to_(?P<to>[^/]+)/(?P<metric>[^/]+)$")
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
