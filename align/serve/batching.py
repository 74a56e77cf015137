"""Rows of requests that arrive within a few milliseconds are embedded together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from align.model import JointModel
from align.serve.limits import Limits
from align.serve.refusal import Refusal


class _Waiting(NamedTuple):
    modality: str
    rows: Sequence[Tensor]
    answer: asyncio.Future[Tensor]


@final
class Batcher:
    """A queue of rows in front of a model, which one thread embeds.

    A row's embedding does not depend on the rows beside it, so answers equal those of single requests up to rounding.
    passes: modality -> rows of a forward pass -> the number of such passes. threads: the model's one thread.
    """

    def __init__(self, model: JointModel, limits: Limits):
        self._model = model
        self._limits = limits
        self._queue: list[_Waiting] = []
        self._size = 0  # rows in the queue and in the thread
        self._task: asyncio.Task[None] | None = None
        self.threads = ThreadPoolExecutor(1, "model")
        self.passes: dict[str, Counter[int]] = {}

    @property
    def batches(self) -> int:
        """Forward passes so far."""
        return sum(counts.total() for counts in self.passes.values())

    @property
    def rows(self) -> int:
        """Rows that they embedded."""
        return sum(rows * n for counts in self.passes.values() for rows, n in counts.items())

    @property
    def waiting(self) -> int:
        """Rows that are being embedded or wait for it."""
        return self._size

    async def embed(self, modality: str, rows: Sequence[Tensor]) -> Tensor:
        """Return (n, D), on the CPU, for rows that the modality's preprocess has read.

        Raises Refusal (429) where too many rows wait.
        """
        if self._size + len(rows) > self._limits.queue:
            raise Refusal(429, "too many rows wait to be embedded; ask again in a second", retry=1)
        answer: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._size += len(rows)
        self._queue.append(_Waiting(modality, rows, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await answer

    def close(self) -> None:
        """End the thread after its last batch."""
        self.threads.shutdown(wait=False)

    async def _drain(self) -> None:
        """Embed the rows that wait, until none is left."""
        if self._limits.window:
            await asyncio.sleep(self._limits.window)
        while self._queue:
            group = self._take()
            await self._answer(group)
            self._size -= sum(len(one.rows) for one in group)

    def _take(self) -> list[_Waiting]:
        """Return the oldest request and those behind it that fit into its batch."""
        first, size = self._queue[0], 0
        group: list[_Waiting] = []
        left: list[_Waiting] = []
        for one in self._queue:
            fits = not group or (one.modality == first.modality and size + len(one.rows) <= self._limits.batch)
            (group if fits else left).append(one)
            size += len(one.rows) if fits else 0
        self._queue = left
        return group

    async def _answer(self, group: Sequence[_Waiting]) -> None:
        asked = [one for one in group if not one.answer.done()]  # the others' clients are gone
        if not asked:
            return
        rows = [row for one in asked for row in one.rows]
        try:
            out = await self._run(asked[0].modality, rows)
        except Exception as error:
            if len(asked) == 1:
                if not asked[0].answer.done():
                    asked[0].answer.set_exception(error)
                return
            for one in asked:  # a row that the model refuses ends its own request alone
                await self._answer([one])
            return
        start = 0
        for one in asked:
            if not one.answer.done():
                one.answer.set_result(out[start : start + len(one.rows)])
            start += len(one.rows)

    async def _run(self, modality: str, rows: Sequence[Tensor]) -> Tensor:
        counts = self.passes.setdefault(modality, Counter())
        counts.update(
            len(rows[start : start + self._limits.batch]) for start in range(0, len(rows), self._limits.batch)
        )
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._embed, modality, rows)

    def _embed(self, modality: str, rows: Sequence[Tensor]) -> Tensor:
        preprocess = self._model.preprocess[modality]
        parts = [
            self._model.embed_values(modality, preprocess.collate(rows[start : start + self._limits.batch])).cpu()
            for start in range(0, len(rows), self._limits.batch)
        ]
        return torch.cat(parts)


def as_row(array: Any) -> Tensor:
    """Return a row that came from a decoder as a tensor."""
    return torch.from_numpy(array)
