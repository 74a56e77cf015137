"""Decoded samples that the data workers of a rank keep, in one piece of memory that they share."""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import pickle
import re
import threading
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from align.data.bad import Bad
from align.data.opening import Opening, OpenRow

log = logging.getLogger("align.data")

LOOK = 64  # samples after which the size of the whole set is estimated
LEAST = 256  # bytes of a sample: its meta data alone
ALIGNMENT = 64
WAIT = 1.0  # seconds for the lock, which a killed worker may hold; a sample is then decoded anew
UNITS = {"": 1, "B": 1} | {f"{u}iB": 1 << 10 * i for i, u in enumerate("KMGT", 1)}
UNITS |= {f"{u}B": 1000**i for i, u in enumerate("KMGT", 1)}

USED, COUNT, OFF = range(3)  # numbers before the table: bytes in use, samples kept, 1 where keeping has ended


@final
class Kept:
    """Openings of samples by their number in the set, within a budget of bytes.

    The memory is mapped before the workers are forked, so a sample that one has decoded is there for all. Where workers
    are spawned, each has a copy that begins empty, with its share of the budget.

    After LOOK samples the size of the set is estimated. A set that does not fit is not kept at all, since a full
    shuffle would find few of the kept samples again. One line says so.

    Args:
        budget: bytes.
        numbers: samples of the set.
        workers: processes that read.
        quiet: say nothing, as the ranks after the first.
    """

    def __init__(self, budget: int, numbers: int, *, workers: int, quiet: bool = False):
        self.budget, self.numbers, self.workers, self.quiet = budget, numbers, workers, quiet
        self._map()

    def _map(self) -> None:
        self._off = self.numbers * LEAST > self.budget
        self._lock: Any = multiprocessing.Lock() if self.workers and get_worker_info() is None else threading.Lock()
        if self._off:
            self._say(self.numbers * LEAST, "at least")
            return
        try:  # pages that are never written take no memory
            self._memory = mmap.mmap(-1, max(self.budget, mmap.PAGESIZE))
            self._table = np.frombuffer(mmap.mmap(-1, 8 * (3 + 2 * self.numbers)), dtype=np.int64)
        except (OSError, OverflowError) as error:
            raise ValueError(f"data.keep: {show_size(self.budget)} cannot be had from this machine: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"budget": self.budget, "numbers": self.numbers, "workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        info = get_worker_info()
        share = max(1, state["workers"] if info is None else info.num_workers)
        self.__init__(state["budget"] // share, state["numbers"], workers=state["workers"], quiet=info is not None)

    @property
    def off(self) -> bool:
        """True where this process keeps nothing more."""
        return self._off

    @property
    def most(self) -> bool:
        """True where more than half of the set is kept."""
        return not self._off and 2 * int(self._table[COUNT]) > self.numbers

    def get(self, number: int) -> Opening | None:
        """Return the opening of a sample, or None where it is not kept. Its tensors are copies."""
        if self._off or not self._lock.acquire(timeout=WAIT):
            return None
        try:
            begin, length = self._table[3 + 2 * number : 5 + 2 * number].tolist()
        finally:
            self._lock.release()
        return _read(self._memory, begin, length) if length else None

    def put(self, number: int, opening: Opening) -> None:
        """Keep the opening of a sample, where there is room."""
        if self._off or any(bad.reason == "shard/unreachable" for bad in opening.unread):
            return
        head, tensors = _split(opening)
        place, sizes = _round(len(head)), [_round(x.nbytes) for x in tensors]
        size = place + sum(sizes)
        begin = self._reserve(size)
        if begin is None:
            return
        self._memory[begin : begin + len(head)] = head
        place += begin
        for x, length in zip(tensors, sizes, strict=True):
            if x.nbytes:
                torch.frombuffer(self._memory, dtype=x.dtype, count=x.numel(), offset=place).copy_(x)
            place += length
        if self._lock.acquire(timeout=WAIT):
            try:  # from here on the other workers find it
                self._table[COUNT] += self._table[4 + 2 * number] == 0
                self._table[3 + 2 * number : 5 + 2 * number] = begin, len(head)
            finally:
                self._lock.release()

    def _reserve(self, size: int) -> int | None:
        """Return the place of so many bytes, or None where there is no room.

        It ends the keeping of a set that does not fit.
        """
        if not self._lock.acquire(timeout=WAIT):
            return None
        try:
            begin, count = int(self._table[USED]), int(self._table[COUNT])
            whole, full = (begin + size) * self.numbers // (count + 1), begin + size > self.budget
            looks = count + 1 == min(LOOK, self.numbers) or (full and count < LOOK)
            if not self._table[OFF] and looks and whole > self.budget:
                self._table[OFF] = 1
                self._say(whole, "about")
            self._off = bool(self._table[OFF])
            if self._off or full:
                return None
            self._table[USED] = begin + size
            return begin
        finally:
            self._lock.release()

    def _say(self, whole: int, about: str) -> None:
        if not self.quiet:
            log.warning(
                "data.keep: the %s decoded samples take %s %s, more than %s, so each is decoded anew in every epoch",
                f"{self.numbers:,}",
                about,
                show_size(whole),
                show_size(self.budget),
            )


def read_size(text: int | str) -> int:
    """Return a number of bytes from a number, or from a text such as 512MiB. Raises ValueError for anything else.

    >>> read_size("512MiB"), read_size("1.5 GB"), read_size(0)
    (536870912, 1500000000, 0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    unit = {name.lower(): n for name, n in UNITS.items()}.get(found[2].lower()) if found else None
    if found is None or unit is None or isinstance(text, bool):
        raise ValueError(f"data.keep={text!r} is no size: give bytes, or a number with KiB, MiB or GiB, as in 512MiB")
    return int(float(found[1]) * unit)


def show_size(n: int) -> str:
    """Return bytes as text, in the largest unit that fits: 512 MiB."""
    unit, size = max((size, name) for name, size in UNITS.items() if "i" in name and (size <= n or name == "KiB"))
    return f"{n / unit:.4g} {size}"


def _round(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _split(opening: Opening) -> tuple[bytes, list[Tensor]]:
    """Return an opening without its tensors, as bytes, and the memory of the tensors, each (span,)."""
    tensors: list[Tensor] = []

    def plain(row: OpenRow | Bad) -> tuple[Any, ...]:
        if isinstance(row, Bad) or not isinstance(row.data, Tensor):
            return ("bad" if isinstance(row, Bad) else None, *row)
        x = row.data.detach()
        span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
        tensors.append(x.as_strided((span,), (1,)))
        return ((tuple(x.shape), x.stride(), span, x.dtype), *row[1:])

    rows = {m: [plain(row) for row in each] for m, each in opening.rows.items()}
    faults = [tuple(bad) for bad in opening.unread], [tuple(bad) for bad in opening.bad]
    return pickle.dumps(((*opening[:6], dict(opening.grade)), faults, rows), protocol=5), tensors


def _read(memory: mmap.mmap, begin: int, length: int) -> Opening:
    first, (unread, faults), rows = pickle.loads(memoryview(memory)[begin : begin + length])
    place = begin + _round(length)

    def full(row: tuple[Any, ...]) -> OpenRow | Bad:
        nonlocal place
        if row[0] is None or row[0] == "bad":
            return OpenRow(*row[1:]) if row[0] is None else Bad(*row[1:])
        shape, stride, span, dtype = row[0]
        if not span:
            return OpenRow(torch.empty(shape, dtype=dtype), *row[1:])
        x = torch.frombuffer(memory, dtype=dtype, count=span, offset=place).clone()
        place += _round(x.nbytes)
        return OpenRow(x.as_strided(shape, stride), *row[1:])

    opened = {m: [full(row) for row in each] for m, each in rows.items()}
    key, shard, source, label, group, weight, grade = first
    found, faulty = [Bad(*x) for x in unread], [Bad(*x) for x in faults]
    return Opening(key, shard, source, label, group, weight, grade, found, faulty, opened)
