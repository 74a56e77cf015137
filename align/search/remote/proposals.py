"""Samples that a server proposes for a query: rows become samples, and a filter holds."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.search.finder import Stale
from align.search.remote.keys import TOP, read_numbers
from align.search.remote.mark import Mark
from align.search.remote.store import Passing, Store

FEW = 4096  # samples of a filter that are named to the server; of more, its answers are filtered here
QUERIES = 32  # queries in one request
SPARE = 32  # rows above the wanted number, for samples with several


@final
class Mirror:
    """A finder that asks a server, see ``align.search.finder.Finder``.

    mark: that of the collection when it was last made whole. top: above the number of its last sample.
    """

    def __init__(self, store: Store, mark: Mark, top: int):
        self.store, self.mark, self.top = store, mark, top

    def propose(self, query: Tensor, n: int, among: Tensor | None = None) -> Tensor:
        """Return up to n samples for each query (q, D): (q, n), best first, -1 where there are fewer.

        Raises Stale where the mirror has been changed or is gone, and Unavailable where the server does not answer.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if query.ndim != 2 or query.shape[1] != self.mark.dim:
            raise ValueError(f"a query of {self.mark.name} is (q, {self.mark.dim}); got {tuple(query.shape)}")
        self.check()
        query = query.detach().cpu().float()
        if not len(query):
            return torch.empty(0, n, dtype=torch.long)
        pieces = [self._propose(some, n, 0, self.top, among)[0] for some in query.split(QUERIES)]
        return torch.cat(pieces)

    def check(self) -> None:
        """Raise Stale where the mirror's rows are not those that were sent for this index."""
        found = self.store.read_mark(self.mark.name)
        if found != self.mark:
            why = "is not whole" if found is not None and not found.push else "was changed by another"
            raise Stale(f"{self.store.where}: the mirror of {self.mark.of} {why}")

    def _propose(self, query: Tensor, n: int, low: int, high: int, among: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return samples (q, n) and products (q, n) among the numbers from low to below high."""
        q = len(query)
        samples = torch.full((q, n), -1, dtype=torch.long)
        scores = torch.full((q, n), -torch.inf)
        if among is not None:
            among = among[(among >= low) & (among < high)]
            if not len(among):
                return samples, scores
        named = among is not None and len(among) <= FEW
        passing = Passing(
            low, TOP if high == self.top else high, among.tolist() if among is not None and named else None
        )
        limit, left = min(self.store.most, n + SPARE), torch.arange(q)
        while len(left):
            keys, products = self.store.search(self.mark.name, query[left], limit, passing)
            full = (keys >= 0).all(dim=1)
            found = read_numbers(keys)
            if among is not None and not named:
                found = found.where(torch.isin(found, among), -1)
            chosen, theirs = pick_first(found, products, n)
            samples[left], scores[left] = chosen, theirs
            left = left[full & (chosen[:, -1] < 0)]  # there are more rows, and too few samples yet
            if limit >= self.store.most:
                break
            limit = min(self.store.most, 4 * limit)
        if len(left) and high - low > 1:  # an answer is as long as one may be: each half gets its own
            middle = self._halve(low, high, among)
            halves = [self._propose(query[left], n, a, b, among) for a, b in ((low, middle), (middle, high))]
            both, theirs = (torch.cat(parts, dim=1) for parts in zip(*halves, strict=True))
            order = theirs.argsort(dim=1, descending=True, stable=True)[:, :n]
            samples[left], scores[left] = both.gather(1, order), theirs.gather(1, order)
        return samples, scores

    def _halve(self, low: int, high: int, among: Tensor | None) -> int:
        return (low + high) // 2 if among is None or len(among) < 2 else int(among[len(among) // 2])


def pick_first(found: Tensor, products: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the first n different samples (q, n) and their products, from rows' samples (q, L), best first.

    -1 in ``found`` is left out; -1 and -inf fill what is missing.
    """
    samples = torch.full((len(found), n), -1, dtype=torch.long)
    scores = torch.full((len(found), n), -torch.inf)
    for i, (row, score) in enumerate(zip(found.tolist(), products.tolist(), strict=True)):
        best: dict[int, float] = {}
        for number, product in zip(row, score, strict=True):
            if number >= 0 and number not in best:
                best[number] = product
                if len(best) == n:
                    break
        samples[i, : len(best)] = torch.tensor(list(best), dtype=torch.long)
        scores[i, : len(best)] = torch.tensor(list(best.values()))
    return samples, scores
