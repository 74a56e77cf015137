"""A given matrix of dissimilarities, from a file, for the samples of an evaluation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class GivenMatrix(NamedTuple):
    """Dissimilarities of samples. values: (n, n) float32. keys: of the n samples, or None for those of the evaluation
    in their order. source: the file, for messages."""

    values: Tensor
    keys: Sequence[str] | None = None
    source: str = "the matrix"


def read_matrix(path: str | Path) -> GivenMatrix:
    """Read a .npy of (n, n) numbers, or a .csv of n lines with n numbers, with or without keys.

    With keys, the first line of the .csv is an empty cell and the n keys, and each line begins with its key. Raises
    ValueError for a matrix that is not square, finite, symmetric and 0 on its diagonal, and for another suffix.
    """
    import numpy as np

    path, keys = Path(path), None
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
            table = torch.from_numpy(np.asarray(values, dtype=np.float64))
        except (ValueError, TypeError, EOFError) as error:
            raise ValueError(f"{path} is no .npy file of numbers: {error}") from None
    elif path.suffix == ".csv":
        keys, table = _read_csv(path)
    else:
        raise ValueError(f"{path} is no .npy and no .csv file of a matrix")
    _check(table, keys, path)
    return GivenMatrix(table.float(), keys, str(path))


def place_of(matrix: GivenMatrix, ids: Sequence[str]) -> Tensor:
    """Return the row of the matrix for each sample (B,), -1 where it has none.

    Raises ValueError for another number of samples than that of a matrix without keys, and for keys that no sample has.
    """
    n = len(matrix.values)
    if matrix.keys is None:
        if n != len(ids):
            raise ValueError(
                f"{matrix.source} is {n} x {n}, and the evaluation has {len(ids)} samples; "
                f"give a .csv with their keys, or a matrix of {len(ids)} x {len(ids)} in their order"
            )
        return torch.arange(n)
    places = {key: i for i, key in enumerate(matrix.keys)}
    found = torch.tensor([places.get(key, -1) for key in ids], dtype=torch.int64)
    if not bool((found >= 0).any()):
        raise ValueError(f"{matrix.source}: no sample has one of its keys, such as {matrix.keys[0]!r}")
    return found


def _read_csv(path: Path) -> tuple[list[str] | None, Tensor]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    keys = None
    if lines and not _is_number(lines[0][0]):
        keys = [cell.strip() for cell in lines[0][1:]]
        if [line[0].strip() for line in lines[1:]] != keys:
            raise ValueError(f"{path}: the keys of its lines are not those of its first line, in the same order")
        lines = [line[1:] for line in lines[1:]]
    width = len(lines[0]) if lines else 0
    for number, line in enumerate(lines, 1):
        if len(line) != width or not all(map(_is_number, line)):
            raise ValueError(f"{path}: row {number} is not {width} numbers")
    return keys, torch.tensor([[float(cell) for cell in line] for line in lines], dtype=torch.float64)


def _check(table: Tensor, keys: list[str] | None, path: Path) -> None:
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"{path} has the shape {tuple(table.shape)}; dissimilarities of n samples are (n, n)")
    if keys is not None and len(set(keys)) < len(keys):
        raise ValueError(f"{path} has a key two times")
    if not bool(table.isfinite().all()):
        raise ValueError(f"{path} has numbers that are not finite")
    size = 1e-6 * float(table.abs().max()) if table.numel() else 0.0
    if float((table - table.T).abs().amax() if table.numel() else 0) > size:
        raise ValueError(f"{path} is not symmetric, as dissimilarities are")
    if table.numel() and float(table.diagonal().abs().max()) > size:
        raise ValueError(f"{path} is not 0 on its diagonal: it has similarities, where dissimilarities are asked for")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
