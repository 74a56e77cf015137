"""A pass over shards that several processes share: each embeds whole batches, and all get every batch.

A batch is read and embedded by one rank alone, so its composition, and with it every bit, is that of a single process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from torch import Tensor

from align.data import Loader
from align.data.bad import Bad, Budget
from align.data.reading import Reading
from align.distributed import agree, rank, world
from align.preprocess import Preprocess
from align.values import Embeddings, Rows

Read = Callable[[Loader], Generator[Embeddings]]
"""Yields the table of each batch of a loader."""


def share_batches(
    read: Read, shards: Reading, readers: Mapping[str, Preprocess], batch: int, workers: int
) -> Generator[Embeddings]:
    """Yield the tables of all batches, in order, on every rank. Rank r reads the batches r, r + world, ….

    The bad of all batches are counted in ``shards`` on every rank, in the order of a single process. So every rank
    raises TooManyBad at the same batch. Each rank waits in ``align.distributed.agree`` for a batch of each other one.
    """
    steps = -(-len(shards) // batch)
    news: list[list[Bad]] = []

    def note(bad: Sequence[Bad]) -> list[Bad]:
        news.append(list(bad))
        return []

    loader = Loader(
        shards,
        readers,
        batch=batch,
        workers=workers,
        train=False,
        start_step=rank(),
        stride=world(),
        share=note,
        budget=Budget(1),
    )
    pieces = read(loader)
    budget = Budget(shards.max_bad, lost=shards.lost, total=len(shards))
    try:
        for first in range(0, steps, world()):
            content = b"" if first + rank() >= steps else pack(next(pieces), news.pop(0))
            for step, packed in enumerate(agree(content)[: steps - first], first):
                piece, bad = unpack(packed)
                for one in bad:
                    shards.count(one.reason, where=one.where)
                budget.add(bad, seen=min(batch, len(shards) - step * batch))
                if step == steps - 1:
                    budget.end_epoch()
                yield piece
    finally:
        pieces.close()


def pack(piece: Embeddings, bad: Sequence[Bad]) -> bytes:
    """Return a table and its bad members as bytes: tensors as safetensors, all else as JSON."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {"position": piece.position}
    for m, rows in piece.items():
        tensors |= {f"{m}/{name}": x for name, x in rows._asdict().items() if isinstance(x, Tensor)}
    tensors |= {name: x for name in ("group", "weight") if (x := getattr(piece, name)) is not None}
    facts = {"ids": piece.ids, "labels": piece.labels, "source": piece.source, "bad": bad, "modalities": [*piece]}
    about = json.dumps(facts).encode()
    whole = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    return len(about).to_bytes(8, "little") + about + save(whole)


def unpack(content: bytes) -> tuple[Embeddings, list[Bad]]:
    """Return the table and the bad members of ``pack``, equal to the bit."""
    from safetensors.torch import load

    end = 8 + int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(content[8:end])
    tensors = load(content[end:])
    rows = {m: Rows(**{name: tensors.get(f"{m}/{name}") for name in Rows._fields}) for m in facts["modalities"]}  # pyright: ignore[reportArgumentType]
    piece = Embeddings(
        rows,
        facts["ids"],
        tensors["position"],
        facts["labels"],
        facts["source"],
        group=tensors.get("group"),
        weight=tensors.get("weight"),
    )
    return piece, [Bad(*one) for one in facts["bad"]]
