"""Tables of suites: a row a model, a column a set, and published numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.evaluation.suites.rows import Row
from align.evaluation.suites.sets import SUITES, EvalSet, Published
from align.page.section import Measured, Section, Table

MARK = "†"
NOTE = (
    "A row a model, a column a set, with the interval of 95 %. Published numbers stand below ours. "
    f"{MARK}: the protocol is another one, and the table of published numbers says how."
)


def build_sections(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> list[Section]:
    """Return a section for each suite that has a number or a set that is left out.

    Its tables are the headline scores, the sets that have no number (with the way to get them), all shown scores, and
    the published numbers with their protocol and source.
    """
    out = []
    for suite in SUITES:
        some = [one for one in sets if one.suite == suite]
        there = [one for one in some if any(one.name in row.sets for row in rows.values())]
        tables = [
            _list_headlines(there, rows),
            _list_left(some, rows),
            _list_scores(there, rows),
            _list_published(there, rows),
        ]
        tables = [table for table in tables if table.rows]
        if tables:
            out.append(Section(f"Suite: {suite}", NOTE, tables))
    return out


def differences(of: EvalSet, published: Published, rows: Mapping[str, Row]) -> list[str]:
    """Return the ways in which a published number's protocol is not that of ours, none where it is the same."""
    ours = [line for row in rows.values() for line in row.sets.get(of.name, {}).get("differs", ())]
    return list(dict.fromkeys([*([published.note] if published.note else []), *(f"ours: {line}" for line in ours)]))


def _list_headlines(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> Table:
    head = ["model", *(one.title if one.unit == "top-1" else f"{one.title}, {one.unit}" for one in sets)]
    body: list[list[str | float | Measured]] = [
        [name, *(_find_cell(row, one, one.score) for one in sets)] for name, row in rows.items()
    ]
    if not sets:
        return Table(head, [])
    models = dict.fromkeys(published.model for one in sets for published in one.published)
    for model in models:
        body.append([f"{model} (published)", *(_write_published(one, model, rows) for one in sets)])
    body.append(["chance", *(float(one.chance) for one in sets)])
    return Table(head, [row for row in body if any(cell != "" for cell in row[1:])])


def _find_cell(row: Row, of: EvalSet, score: str) -> str | Measured:
    """Return a model's number with its interval, "" where it has none."""
    if of.name not in row.sets:
        return ""
    name = f"{of.name}/{score.replace('{attribute}', row.sets[of.name]['attribute'])}"
    return Measured(row.scores[name], row.intervals.get(name)) if name in row.scores else ""


def _write_published(of: EvalSet, model: str, rows: Mapping[str, Row]) -> str | float:
    for one in of.published:
        if one.model == model and of.score in one.scores:
            value = one.scores[of.score]
            return f"{value:.3f} {MARK}" if differences(of, one, rows) else value
    return ""


def _list_left(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> Table:
    """Return the sets without a number. Those of one model that are left out for one reason share a line."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in sets:
        for name, row in rows.items():
            if one.name in row.left:
                about = row.left[one.name]
                found.setdefault((name, about["why"], about["get"]), []).append(one.title)
    body = [[", ".join(titles), *about] for about, titles in found.items()]
    return Table(["left out", "model", "why", "how to get it"], body, 4, "Sets without a number")


def _list_scores(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> Table:
    body: list[list[str | float | Measured]] = []
    rows = {name: row for name, row in rows.items() if any(one.name in row.sets for one in sets)}
    for one in sets:
        for score in one.shown:
            cells = [_find_cell(row, one, score) for row in rows.values()]
            if any(cells):
                body.append([one.title, score.replace("{attribute}", one.attribute), *cells])
    return Table(["set", "score", *rows], body, 2, "All scores")


def _list_published(sets: Sequence[EvalSet], rows: Mapping[str, Row]) -> Table:
    body: list[list[str | float]] = []
    for one in sets:
        for published in one.published:
            same = "; ".join(differences(one, published, rows)) or "the same"
            for score, value in published.scores.items():
                name = score.replace("{attribute}", one.attribute)
                body.append([one.title, name, published.model, same, published.source, float(value)])
    return Table(["set", "score", "model", "protocol", "source", "published"], body, 5, "Published numbers")
