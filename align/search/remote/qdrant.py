"""Qdrant as a store of rows: over HTTP, by qdrant-client.

A point has the key as its id, and number and digest as its payload, with an index on number. Vectors are compared by
their inner product. The mark is the collection's metadata, which Qdrant has since version 1.16.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, final

import torch
from torch import Tensor

from align.search.finder import Stale
from align.search.remote.keys import read_numbers
from align.search.remote.mark import METRIC, Mark, read_mark
from align.search.remote.qdrant_connection import QdrantConnection
from align.search.remote.store import Collection, Passing

PATIENCE = 20.0  # seconds for one request
BYTES = 8 << 20  # of rows in one request, as JSON; a server takes 32 MB
LEAST = 256  # candidates that a search keeps


@final
class QdrantStore:
    """A Qdrant server, see ``Store`` and ``QdrantConnection``.

    client: a QdrantClient in place of one for the URL, such as QdrantClient(":memory:").
    """

    most = 16384

    def __init__(self, url: str, *, client: Any = None, effort: float = 1.0, patience: float = PATIENCE):
        self.url, self.effort = url, effort
        self.connection = QdrantConnection(url, patience, client)
        self.where = self.connection.where

    @property
    def failed(self) -> bool:
        """True where the last request met a server that did not answer."""
        return self.connection.pause.failed

    def say_effort(self) -> str:
        """Return the effort of a search in words."""
        return f"hnsw_ef {max(1, round(LEAST * self.effort))}"

    def block(self, dim: int) -> int:
        """Return the number of rows that one request may bring."""
        return max(1, BYTES // (24 * dim + 64))

    def describe(self, name: str) -> Collection | None:
        """Return a collection's facts, or None where there is none of this name."""
        try:
            with self.connection.asking() as client:
                found = client.get_collection(name)
        except Stale:
            return None
        vectors = found.config.params.vectors
        if isinstance(vectors, dict) or vectors is None:  # several vectors a point, or none
            return Collection(read_mark(found.config.metadata), None, None)
        metric = str(getattr(vectors.distance, "value", vectors.distance))
        return Collection(read_mark(found.config.metadata), vectors.size, METRIC if metric == "Dot" else metric)

    def read_mark(self, name: str) -> Mark | None:
        """Return a collection's mark, in one short request."""
        with self.connection.asking() as client:
            return read_mark(client.get_collection(name).config.metadata)

    def list_names(self) -> list[str]:
        """Return the names of all collections."""
        with self.connection.asking() as client:
            return [one.name for one in client.get_collections().collections]

    def create(self, mark: Mark) -> None:
        """Make an empty collection with its mark. Raises ValueError for a server that keeps no marks."""
        from qdrant_client import models

        with self.connection.asking() as client:
            client.create_collection(
                mark.name,
                vectors_config=models.VectorParams(size=mark.dim, distance=models.Distance.DOT, on_disk=True),
                metadata=mark.plain(),
            )
        if self.read_mark(mark.name) != mark:
            self.drop(mark.name)
            raise ValueError(f"{self.where} keeps no metadata of collections; Qdrant does so from version 1.16 on")

    def prepare(self, name: str) -> None:
        """Make a collection ready to be searched, also one whose making was stopped in the middle."""
        with self.connection.asking() as client:
            client.create_payload_index(name, "number", field_schema="integer", wait=True)

    def note(self, mark: Mark) -> None:
        """Put a mark in the place of a collection's mark."""
        with self.connection.asking() as client:
            client.update_collection(mark.name, metadata=mark.plain())

    def keys(self, name: str, low: int, high: int) -> dict[int, int]:
        """Return key -> digest of the rows of samples from low to below high."""
        found: dict[int, int] = {}
        place: Any = None
        while True:
            with self.connection.asking() as client:
                points, place = client.scroll(
                    name,
                    scroll_filter=write_filter(Passing(low, high)),
                    limit=self.most,
                    offset=place,
                    with_payload=["digest"],
                    with_vectors=False,
                )
            found.update((int(one.id), int((one.payload or {}).get("digest", 0))) for one in points)
            if place is None:
                return found

    def put(self, name: str, keys: Tensor, digests: Sequence[int], rows: Tensor) -> None:
        """Store rows (n, D) under keys (n,), over the rows that have these keys."""
        from qdrant_client import models

        payloads: list[Any] = [
            {"number": number, "digest": digest}
            for number, digest in zip(read_numbers(keys).tolist(), digests, strict=True)
        ]
        batch = models.Batch(ids=keys.tolist(), vectors=rows.float().tolist(), payloads=payloads)
        with self.connection.asking() as client:
            client.upsert(name, batch, wait=True)

    def remove(self, name: str, keys: Sequence[int]) -> None:
        """Remove the rows with these keys."""
        from qdrant_client import models

        for start in range(0, len(keys), self.most):
            some = models.PointIdsList(points=list(keys[start : start + self.most]))
            with self.connection.asking() as client:
                client.delete(name, points_selector=some, wait=True)

    def settle(self, name: str) -> None:
        """Do nothing: each change has waited for its end."""

    def search(self, name: str, query: Tensor, limit: int, passing: Passing) -> tuple[Tensor, Tensor]:
        """Return the keys (q, limit) and the products (q, limit) of the best rows, -1 and -inf for want of rows."""
        from qdrant_client import models

        asked = [
            models.QueryRequest(
                query=row,
                limit=limit,
                filter=write_filter(passing),
                params=models.SearchParams(hnsw_ef=max(limit, round(LEAST * self.effort))),
                with_payload=False,
                with_vector=False,
            )
            for row in query.tolist()
        ]
        with self.connection.asking() as client:
            answers = client.query_batch_points(name, requests=asked)
        keys = torch.full((len(query), limit), -1, dtype=torch.long)
        products = torch.full((len(query), limit), -torch.inf)
        for i, answer in enumerate(answers):
            keys[i, : len(answer.points)] = torch.tensor([int(one.id) for one in answer.points], dtype=torch.long)
            products[i, : len(answer.points)] = torch.tensor([float(one.score) for one in answer.points])
        return keys, products

    def drop(self, name: str) -> None:
        """Remove a collection. One that is not there is no error."""
        with suppress(Stale), self.connection.asking() as client:
            client.delete_collection(name)


def write_filter(passing: Passing) -> Any:
    """Return samples that may be found as a filter of Qdrant, None for all."""
    from qdrant_client import models

    if passing.only is not None:
        return models.Filter(must=[models.FieldCondition(key="number", match=models.MatchAny(any=list(passing.only)))])
    if passing.whole:
        return None
    between = models.Range(gte=passing.low, lt=passing.high)
    return models.Filter(must=[models.FieldCondition(key="number", range=between)])
