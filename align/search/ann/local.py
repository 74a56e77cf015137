"""Approximate search by faiss in the index folder: a file for each modality, mapped when it is searched."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.meta import is_text
from align.extras import has_part, pip_install
from align.files import atomic_write, sha256
from align.search.ann.kinds import KINDS, load_faiss
from align.search.ann.notes import FOLDER
from align.search.finder import TooFew

FILTERED = 4  # factor of the effort of a search with a filter: see docs/big-search.md
ENDS = (".faiss", ".npy", ".tmp")

Draw = Callable[[str, int], Tensor]
"""Returns unit rows (n, D) of a modality, drawn from all of them."""


def check_installed() -> None:
    """Raise ImportError with the command that installs faiss, where it is missing or too old."""
    if not has_part("faiss", "IndexIVFRaBitQ"):
        raise ImportError(f"approximate search needs faiss: {pip_install('search')}")


@final
class LocalBackend:
    """A kind of approximate search, see ``align.search.ann.kinds``, in the folder of an index.

    Args:
        folder: of the index. name: of the kind.
        effort: the factor of the effort of searches.
        draw: gives the rows that a kind learns from. None: the first rows that come.
    """

    def __init__(self, folder: Path, name: str, effort: float = 1.0, draw: Draw | None = None):
        self.name, self.effort, self.rerank = name, effort, round(KINDS[name].rerank * effort)
        self._folder, self._kind, self._draw = folder / FOLDER, KINDS[name], draw

    def make(self, of: str, rows: Iterator[tuple[Tensor, Tensor]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Build the index of a modality and write it, see ``Backend.make``. It is held in memory meanwhile.

        One thread builds the same file from the same rows. Raises TooFew for fewer rows than the kind learns from.
        """
        check_installed()
        faiss = load_faiss()

        if facts["rows"] < self._kind.least:
            raise TooFew(f"{self.name} needs {self._kind.least} rows; {of} has {facts['rows']}")
        faiss.omp_set_num_threads(torch.get_num_threads())
        made, numbers = self._kind.make(facts["dim"], facts["rows"]), []
        for values, sample in rows:
            if not made.is_trained:
                n = self._kind.training(facts["rows"])
                made.train((values if self._draw is None else self._draw(of, n)).contiguous().numpy())
            made.add(values.contiguous().numpy())
            numbers.append(sample.numpy())
        every = np.concatenate(numbers)
        if len(every) != facts["rows"]:
            raise ValueError(f"{of} has {len(every)} rows, {facts['rows']} were announced; try again")
        place = uuid4().hex[:12]
        with atomic_write(self._folder / f"{place}.faiss") as file:
            faiss.write_index(made, faiss.PyCallbackIOWriter(file.write))
        with atomic_write(self._folder / f"{place}.npy") as file:
            np.save(file, every)
        more = {"cells": count} if (count := _count_cells(made)) else {}
        return {"file": place, "samples": len(np.unique(every)), "files": self._measure(place), **more}

    def open(self, of: str, facts: Mapping[str, Any]) -> LocalFinder:
        """Open the finder of a modality. Raises ValueError where a file is damaged, FileNotFoundError where it is gone.

        Its checksums are compared first, which reads the files (1 GB/s).
        """
        check_installed()
        self.check(of, facts)
        path = self._folder / f"{facts['file']}.faiss"
        return LocalFinder(_read(path), np.load(path.with_suffix(".npy"), mmap_mode="r"), self._search, facts)

    def check(self, of: str, facts: Mapping[str, Any]) -> None:
        """Compare the checksums of a modality's files. Raises ValueError or FileNotFoundError, as ``open`` does."""
        name = str(facts["file"])
        if not name.isalnum():
            raise ValueError(f"the notes of {self._folder} name a file {name!r}; {self._remedy}")
        for end, stated in facts["files"].items():
            path = self._folder / f"{name}.{end}"
            if not path.is_file():
                raise FileNotFoundError(f"{path} of the {self.name} of {of} is gone; {self._remedy}")
            if path.stat().st_size != stated["bytes"] or sha256(path) != stated["sha256"]:
                raise ValueError(f"{path} is damaged: it is not the file of {of} that was written; {self._remedy}")

    def drop(self) -> None:
        """Remove the files of all modalities."""
        self.sweep({})

    def sweep(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove the files that belong to no modality's facts: of an earlier search, and of a build that was killed."""
        names = {str(facts.get("file")) for facts in kept.values()}
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if path.suffix in ENDS and path.stem not in names:
                    path.unlink(missing_ok=True)

    def say_effort(self, facts: Mapping[str, Any]) -> str:
        """Return the effort of a search in words."""
        return f"{self._kind.effort(facts, self.rerank, self.effort)}, best {self.rerank} re-scored exactly"

    @property
    def _remedy(self) -> str:
        return f"make it again: align index backend {shlex.quote(str(self._folder.parent))} {self.name}"

    def _search(self, facts: Mapping[str, Any], n: int, selector: Any) -> Any:
        effort = self.effort if selector is None else FILTERED * self.effort
        return self._kind.params(facts, n, effort, selector)

    def _measure(self, place: str) -> dict[str, dict[str, Any]]:
        paths = {end: self._folder / f"{place}.{end}" for end in ("faiss", "npy")}
        return {end: {"bytes": path.stat().st_size, "sha256": sha256(path)} for end, path in paths.items()}


@final
class LocalFinder:
    """An index of faiss whose places are rows. numbers: (n,) the sample of each place, ascending."""

    def __init__(self, index: Any, numbers: Any, params: Callable[..., Any], facts: Mapping[str, Any]):
        if index.ntotal != len(numbers) or index.d != facts["dim"]:
            raise ValueError(f"the approximate index has {index.ntotal} rows of {index.d} numbers; make it again")
        self._index, self._numbers, self._params, self._facts = index, numbers, params, facts
        self._last: tuple[Tensor, Any] | None = None

    def propose(self, query: Tensor, n: int, among: Tensor | None = None) -> Tensor:
        """Return up to n samples' numbers for each query, see ``Finder.propose``."""
        faiss = load_faiss()

        rows, samples = len(self._numbers), int(self._facts["samples"])
        wanted = min(rows, math.ceil(n * rows / samples))
        params = self._params(self._facts, wanted, None if among is None else self._select(among))
        faiss.omp_set_num_threads(1 if len(query) == 1 else torch.get_num_threads())
        unit = F.normalize(query.float(), dim=1).contiguous().numpy()
        places = self._index.search(unit, wanted, params=params)[1]  # (q, wanted), -1 where there are fewer
        found = np.where(places >= 0, self._numbers[places], -1)
        out = torch.full((len(query), n), -1, dtype=torch.long)
        for i, numbers in enumerate(found):
            first = np.unique(numbers, return_index=True)[1] if rows > samples else np.arange(wanted)
            kept = numbers[np.sort(first)]
            kept = kept[kept >= 0][:n]
            out[i, : len(kept)] = torch.from_numpy(kept)
        return out

    def _select(self, among: Tensor) -> Any:
        """Return the selector of the rows of these samples. The last one is kept."""
        faiss = load_faiss()

        last = self._last
        if last is None or last[0] is not among:
            wanted = among.numpy()
            place = np.searchsorted(wanted, self._numbers)
            passed = np.zeros(len(self._numbers), dtype=bool)
            inside = place < len(wanted)
            passed[inside] = wanted[place[inside]] == self._numbers[inside]
            self._last = last = among, faiss.IDSelectorBitmap(np.packbits(passed, bitorder="little"))
        return last[1]


def _count_cells(made: Any) -> int:
    faiss = load_faiss()

    cells = faiss.try_extract_index_ivf(made)
    return 0 if cells is None else int(cells.nlist)


def _read(path: Path) -> Any:
    """Return the index of a file, mapped where faiss can do so."""
    faiss = load_faiss()

    try:
        if is_text(str(path)):
            return faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC)
        with path.open("rb") as file:  # faiss opens paths in UTF-8 alone
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}; make it again") from None
