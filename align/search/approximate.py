"""An index that asks an approximate search for samples, and scores these exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from align.search.exact import find_best
from align.search.finder import Finder, Stale
from align.search.front import Front
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.local.state import Standing
from align.search.made import Made, choose_made
from align.search.remote import Remote
from align.search.shift import Shift
from align.search.where import Where


@final
class Approximate(Front):
    """An index in front of another, whose rows a backend has too. The backend proposes samples for a query.

    The best samples that it proposes are scored by the index's own rows. Their order, ties and scores are the exact
    ones. A sample that is not proposed is missed. A search is exact where few samples pass the filter, where rows count
    with their length or with a correction for hubs, and where the backend was made of other rows than the index has.

    Args:
        made: returns the approximate search as it stands, None for none.
    """

    def __init__(self, index: LocalIndex, made: Callable[[], Made | None]):
        self.index = index
        self._made = made
        self._open: dict[str, tuple[Made, Finder]] = {}
        self._among: tuple[Any, Tensor] | None = None
        self._lock = threading.Lock()
        self._said = threading.local()

    @property
    def about(self) -> Mapping[str, Any]:
        """The facts of the index behind."""
        return self.index.about

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self.index.folder

    @property
    def generation(self) -> int:
        """The number of the newest change."""
        return self.index.generation

    def add(self, of: str, values: Tensor, sample: Tensor, items: Sequence[Item]) -> None:
        """Add rows of a modality, see ``Index.add``. Searches among them are exact from then on."""
        self.index.add(of, values, sample, items)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, and return their number. Searches among their rows are exact then."""
        return self.index.delete(keys)

    def search(
        self,
        query: Tensor,
        of: str,
        k: int,
        where: Where | None = None,
        *,
        scaled: bool = False,
        shift: Shift | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the best samples of each query, see ``Index.search``. ``list_notes`` says how they were found.

        Raises ConnectionError or OSError where the backend is away.
        """
        try:
            return self._ask(query, of, k, where, scaled=scaled, shift=shift)
        except FileNotFoundError:  # another process has made the approximate search anew, in other files
            return self._ask(query, of, k, where, scaled=scaled, shift=shift)

    def _ask(
        self, query: Tensor, of: str, k: int, where: Where | None, *, scaled: bool, shift: Shift | None
    ) -> tuple[Tensor, Tensor]:
        self._said.notes = []
        stand = self.index.stand(of, where)
        why = ""
        if (
            k >= 1 and query.ndim == 2 and query.shape[1] == stand.dim and stand.mark
        ):  # else the index says what is wrong
            made, why = choose_made(self._made(), of, k, stand, where, scaled=scaled, shift=shift)
            if made is not None:
                try:
                    best = self._search(made, query, of, k, stand, where)
                    if best is not None and self.index.mark(of) == stand.mark:
                        return best
                    why = "" if best is None else f"exact: {of} changed meanwhile"
                except Stale as error:
                    why = f"exact: {error}; make it again: {made.remedy}"
        self._said.notes = [why] if why else []
        return self.index.search(query, of, k, where, scaled=scaled, shift=shift)

    def list_notes(self) -> list[str]:
        """Return sentences about the last search of this thread."""
        return list(getattr(self._said, "notes", ()))

    def _search(
        self, made: Made, query: Tensor, of: str, k: int, stand: Standing, where: Where | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return the best samples, None where the finder does not know k samples for some query."""
        among = None if where is None else self._numbers(of, where, stand.generation)
        finder, asked = self._finder(made, of), query.detach().cpu().float()
        n, pieces = made.count_scored(k), dict[int, tuple[Tensor, Tensor]]()
        deepest = n
        while left := [i for i in range(len(query)) if i not in pieces]:
            for i, proposed in zip(left, finder.propose(asked[left], n, among), strict=True):
                best = self._score(query[i : i + 1].detach(), of, k, _pass(proposed[proposed >= 0], among))
                if best[0].shape[1] == k:
                    pieces[i] = best
            if len(pieces) < len(query) and n >= stand.samples:
                return None
            deepest, n = n, min(4 * n, stand.samples)
        if not pieces:
            return None
        self._said.notes = [f"approximate ({made.backend.name}), best {deepest} re-scored exactly"]
        scores, found = (torch.cat(parts) for parts in zip(*(pieces[i] for i in sorted(pieces)), strict=True))
        return scores, found

    def _score(self, query: Tensor, of: str, k: int, samples: Tensor) -> tuple[Tensor, Tensor]:
        values, sample = self.index.unit_rows(of, samples)[:2]
        assert isinstance(values, Tensor)
        return find_best(query, values, sample, k)

    def _numbers(self, of: str, where: Where, generation: int) -> Tensor:
        """Return the numbers of the samples that pass, from memory where the last search had the same filter."""
        state, last = (of, repr(where), generation), self._among
        if last is None or last[0] != state:
            self._among = last = state, self.index.numbers(of, where)
        return last[1]

    def _finder(self, made: Made, of: str) -> Finder:
        """Return the finder of a modality, from memory where it is open.

        Files are read by one thread at a time. A server may hang, so each thread asks it by itself.
        """
        with nullcontext() if isinstance(made.backend, Remote) else self._lock:
            there = self._open.get(of)
            if there is None or there[0] is not made:
                there = self._open[of] = made, made.backend.open(of, made.modalities[of])
            return there[1]

    def open_finder(self, of: str) -> tuple[Finder, int]:
        """Return the finder of a modality, and the samples that it is asked for.

        Raises ValueError where there is none, or it is stale.
        """
        made = self._made()
        if made is None or of not in made.modalities or made.modalities[of].get("mark") != self.index.mark(of):
            raise ValueError(f"{self.folder} has no approximate search of {of}, or a stale one")
        return self._finder(made, of), made.rerank

    def prepare(self, readers: int) -> None:
        """Make ready for so many threads, see ``LocalIndex.prepare``, and open what is not stale."""
        self.index.prepare(readers)
        made = self._made()
        for of, facts in ({} if made is None else made.modalities).items():
            if made is not None and facts.get("mark") == self.index.mark(of):
                with suppress(Stale):  # searches are exact then, and say so
                    self._finder(made, of)

    def trouble(self) -> str:
        """Return a line where searches end with an error now: a server that does not answer, damaged notes. Else ""."""
        try:
            made = self._made()
        except ValueError as error:
            return str(error)
        return made.backend.trouble() if made is not None and isinstance(made.backend, Remote) else ""

    def close(self) -> None:
        """Close the files of the index."""
        self._open.clear()
        self.index.close()

    def shift(self, name: str) -> Shift:
        """Return a correction for hubs, see ``Corrected.shift``."""
        return self.index.shift(name)

    def count_unshifted(self, of: str, name: str) -> int:
        """Return the number of rows of a modality that came after a correction."""
        return self.index.count_unshifted(of, name)


def _pass(samples: Tensor, among: Tensor | None) -> Tensor:
    """Return those of the samples that pass. A finder's filter is not trusted."""
    if among is None or not len(among):
        return samples if among is None else samples[:0]
    place = torch.searchsorted(among, samples).clamp(max=len(among) - 1)
    return samples[among[place] == samples]
