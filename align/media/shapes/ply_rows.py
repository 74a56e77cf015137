"""Rows of a PLY: each element of the header as columns, from numbers in text or in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from align.media.shapes.part import cut
from align.values import BadSample

TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
}

Columns = dict[str, "np.ndarray | list[np.ndarray]"]
"""Name -> values: (n,) of a scalar, (n, k) of a list, or n arrays if its lengths differ."""


@dataclass
class Element:
    """Kind of rows in the file. properties: (name, type, type of a list's length or "")."""

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def lists(self) -> list[int]:
        """Indices of the properties that are lists."""
        return [i for i, (_, _, length) in enumerate(self.properties) if length]


def from_text(elements: list[Element], values: np.ndarray) -> dict[str, Columns]:
    """Return element -> columns, from all numbers of a text. Raises BadSample: points/truncated, corrupt."""
    at, found = 0, {}
    for element in (e for e in elements if e.properties and e.count):
        width = len(element.properties)
        rest = values[at:]
        if not element.lists:
            if len(rest) < element.count * width:
                raise cut(element.count, len(rest) // width, f"rows of {element.name!r}")
            rows = rest[: element.count * width].reshape(element.count, width)
            found[element.name] = {
                n: cast_column(rows[:, i], kind) for i, (n, kind, _) in enumerate(element.properties)
            }
            at += element.count * width
            continue
        columns, used = read_lists(element, rest)
        found[element.name] = columns
        at += used
    return found


def cast_column(column: np.ndarray, kind: str) -> np.ndarray:
    """Return a column in the header's type, which tells a colour's scale, or unchanged if that type cannot hold it."""
    cast = column.astype(kind)
    return cast if cast.dtype.kind == "f" or np.array_equal(cast, column) else column


def read_lists(element: Element, values: np.ndarray) -> tuple[Columns, int]:
    """Return (columns, count of numbers used) of an element with lists, from a text's numbers."""
    widths, at = [], 0
    for _, _, length in element.properties:  # sizes in the first row
        if length and at >= len(values):
            raise cut(element.count, 0, f"rows of {element.name!r}")
        widths.append(1 + size(values[at]) if length else 1)
        at += widths[-1]
    if element.count * at <= len(values):
        rows = values[: element.count * at].reshape(element.count, at)
        starts = np.cumsum([0, *widths[:-1]])
        if all((rows[:, starts[i]] == widths[i] - 1).all() for i in element.lists):
            columns: Columns = {}
            for (name, kind, length), start, width in zip(element.properties, starts, widths, strict=True):
                columns[name] = rows[:, start + 1 : start + width] if length else cast_column(rows[:, start], kind)
            return columns, element.count * at
    rows_of: dict[str, list[np.ndarray]] = {name: [] for name, _, _ in element.properties}
    at = 0
    for row in range(element.count):
        for name, _, length in element.properties:
            n = 1
            if length:
                n = size(values[at]) if at < len(values) else 0
                at += 1
            if at + n > len(values):
                raise cut(element.count, row, f"rows of {element.name!r}")
            rows_of[name].append(values[at : at + n])
            at += n
    return join_columns(element, rows_of), at


def size(value: float) -> int:
    """Return the length of a list. Raises BadSample for a number that is no length."""
    if not 0 <= value < 2**31:
        raise BadSample("points/corrupt", f"a list of {value:g} numbers")
    return int(value)


def from_binary(elements: list[Element], data: bytes, at: int, order: str) -> dict[str, Columns]:
    """Return element -> columns, from the bytes from ``at`` on. Raises BadSample: points/truncated, corrupt.
    order: of the bytes, "<" or ">"."""
    found: dict[str, Columns] = {}
    for element in (e for e in elements if e.properties and e.count):
        layout, lengths = [], {}
        start = at
        for i, (_, kind, length) in enumerate(element.properties):  # sizes in the first row
            if length:
                first = np.dtype(order + length)
                if start + first.itemsize > len(data):
                    raise cut(element.count, 0, f"rows of {element.name!r}")
                lengths[i] = size(float(np.frombuffer(data, first, 1, start)[0]))
                layout.append((f"n{i}", first))
                start += first.itemsize
            wide = np.dtype(order + kind)
            start += wide.itemsize * lengths.get(i, 1)
            if length and start > len(data):
                raise cut(element.count, 0, f"rows of {element.name!r}")
            layout.append((f"p{i}", wide, (lengths[i],) if length else ()))
        room = start - at  # bytes of a row
        if not element.lists and at + room * element.count > len(data):
            raise cut(element.count, (len(data) - at) // room, f"rows of {element.name!r}")
        if at + room * element.count <= len(data):
            rows = np.frombuffer(data, np.dtype(layout), element.count, at)
            if all((rows[f"n{i}"] == n).all() for i, n in lengths.items()):
                found[element.name] = {name: rows[f"p{i}"] for i, (name, _, _) in enumerate(element.properties)}
                at += room * element.count
                continue
        found[element.name], at = read_ragged(element, data, at, order)
    if len(data) - at > 1 and data[at:].strip():
        raise BadSample("points/corrupt", f"{len(data) - at} bytes follow the rows that its header names")
    return found


def read_ragged(element: Element, data: bytes, at: int, order: str) -> tuple[Columns, int]:
    """Return (columns, byte where the next element begins) of rows whose lists differ in length."""
    kinds = [
        (name, np.dtype(order + kind), np.dtype(order + length) if length else None)
        for name, kind, length in element.properties
    ]
    rows_of: dict[str, list[np.ndarray]] = {name: [] for name, _, _ in kinds}
    for row in range(element.count):
        for name, kind, length in kinds:
            n = 1
            if length is not None:
                n = size(float(np.frombuffer(data, length, 1, at)[0])) if at + length.itemsize <= len(data) else 0
                at += length.itemsize
            if at + n * kind.itemsize > len(data):
                raise cut(element.count, row, f"rows of {element.name!r}")
            rows_of[name].append(np.frombuffer(data, kind, n, at))
            at += n * kind.itemsize
    return join_columns(element, rows_of), at


def join_columns(element: Element, rows: dict[str, list[np.ndarray]]) -> Columns:
    """Return the rows of each list as they are, and those of each scalar as one column."""
    return {n: rows[n] if length else np.concatenate(rows[n]) for n, _, length in element.properties}
