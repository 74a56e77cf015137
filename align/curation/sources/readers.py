"""Readers of CSV, TSV, JSONL and Parquet tables, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align.extras import pip_install

SEPARATORS = {"\t": "tab", ";": "';'", "|": "'|'", ",": ","}  # separator of cells -> its form after --separator
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def read_table(path: Path, separator: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, as column -> cell.

    separator: character between the cells of a .csv or .tsv. None: a comma for .csv, a tab for .tsv.

    Raises ValueError for a file that is no such table.
    """
    suffix = path.suffix.lower()
    if separator is not None and (suffix not in (".csv", ".tsv") or len(WORDS.get(separator, separator)) != 1):
        raise ValueError(f"separator {separator!r} of {path}: a .csv or .tsv has one, a character, or the word tab")
    if suffix in (".csv", ".tsv"):
        usual = "\t" if suffix == ".tsv" else ","
        yield from _csv(path, usual if separator is None else WORDS.get(separator, separator), guess=separator is None)
    elif suffix in (".jsonl", ".ndjson"):
        yield from _jsonl(path)
    elif suffix in (".parquet", ".pq"):
        yield from _parquet(path)
    else:
        raise ValueError(f"{path}: a table is a .csv, .tsv, .jsonl or .parquet file; a folder of classes works too")


def _csv(path: Path, delimiter: str, guess: bool) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 27)  # some captions are long
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            names = reader.fieldnames or []
            if guess and len(names) == 1 and (other := next((s for s in SEPARATORS if s in names[0]), None)):
                raise ValueError(
                    f"{path} has one column, {names[0]!r}; if its cells are separated by {SEPARATORS[other]}, say "
                    f"--separator {SEPARATORS[other]} (separator={other!r})"
                )
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{path} has two columns {twice!r}; several of a kind are image.0, image.1")
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    raise ValueError(f"{path} row {number}: its cells do not fit the {len(names)} columns")
                yield row
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 ({error.reason}: {error.object[error.start]:#x}); save it as UTF-8"
            ) from None
        except csv.Error as error:
            raise ValueError(f"{path} near line {reader.line_num}: {error}") from None


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} line {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path} line {number} is a {type(row).__name__}, not an object of columns")
            yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ImportError(f"{path}: reading Parquet needs pyarrow; {pip_install('parquet')}") from None
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):  # rows may hold pictures
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(f"{path} is not Parquet: {error}") from None
