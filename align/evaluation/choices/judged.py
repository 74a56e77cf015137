"""Judgements of people about three rows, read from a file of JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from align.evaluation.choices.sets import Task
from align.values import Embeddings

PLACES: dict[Task, tuple[str, str, str]] = {"2afc": ("reference", "a", "b"), "odd": ("a", "b", "c")}
ANSWERS: dict[Task, str] = {"2afc": "answer", "odd": "odd"}
FORMS = (
    '{"reference": "image:KEY", "a": "text:KEY", "b": "text:KEY", "answer": "a"} or '
    '{"a": "image:KEY", "b": "image:KEY", "c": "image:KEY", "odd": "c"}'
)


class Judgement(NamedTuple):
    """A judged set. modalities: of the three. rows: places in their tables. answer: the place of the answer."""

    task: Task
    modalities: tuple[str, ...]
    rows: tuple[int, ...]
    answer: int
    sample: int


def read_judgements(path: str | Path, table: Embeddings) -> tuple[list[Judgement], int]:
    """Return the sets of a file, and the number of those left out, as a sample lacks the modality.

    A line is ``{"reference": "image:KEY", "a": "text:KEY", "b": "text:KEY", "answer": "a"}`` for a two-alternative
    choice, or ``{"a": "image:KEY", "b": "image:KEY", "c": "image:KEY", "odd": "c"}``. Of several rows of a sample the
    first counts. Raises ValueError that names the line for another form, a modality or a key that is not there, and a
    key that several samples have.
    """
    samples = {key: i for i, key in reversed(list(enumerate(table.ids)))}
    several = {key for key, n in Counter(table.ids).items() if n > 1}
    first: dict[str, dict[int, int]] = {}
    for m, rows in table.items():
        places = first.setdefault(m, {})
        for i, sample in enumerate(rows.sample.tolist()):
            places.setdefault(sample, i)
    found, left = [], 0
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; a line is {FORMS}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        task, said, answer = _read(line, where)
        pairs = [_split(item, table, samples, several, where) for item in said]
        rows = [first[m].get(sample) for m, sample in pairs]
        if any(row is None for row in rows):
            left += 1
            continue
        places = tuple(row for row in rows if row is not None)
        found.append(Judgement(task, tuple(m for m, _ in pairs), places, answer, pairs[0][1]))
    if not found and not left:
        raise ValueError(f"{path} has no judgements; a line is {FORMS}")
    return found, left


def _read(line: str, where: str) -> tuple[Task, list[str], int]:
    """Return the task of a line, its three items and the place of the answer."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    for task, places in PLACES.items():
        key = ANSWERS[task]
        if (
            isinstance(said, dict)
            and set(said) == {*places, key}
            and all(isinstance(one, str) for one in said.values())
        ):
            if said[key] not in places[-2 if task == "2afc" else 0 :]:
                known = " or ".join(places[-2 if task == "2afc" else 0 :])
                raise ValueError(f"{where}: {key} is {said[key]!r}; it is {known}")
            return task, [said[place] for place in places], places.index(said[key])
    shown = line.strip() if len(line) < 80 else f"{line[:77].strip()}…"
    raise ValueError(f"{where}: no judgement: {shown!r}; a line is {FORMS}")


def _split(item: str, table: Embeddings, samples: dict[str, int], several: set[str], where: str) -> tuple[str, int]:
    """Return the modality and the sample of an item, "image:KEY"."""
    m, colon, key = item.partition(":")
    if not colon or m not in table:
        raise ValueError(
            f"{where}: {item!r} begins with no modality; there are {', '.join(sorted(table))}, as in image:KEY"
        )
    if key not in samples:
        raise ValueError(f"{where}: no sample has the key {key!r} of {item!r}; they are such as {table.ids[0]!r}")
    if key in several:
        raise ValueError(f"{where}: several samples have the key {key!r} of {item!r}; a judgement needs one")
    return m, samples[key]
