"""A table with a column per modality, and the samples that its rows become."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.curation.members.files import Member, Sampling, from_bytes, from_captions, make_member, readable, suffix_of
from align.curation.members.planned import Planned
from align.curation.sources.readers import read_table
from align.data.meta import read_meta
from align.data.names import TEXT, check_key
from align.media import MEDIA, Media

MODALITIES = tuple(medium.modality for medium in MEDIA if medium.modality)  # image, audio, points, text
ABOUT = ("label", "group", "weight", "key", "regions")
FITS = {
    "label": "a label is an int, a str, a list of these, or a dict of attribute to one of these",
    "weight": "a weight is a finite number of at least 0",
}
_slot = re.compile(r"(?P<modality>[a-z0-9_-]+)((\.neg)?(\.\d+)?)")


class Table:
    """A table with a column per modality, as a source of samples.

    Args:
        path: the table. File names in it are relative to its folder.
        modalities: the columns that are modalities, beside ``NAME.0``, ``NAME.neg``, … of each.
        columns: other name -> column ("" leaves a column out).
        literal: modalities whose cells are text, not files.
        sampling: of meshes.
        rows: taken in place of the file's rows. They are read once.
        group: the column whose equal cells make a group. It may be a modality too.
        separator: of the cells of a .csv or .tsv.
        media: that files are read by.
    """

    def __init__(
        self,
        path: Path,
        *,
        modalities: Sequence[str] = MODALITIES,
        columns: Mapping[str, str] | None = None,
        literal: Sequence[str] = ("text",),
        sampling: Sampling = Sampling(),
        rows: Iterable[dict[str, Any]] | None = None,
        group: str | None = None,
        separator: str | None = None,
        media: Media = MEDIA,
    ):
        self.group, self.separator = group, separator
        self.rows = rows
        self.path, self.modalities, self.columns, self.literal = path, tuple(modalities), dict(columns or {}), literal
        self.sampling, self.media = sampling, media
        self.without = 0  # rows without any modality
        self._known: set[str] = set()

    def samples(self) -> Iterator[Planned]:
        """Plan the sample of each row. Files are looked for, not read. Errors name the row."""
        self.without = 0
        self._known.clear()
        seen: dict[str, int] = {}
        number = 0
        for number, row in enumerate(self._rows(), 1):
            try:
                planned = self._plan(number, self._rename(row))
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{self.path} row {number}: {error}") from None
            except ValueError as error:
                raise ValueError(f"{self.path} row {number}: {error}") from None
            if planned is None:
                self.without += 1
                continue
            if planned.key in seen:
                raise ValueError(f"{self.path} row {number}: key {planned.key!r} is that of row {seen[planned.key]}")
            seen[planned.key] = number
            yield planned
        if number == 0:
            raise ValueError(f"{self.path} has no rows")
        unused = sorted({*self.columns, *([] if self.group is None else [self.group])} - self._known)
        if unused:
            raise ValueError(
                f"{self.path} has no column {', '.join(map(repr, unused))}; it has {', '.join(sorted(self._known))}"
            )

    def _rows(self) -> Iterable[dict[str, Any]]:
        return read_table(self.path, self.separator) if self.rows is None else self.rows

    def _rename(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row under the names that mean something."""
        self._known |= set(row)
        named = {self.columns.get(name, name): cell for name, cell in row.items() if self.columns.get(name, name)}
        if self.group is not None and self.group in row:
            if self._modality(self.group) is None and self.group.partition(".")[0] not in ABOUT:
                named.pop(self.group, None)
            named["group"] = row[self.group]
        unknown = [name for name in named if self._modality(name) is None and name.partition(".")[0] not in ABOUT]
        if unknown:
            known = ", ".join([*self.modalities, *ABOUT])
            names = ", ".join(map(repr, unknown))
            raise ValueError(
                f"unknown column {names}; known are {known}. Say what it is with --columns {unknown[0]}=text "
                f"(or =image, …; `{unknown[0]}=` leaves it out), or add it to --modalities"
            )
        if not any(self._modality(name) for name in named):
            raise ValueError(f"no column of a modality ({', '.join(self.modalities)}); there are {', '.join(row)}")
        return named

    def _modality(self, column: str) -> str | None:
        slot = _slot.fullmatch(column)
        return slot["modality"] if slot is not None and slot["modality"] in self.modalities else None

    def _plan(self, number: int, row: dict[str, Any]) -> Planned | None:
        key = f"{number - 1:08d}" if _empty(row.get("key")) else str(row["key"])
        check_key(key)
        members: list[Member] = []
        for column, cell in row.items():
            modality = self._modality(column)
            if modality is None or _empty(cell):
                continue
            if modality in self.literal:
                caption = from_captions(f"{column}.{TEXT}", cell)
                members += [] if caption is None else [caption]
                continue
            cells = cell if isinstance(cell, list) else [cell]
            slots = [column] if len(cells) == 1 else [f"{column}.{i}" for i in range(len(cells))]
            for slot, one in zip(slots, cells, strict=True):
                members.append(self._media(slot, one, key))
        if not members:
            return None
        about = {name: cell for name, cell in row.items() if self._modality(name) is None and not _empty(cell)}
        stated = _about(about)
        if stated:
            content = json.dumps(stated, ensure_ascii=False).encode()
            for reason in read_meta({"json": content}, {})[1]:
                name = reason.removeprefix("json/")
                raise ValueError(f"{name} {stated[name]!r}: {FITS[name]}")
            members.append(from_bytes("json", content))
        return Planned(key, members)

    def _media(self, slot: str, cell: Any, key: str) -> Member:
        if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes):  # as Hugging Face's tables hold files
            suffix, known = suffix_of(Path(str(cell.get("path") or ""))), readable(slot.partition(".")[0], self.media)
            if (known is not None and suffix not in known) or not suffix.isalnum():
                raise ValueError(
                    f"the bytes in column {slot!r} need a `path` whose suffix says what they are; got {suffix!r}"
                )
            return from_bytes(f"{slot}.{suffix}", cell["bytes"])
        if not isinstance(cell, str):
            raise ValueError(
                f"column {slot!r} holds a {type(cell).__name__}; it takes the name of a file, or {{'bytes': …, 'path': "
                "'NAME.SUFFIX'} (a program can also give whole samples: (key, {'image.png': …}))"
            )
        path, within = self.path.parent / cell.strip(), self.path.parent
        return make_member(slot, path, key, self.sampling, _around(path, within), self.media)


def _around(path: Path, folder: Path) -> Path | None:
    """Return the table's folder for a file in it, or None."""
    return folder if path.absolute().is_relative_to(folder.absolute()) else None


def _regions(cell: Any) -> list[Any]:
    """Return the regions in a cell: a list, or its JSON."""
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"regions {str(cell)[:60]!r} are no list of {{box, text}}, {{pixels, text}} or {{mask, text}}")
    return found


def _empty(cell: Any) -> bool:
    return (
        cell is None
        or cell == []
        or (isinstance(cell, str) and not cell.strip())
        or (isinstance(cell, float) and cell != cell)
    )


def _about(cells: dict[str, Any]) -> dict[str, Any]:
    """Return label, group and weight. ``label.shape`` is the attribute "shape" of the label."""
    out: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, cell in cells.items():
        base, _, attribute = name.partition(".")
        if name == "key":
            continue
        if base == "label" and attribute:
            attributes[attribute] = cell
        elif attribute:
            raise ValueError(f"column {name!r}: only a label has attributes, such as label.shape")
        elif base == "regions":
            out["regions"] = _regions(cell)
        elif base == "weight":
            try:
                out["weight"] = float(cell)
            except (TypeError, ValueError):
                raise ValueError(f"weight {cell!r} is not a number") from None
        else:
            out[base] = cell
    if attributes and not isinstance(plain := out.setdefault("label", {}), dict):
        raise ValueError(f"label is {plain!r} and has attributes too ({', '.join(attributes)}); keep one or the other")
    return {**out, "label": {**out["label"], **attributes}} if attributes else out
