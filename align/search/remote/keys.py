"""Rows under keys: a number for each row of a sample, and a digest by which a changed row is found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

PLACES = 14  # bits for the place of a row within its sample
MOST = 1 << PLACES  # rows of one sample
TOP = 1 << (62 - PLACES)  # above the number of every sample


def make_keys(numbers: Tensor) -> Tensor:
    """Return a key (n,) for each row of ascending sample numbers (n,): the sample, and the row's place in it.

    Raises ValueError for a sample with more rows than a key can count.
    """
    if not len(numbers):
        return numbers
    first = torch.searchsorted(numbers, numbers)
    place = torch.arange(len(numbers)) - first
    if int(place.max()) >= MOST:
        number = int(numbers[place.argmax()])
        raise ValueError(f"sample {number} has more than {MOST} rows, which a server does not take; use hnsw")
    return (numbers << PLACES) | place


def read_numbers(keys: Tensor) -> Tensor:
    """Return the samples of keys. -1, for no row, stays -1."""
    return keys >> PLACES


def digest_rows(rows: Tensor) -> list[int]:
    """Return a signed number of 64 bits for each float32 row (n, D). Equal rows have equal numbers."""
    stored = rows.float().contiguous().numpy()
    return [
        int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little", signed=True) for row in stored
    ]


def cut_blocks(rows: Iterator[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the same rows (n, D) and numbers (n,) in blocks that end where a sample ends.

    A block has ``size`` rows at most, or all rows of one sample. Raises ValueError where numbers do not ascend.
    """
    values, numbers = torch.empty(0), torch.empty(0, dtype=torch.long)
    for some, more in rows:
        values = some if not len(numbers) else torch.cat([values, some])
        numbers = torch.cat([numbers, more])
        if bool((numbers[1:] < numbers[:-1]).any()):
            raise ValueError("the rows of a modality come in ascending order of samples")
        while len(numbers) > size:
            end = _end(numbers, size)
            if end == len(numbers):  # the sample may go on in the next block
                break
            yield values[:end], numbers[:end]
            values, numbers = values[end:], numbers[end:]
    if len(numbers):
        yield values, numbers


def _end(numbers: Tensor, size: int) -> int:
    """Return the number of rows of the whole samples among the first ``size`` rows, or of the first sample alone."""
    start = int(torch.searchsorted(numbers, numbers[size]))  # the first row of the sample that is cut
    return start or int(torch.searchsorted(numbers, numbers[0], right=True))
