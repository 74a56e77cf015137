"""Indexes of version 1, read into memory.

index.json               {"schema": 1, "align": version, "model": sha256, "dim": D, "modalities": {name: rows},
                          "samples": N, "sha256": {file: checksum}}
items.jsonl              a line a sample: {"key": ..., "shard": ..., "caption": [...], "label": ...}
MODALITY.safetensors     values (n, D) float32, sample (n,) int64 in ascending order: lines of items.jsonl
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch.nn.functional as F

from align.files import json_text, read_json, sha256
from align.search.item import Item
from align.search.local.entries import Entries
from align.search.local.reader import Reader
from align.search.local.segments import Entry, Mapped
from align.search.local.tables import TABLES


def open_version1(folder: Path, *, write: bool = False) -> Reader:
    """Return a reader of an index of version 1. Line i of its items is sample i + 1.

    Raises ValueError where it is damaged, or to be written.
    """
    if write:
        raise ValueError(
            f"{folder} has schema 1, which is only read; make it anew with: align index build MODEL SHARDS --out OTHER"
        )
    about = read_json(folder / "index.json")
    name = f"file:align-{uuid4().hex}?mode=memory&cache=shared"
    kept = _connect(name)  # the tables live as long as a connection to them
    try:
        _fill(kept, folder, about)
    except BaseException:
        kept.close()
        raise

    def read(_: Path, entry: Entry, dim: int) -> Mapped:
        from align.encoders.weights import read_tensors

        stored = read_tensors(_check_file(folder, about, f"{entry.modality}.safetensors"))
        values = stored["values"].float()
        return Mapped(F.normalize(values, dim=1), values.norm(dim=1), stored["sample"] + 1)

    reader = Reader(folder, lambda _: _connect(name), read)
    reader.hold(kept)
    return reader


def _fill(connection: sqlite3.Connection, folder: Path, about: dict[str, Any]) -> None:
    connection.executescript(TABLES)
    model = {"source": "", "sha256": about.get("model", "")}
    stated = {"dim": about.get("dim", 0), "model": model, "parts": about.get("parts", {}), "generation": 1}
    rows = [(name, json_text(value)) for name, value in stated.items()]
    connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
    entries, seen = Entries(connection), {}
    for i, line in enumerate(_check_file(folder, about, "items.jsonl").read_text(encoding="utf-8").splitlines(), 1):
        one = json.loads(line)
        json_ = {"label": one["label"]} if one.get("label") is not None else {}
        place = f"{one['shard']}" if (one["shard"], one["key"]) not in seen else f"{one['shard']}#{i}"
        seen[one["shard"], one["key"]] = i
        item = Item(one["key"], {"shard": place, "key": one["key"]}, one.get("caption", []), one.get("label"), json_)
        entries.put(item)
    for i, (m, n) in enumerate(about["modalities"].items()):
        connection.execute("INSERT INTO modalities VALUES (?, ?)", (i, m))
        connection.execute("INSERT INTO segments VALUES (?, ?, ?, 0, 0, '')", (i + 1, i, n))
        _mark(connection, folder, about, m, 1 << i)


def _mark(connection: sqlite3.Connection, folder: Path, about: dict[str, Any], m: str, bit: int) -> None:
    from safetensors import safe_open

    path = folder / f"{m}.safetensors"
    if not path.is_file():
        return  # the first search names it
    with safe_open(str(path), "pt") as file:
        numbers = (file.get_tensor("sample") + 1).unique().tolist()
    connection.executemany("UPDATE items SET modalities = modalities | ? WHERE number = ?", [(bit, n) for n in numbers])


def _check_file(folder: Path, about: dict[str, Any], name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder} lacks {name}; make the index anew with: align index build MODEL SHARDS")
    if about.get("sha256", {}).get(name) != sha256(path):
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in index.json; make the index anew")
    return path


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)
