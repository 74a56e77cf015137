"""A new index folder, and the kind of a folder that is there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import align
from align.files import json_text, read_json, sync_folder, write_json
from align.search.local.segments import FOLDER
from align.search.local.tables import NAME, TABLES, connect_writer, one_line

SCHEMA = 2
HEADER = "index.json"
DTYPES = ("float32", "float16")


def create_folder(folder: Path, about: Mapping[str, Any]) -> None:
    """Make an empty index. A killed or failed one is no index, and the next one goes over it.

    Raises FileExistsError where an index or something else is there, ValueError for another ``dtype``.
    """
    if about.get("dtype", "float32") not in DTYPES:
        raise ValueError(f"rows are stored as {' or '.join(DTYPES)}, not {about['dtype']!r}")
    if find_schema(folder) is not None:
        raise FileExistsError(f"{folder} is an index already; open it, or choose another folder")
    if folder.exists() and not (folder.is_dir() and all(_is_ours(name) for name in os.listdir(folder))):
        raise FileExistsError(f"{folder} is there and is no index; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)
    write_json(folder / HEADER, {"schema": SCHEMA, "align": align.__version__})
    (folder / FOLDER).mkdir(exist_ok=True)
    connection = connect_writer(folder)
    try:
        with one_line(folder):
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise FileExistsError(f"{folder} is an index already; open it, or choose another folder")
            for statement in TABLES.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            rows = [(name, json_text(value)) for name, value in {**about, "generation": 1}.items()]
            connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
            connection.execute("COMMIT")
    finally:
        connection.close()
    sync_folder(folder)


def find_schema(folder: Path) -> int | None:
    """Return the schema of an index folder, or None where there is none. Raises ValueError for a damaged header."""
    if not (folder / HEADER).is_file():
        return None
    about = read_json(folder / HEADER)
    if not isinstance(about, dict) or not isinstance(about.get("schema"), int):
        raise ValueError(f"{folder / HEADER} is no header of an index")
    if about["schema"] == 1:
        return 1 if "modalities" in about else None
    if about["schema"] > SCHEMA:
        raise ValueError(f"{folder} has schema {about['schema']}; this align reads up to {SCHEMA}: upgrade align")
    return about["schema"] if _has_tables(folder) else None


def is_index(folder: Path) -> bool:
    """Return True where a folder is an index of either version, also where it is damaged or too new."""
    try:
        return find_schema(folder) is not None
    except (OSError, ValueError):
        return True


def check_there(folder: Path) -> int:
    """Return the schema of an index folder. Raises FileNotFoundError where there is none."""
    found = find_schema(folder)
    if found is None:
        raise FileNotFoundError(
            f"no index in {folder}; make one with: align index build MODEL SHARDS --out {shlex.quote(str(folder))}"
        )
    return found


def _has_tables(folder: Path) -> bool:
    from align.search.local.tables import connect_reader

    if not (folder / NAME).is_file() or not (folder / NAME).stat().st_size:
        return False
    with one_line(folder):
        connection = connect_reader(folder)
        try:
            return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'grams'").fetchone() is not None
        finally:
            connection.close()


def _is_ours(name: str) -> bool:
    return (
        name in (HEADER, FOLDER) or name.startswith(NAME) or (name.startswith(f".{HEADER}.") and name.endswith(".tmp"))
    )
