"""PCD, which depth cameras and the Point Cloud Library write: text, binary, or binary and compressed.

The viewpoint is ignored, because PCL's own reader leaves the points in the sensor's frame too. Format:
https://pointclouds.org/documentation/tutorials/pcd_file_format.html
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from align.media.shapes.lzf import inflate
from align.media.shapes.part import Part, cut, numbers, rgb
from align.values import BadSample

LIMIT = 2**29  # bytes of all points
KINDS = {"F": "f", "I": "i", "U": "u"}
SIZES = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}
SEPARATE = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass
class Header:
    """Header of a file: names, kinds and counts of the fields in order, and the number of points.
    form: of the data, which begin at byte ``start``."""

    names: list[str]
    kinds: list[np.dtype]
    counts: list[int]
    points: int
    form: str
    start: int

    @property
    def room(self) -> int:
        """Bytes of a point."""
        return sum(kind.itemsize * n for kind, n in zip(self.kinds, self.counts, strict=True))


def read_pcd(data: bytes) -> list[Part]:
    """Read the scan of a .pcd file: its points in the order of the file, NaN where the sensor saw nothing.

    Colours come from a packed ``rgb`` or ``rgba`` (a float or an integer of 32 bits), or from three fields. Raises
    BadSample: points/unreadable, too-large, truncated, corrupt.
    """
    header = read_header(data)
    total = header.points * header.room
    if total > LIMIT:
        raise BadSample("points/too-large", f"{header.points} points of {header.room} bytes, at most {LIMIT} are read")
    if header.form == "ascii":
        columns = from_text(header, data)
    elif header.form == "binary":
        if len(data) - header.start < total:
            raise cut(header.points, (len(data) - header.start) // header.room, "points")
        columns = from_rows(header, data)
    else:
        columns = from_compressed(header, data, total)
    if missing := [name for name in "xyz" if name not in columns]:
        raise BadSample("points/unreadable", f"no field {', '.join(missing)}; it has {', '.join(header.names)}")
    xyz = np.stack([columns[name].astype(np.float64) for name in "xyz"], axis=1)
    painted = colours(columns)
    if painted is not None and header.form == "ascii":  # a packed colour written as nan means no colour
        packed = columns.get("rgb", columns.get("rgba"))
        if packed is not None:
            painted[~np.isfinite(packed)] = np.nan
    return [Part(xyz, vertex_rgb=painted)]


def read_header(data: bytes) -> Header:
    """Read the header, up to the line DATA. Raises BadSample: points/unreadable, truncated, corrupt."""
    said: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in said:
        stop = data.find(b"\n", start)
        line = data[start : stop if stop >= 0 else len(data)][:4096].decode("latin-1").strip()
        if line and not line.startswith("#"):
            word, *rest = line.split()
            if not said and word not in ("VERSION", "FIELDS", "COLUMNS"):
                raise BadSample("points/unreadable", f"no PCD; it starts with {data[:12]!r}")
            said[word] = rest
        if stop < 0 or start > 65536:
            break
        start = stop + 1
    else:
        return parse_header(said, start)
    raise BadSample("points/truncated" if said else "points/unreadable", "its header has no end")


def parse_header(said: dict[str, list[str]], start: int) -> Header:
    """Return the header from its lines: word -> values. Raises BadSample: points/unreadable, corrupt."""
    try:
        names = [name.lower() for name in said.get("FIELDS") or said["COLUMNS"]]
        sizes = [int(size) for size in said["SIZE"]]
        counts = [int(n) for n in said.get("COUNT", ["1"] * len(names))]
        types = said.get("TYPE", ["F"] * len(names))
        width, height = int(said["WIDTH"][0]), int(said.get("HEIGHT", ["1"])[0])
        points = int(said.get("POINTS", [str(width * height)])[0])
        form = said["DATA"][0].lower()
    except (KeyError, IndexError, ValueError):
        raise BadSample("points/unreadable", "its header lacks FIELDS, SIZE, WIDTH or DATA, or has no number") from None
    if not len(names) == len(sizes) == len(types) == len(counts):
        many = f"{len(names)} fields, {len(sizes)} sizes, {len(types)} types, {len(counts)} counts"
        raise BadSample("points/unreadable", many)
    known = all(t in KINDS and s in SIZES[t] for t, s in zip(types, sizes, strict=True))
    if not known or min(width, height, points, *counts) < 0:
        raise BadSample("points/unreadable", f"types {' '.join(types)} of sizes {' '.join(map(str, sizes))}")
    if width * height != points:
        raise BadSample("points/corrupt", f"its header says {points} points and {width} x {height}")
    if form not in ("ascii", "binary", "binary_compressed"):
        raise BadSample("points/unreadable", f"its header says DATA {form}")
    kinds = [np.dtype(f"<{KINDS[t]}{s}") for t, s in zip(types, sizes, strict=True)]
    return Header(names, kinds, counts, points, form, start)


def from_text(header: Header, data: bytes) -> dict[str, np.ndarray]:
    """Return field -> values (P,) from text. Fields of several values are left out."""
    width = sum(header.counts)
    values = numbers(data[header.start :])
    if len(values) < width * header.points:
        raise cut(header.points, len(values) // max(width, 1), "points")
    rows = values[: width * header.points].reshape(header.points, width)
    starts = np.cumsum([0, *header.counts[:-1]])
    found = {}
    for name, kind, start, n in zip(header.names, header.kinds, starts, header.counts, strict=True):
        if n == 1:
            column = rows[:, start]
            found[name] = (column if kind.kind == "f" else np.nan_to_num(column)).astype(kind)
    return found


def from_rows(header: Header, data: bytes) -> dict[str, np.ndarray]:
    """Return field -> values (P,) from binary rows. Fields of several values are left out."""
    layout = [(f"{i}", kind, (n,)) for i, (kind, n) in enumerate(zip(header.kinds, header.counts, strict=True))]
    rows = np.frombuffer(data, np.dtype(layout), header.points, header.start)
    return {name: rows[f"{i}"][:, 0] for i, name in enumerate(header.names) if header.counts[i] == 1}


def from_compressed(header: Header, data: bytes, total: int) -> dict[str, np.ndarray]:
    """Return field -> values (P,) from compressed data, which hold all points of one field, then those of the next."""
    sizes = np.frombuffer(data[header.start : header.start + 8].ljust(8, b"\0"), "<u4")
    packed, size = int(sizes[0]), int(sizes[1])
    body = data[header.start + 8 : header.start + 8 + packed]
    if len(data) < header.start + 8 or len(body) < packed:
        raise BadSample("points/truncated", f"its header says {packed} bytes, {len(body)} are there")
    if size != total:
        raise BadSample("points/corrupt", f"{size} bytes are packed, {header.points} points take {total}")
    try:
        plain = inflate(body, size)
    except ValueError as error:
        raise BadSample("points/corrupt", f"its data do not unpack: {error}") from None
    found, at = {}, 0
    for name, kind, n in zip(header.names, header.kinds, header.counts, strict=True):
        if n == 1:
            found[name] = np.frombuffer(plain, kind, header.points, at)
        at += kind.itemsize * prod((n, header.points))
    return found


def colours(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return colours (P, 3) in [0, 1], or None.
    A packed colour is three bytes in a number of 32 bits: red the highest, below alpha."""
    for name in ("rgb", "rgba"):
        packed = columns.get(name)
        if packed is not None and packed.dtype.itemsize == 4:
            bits = np.ascontiguousarray(packed).view("<u4")
            return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1) / 255
    for names in SEPARATE:
        if all(name in columns for name in names):
            return rgb(np.stack([columns[name] for name in names], axis=1))
    return None
