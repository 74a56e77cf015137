"""What made the numbers, in full: the protocol block, the bad data, and the facts of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.page.markup import Markup, table, tag


def protocol(about: Mapping[str, Any]) -> Markup:
    """Every entry of the protocol but the notes and the bad data; shards and other mappings as small tables."""
    entries = [(k, v) for k, v in about.items() if k not in ("bad", "notes") and v is not None]
    return tag("dl", *(x for k, v in entries for x in (tag("dt", k.replace("_", " ")), tag("dd", _value(k, v)))))


def notes(about: Mapping[str, Any]) -> Markup:
    """The protocol's notes as a list, nothing where there are none."""
    lines = about.get("notes") or ()
    return tag("ul", *(tag("li", line) for line in lines), class_="notes") if lines else Markup()


def _value(key: str, value: Any) -> Markup:
    if key == "command" and isinstance(value, str):
        return tag("pre", tag("code", value))
    if isinstance(value, Mapping):
        rows = [tag("tr", tag("th", k, scope="row"), tag("td", _value("", v))) for k, v in value.items()]
        return tag("div", tag("table", *rows, class_="plain"), class_="scroll") if rows else tag("span", "none")
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, Mapping) for v in value):
            return _records(value)
        return tag("span", ", ".join(map(str, value)) or "none")
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return tag("code", value)
    if isinstance(value, int) and not isinstance(value, bool) and key != "seed":
        return tag("span", f"{value:,}")
    return tag("span", value)


def _records(records: Any) -> Markup:
    columns = list(dict.fromkeys(k for record in records for k in record))
    return table([[_value("", record.get(c, "")) for c in columns] for record in records], columns)


def bad(found: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Counts by reason, a column for each time the data was read ("training", "evaluation")."""
    tables = {when: {k: v for k, v in counts.items() if isinstance(v, int) and v} for when, counts in found.items()}
    if not tables:
        return Markup()
    reasons = sorted({reason for counts in tables.values() for reason in counts})
    if not reasons:
        return tag("p", f"None: every sample and member that {' and '.join(tables)} read was good.", class_="fine")
    head = tag("tr", tag("th", "Reason", scope="col"), *(tag("th", when, scope="col") for when in tables))
    rows = [
        tag(
            "tr",
            tag("th", reason, scope="row"),
            *(tag("td", f"{counts.get(reason, 0):,}") for counts in tables.values()),
        )
        for reason in reasons
    ]
    total = tag(
        "tr",
        tag("th", "all", scope="row"),
        *(tag("td", f"{sum(c.values()):,}") for c in tables.values()),
        class_="total",
    )
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *rows, total), class_="plain counts"), class_="scroll"
    )


def summary(facts: Mapping[str, str]) -> Markup:
    """The facts of a run as a strip: name and value."""
    return (
        tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in facts.items()), class_="facts")
        if facts
        else Markup()
    )
