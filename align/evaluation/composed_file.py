"""Files of composed queries: a reference, the text of a change, and the samples that are right."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

KEYS = ("reference", "text", "before", "targets", "subset")


class ComposedQuery(NamedTuple):
    """One query of a reference sample and a text.

    reference: key of its sample. text: the wanted change, or a caption of the target ("a wooden cone"). targets: keys
    of the right samples. subset: keys of a small gallery for this query, () for none. before: a caption of the
    reference ("a metal cone"), by which the text is the end of a direction.
    """

    reference: str
    text: str
    targets: Sequence[str]
    subset: Sequence[str] = ()
    before: str | None = None


def read_composed(path: str | Path) -> list[ComposedQuery]:
    """Return the queries of a JSON-lines file, one object with the names of ``ComposedQuery`` a line.

    Raises ValueError with the number of the line for one that is no such object, and for a file that is not there or
    has no query.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {path}; it has an object a line, with reference, text and targets")
    queries = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                queries.append(_read_query(json.loads(line)))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    if not queries:
        raise ValueError(f"{path} has no query; a line is {{'reference': KEY, 'text': ..., 'targets': [KEY, ...]}}")
    return queries


def write_composed(path: str | Path, queries: Collection[ComposedQuery]) -> None:
    """Write a file that ``read_composed`` reads."""
    rows = [{name: x for name, x in query._asdict().items() if x not in (None, (), [])} for query in queries]
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def check_keys(queries: Sequence[ComposedQuery], known: Sequence[str]) -> None:
    """Raise ValueError for a query whose keys are not those of exactly one sample each."""
    count: dict[str, int] = {}
    for key in known:
        count[key] = count.get(key, 0) + 1
    for number, query in enumerate(queries, 1):
        for name, keys in (("reference", [query.reference]), ("target", query.targets), ("subset", query.subset)):
            for key in keys:
                if count.get(key, 0) == 1:
                    continue
                close = get_close_matches(key, count, n=1, cutoff=0.8)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                found = f"is the key of {count[key]} samples" if key in count else f"is the key of no sample{hint}"
                raise ValueError(f"composed query {number}: the {name} {key!r} {found}")


def _read_query(line: Any) -> ComposedQuery:
    if not isinstance(line, dict) or not set(line) <= set(KEYS):
        odd = f"it has {', '.join(sorted(set(line) - set(KEYS)))}" if isinstance(line, dict) else f"got {line!r}"
        raise ValueError(f"a query is an object of {', '.join(KEYS)}; {odd}")
    for name in ("reference", "text"):
        if not isinstance(line.get(name), str) or not line[name]:
            raise ValueError(f"{name} is a text; got {line.get(name)!r}")
    before = line.get("before")
    if before is not None and (not isinstance(before, str) or not before):
        raise ValueError(f"before is a text; got {before!r}")
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("targets", "subset"):
        keys = line.get(name, [])
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"{name} is a list of keys; got {keys!r}")
        lists[name] = tuple(dict.fromkeys(keys))
    if not set(lists["targets"]) - {line["reference"]}:
        raise ValueError("a query needs a target beside its reference; it has none")
    return ComposedQuery(line["reference"], line["text"], lists["targets"], lists["subset"], before)
