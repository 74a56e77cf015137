"""Embedding of the samples that are still to be embedded, into blocks that a killed build goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.data.bad import Budget
from align.embedding.embed import check_finite, embed_batches
from align.embedding.tables import tensor_of
from align.model import JointModel
from align.search.building.chosen import Chosen
from align.search.building.staging import Block, Segment, Staging
from align.search.building.stock import Stock, tell
from align.values import Embeddings, Rows

SAMPLES = 1024  # of a block
SECONDS = 20.0  # after which a smaller block is written
Progress = Callable[[int, int], None]


def embed_into(
    staging: Staging,
    model: JointModel,
    stock: Stock,
    positions: np.ndarray,
    *,
    batch: int = 64,
    workers: int = 0,
    max_bad: float = 0.001,
    again: Collection[int] = (),
    progress: Progress | None = None,
) -> Budget:
    """Embed samples of a stock, and return the counts of the bad ones.

    Samples that the staging has seen are passed over. Blocks are whole batches, so the rows of a build that was stopped
    are those of one that was not, bit for bit. Whatever ends the embedding, the batches that are done are kept.

    Bad samples are judged by their share of the whole stock, since the others were read before.

    positions: (n,) int64, ascending. again: those of samples that gave no row before, which an earlier build has
    allowed. progress: called with (samples done, samples in all).
    Raises ValueError for an embedding that is not finite, and TooManyBad.
    """
    ends = np.cumsum([portion.n for portion in stock.portions])
    names = [tell(portion) for portion in stock.portions]
    left = positions[~find_seen(staging, names, ends, positions)]
    done, total, everything = len(positions) - len(left), len(positions), sum(portion.n for portion in stock.portions)
    budget = Budget(
        max_bad,
        lost=stock.reading.lost,
        state=(staging.budget or None) if done else None,
        whole="in all",
        total=everything,
        tolerated=np.flatnonzero(np.isin(left, list(again))).tolist(),
    )
    if not done:
        budget.add((), everything - total)
    if progress is not None:
        progress(done, total)
    if not len(left):
        return budget
    pieces: list[tuple[Embeddings, np.ndarray]] = []
    start, at = time.monotonic(), 0
    counted = budget.state()  # of the batches that came, without one that ends the embedding

    def keep() -> None:
        nonlocal pieces, start
        if pieces:
            staging.write(join_pieces(pieces, names, ends, counted))
            pieces, start = [], time.monotonic()

    found = embed_batches(
        model, Chosen(stock.reading, left), batch, workers, modalities=stock.modalities, budget=budget
    )
    try:
        for piece in found:
            check_finite(piece)
            pieces.append((piece, left[at : at + piece.size]))
            counted = budget.state()
            at += piece.size
            if progress is not None:
                progress(done + at, total)
            if sum(p.size for p, _ in pieces) >= SAMPLES or time.monotonic() - start > SECONDS:
                keep()
        keep()
    except BaseException:
        with suppress(OSError):  # a full disk ends it a second time
            keep()
        raise
    return budget


def find_seen(staging: Staging, names: Sequence[str], ends: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return (n,) bool: the positions whose samples the staging has seen. names, ends: of the portions."""
    places = {name: i for i, name in enumerate(names)}
    seen = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=bool)
    for portion, start, stop in staging.seen:
        if (i := places.get(portion)) is not None:
            first = int(ends[i - 1]) if i else 0
            seen[first + start : first + stop] = True
    return seen[positions]


def join_pieces(
    pieces: Sequence[tuple[Embeddings, np.ndarray]],
    names: Sequence[str],
    ends: np.ndarray,
    counted: Mapping[str, Any] | None = None,
) -> Block:
    """Return consecutive batches as a block. Each comes with the positions of its samples in the stock.

    Hard negatives are left out, and samples without a row. counted: the state of the budget of bad samples.
    """
    block = Block(budget=counted or {})
    values: dict[str, list[Tensor]] = {}
    samples: dict[str, list[Tensor]] = {}
    for piece, positions in pieces:
        place = torch.full((piece.size,), -1)
        for i, (entry, position) in enumerate(zip(piece.source, positions.tolist(), strict=True)):
            if entry:
                place[i] = len(block.entries)
                block.entries.append(entry)
                block.places.append(names[int(np.searchsorted(ends, position, side="right"))])
        for m, rows in piece.items():
            kept = rows.sample >= 0
            values.setdefault(m, []).append(tensor_of(rows)[kept].float())
            samples.setdefault(m, []).append(place[rows.sample[kept]])
    block.rows = {m: Rows(torch.cat(values[m]), torch.cat(samples[m])) for m in values}
    block.segments = [*_segments(np.concatenate([positions for _, positions in pieces]), names, ends)]
    return block


def _segments(positions: np.ndarray, names: Sequence[str], ends: np.ndarray) -> Iterator[Segment]:
    """Yield the runs of neighbours among ascending positions, cut at the ends of portions."""
    portions = np.searchsorted(ends, positions, side="right")
    cuts = np.flatnonzero((np.diff(positions) != 1) | (np.diff(portions) != 0)) + 1
    for run in np.split(np.arange(len(positions)), cuts):
        i = int(portions[run[0]])
        first = int(ends[i - 1]) if i else 0
        yield Segment(names[i], int(positions[run[0]]) - first, int(positions[run[-1]]) - first + 1)
