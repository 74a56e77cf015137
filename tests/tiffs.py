"""A TIFF of any array, byte for byte: what PIL does not write (signed, big-endian, WhiteIsZero, tiles, statements)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FORM = {"u": 1, "b": 1, "i": 2, "f": 3}
CODES = {"H": 3, "I": 4, "f": 11, "d": 12, "h": 8, "i": 9, "s": 2, "Q": 16}


def tiff(
    array: np.ndarray,
    *,
    order: str = "<",
    big: bool = False,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    deflate: bool = False,
    planes: bool = False,
    tags: Mapping[int, tuple[str, Any]] | None = None,
    pages: int = 1,
    last: bool = False,
) -> bytes:
    """array: (H, W) or (H, W, S). rows: of a strip. tile: its height and width. tags: tag -> (type, values), over the
    plain ones. last: directories behind the pixels, as libtiff writes them."""
    H, W, *rest = array.shape
    S = rest[0] if rest else 1
    data = array.astype(array.dtype.newbyteorder(order))
    layers = [data[..., s] for s in range(S)] if planes else [data]
    pieces = []
    for layer in layers:
        if tile:
            h, w = tile
            room = np.zeros((-(-H // h) * h, -(-W // w) * w, *layer.shape[2:]), data.dtype)
            room[:H, :W] = layer
            pieces += [room[y : y + h, x : x + w].tobytes() for y in range(0, H, h) for x in range(0, W, w)]
        else:
            pieces += [layer[y : y + (rows or H)].tobytes() for y in range(0, H, rows or H)]
    pieces = [zlib.compress(piece) for piece in pieces] if deflate else pieces
    found = {
        256: ("I", [W]),
        257: ("I", [H]),
        258: ("H", [8 * array.dtype.itemsize] * S),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [2 if S >= 3 else 1]),
        277: ("H", [S]),
        284: ("H", [2 if planes else 1]),
        339: ("H", [FORM[array.dtype.kind]] * S),
    }
    where, length = (324, 325) if tile else (273, 279)
    found |= {322: ("I", [tile[1]]), 323: ("I", [tile[0]])} if tile else {278: ("I", [rows or H])}
    found |= {where: ("I", [0] * len(pieces)), length: ("I", [len(piece) for piece in pieces])} | dict(tags or {})
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if big else "HI"), *_head(big)))
    link = len(out) - (8 if big else 4)
    for _ in range(pages):
        starts = []
        if last:
            starts = _put(out, pieces)
        at = len(out)
        out[link : link + (8 if big else 4)] = struct.pack(order + ("Q" if big else "I"), at)
        if not last:  # the directory's length does not depend on where its pixels are
            size = len(_directory({**found, where: ("I", [0] * len(pieces))}, order, big, at)[0])
            starts, offset = [], at + size
            for piece in pieces:
                starts.append(offset)
                offset += len(piece)
        directory, next_at = _directory({**found, where: ("I", starts), **_kept(tags, where)}, order, big, at)
        out += directory
        link = at + next_at
        if not last:
            _put(out, pieces)
    return bytes(out)


def _head(big: bool) -> list[int]:
    return [43, 8, 0, 16] if big else [42, 8]


def _kept(tags: Mapping[int, Any] | None, where: int) -> dict[int, Any]:
    return {where: tags[where]} if tags and where in tags else {}


def _put(out: bytearray, pieces: list[bytes]) -> list[int]:
    starts = []
    for piece in pieces:
        starts.append(len(out))
        out += piece
    return starts


def _directory(tags: Mapping[int, tuple[str, Any]], order: str, big: bool, at: int) -> tuple[bytes, int]:
    """(its bytes with the values behind it, where in it the place of the next one is)."""
    wide, short = ("Q", "Q") if big else ("I", "H")
    room = 8 if big else 4
    entry = 20 if big else 12
    start = struct.calcsize(order + short) + entry * len(tags) + room
    body, behind = b"", b""
    for tag, (code, values) in sorted(tags.items()):
        data = values if code == "s" else struct.pack(f"{order}{len(values)}{code}", *values)
        count = len(values)
        if len(data) > room:
            place = struct.pack(order + wide, at + start + len(behind))
            behind += data
        else:
            place = data.ljust(room, b"\0")
        body += struct.pack(order + "HH" + wide, tag, CODES[code], count) + place
    return struct.pack(order + short, len(tags)) + body + bytes(room) + behind, start - room
