"""Milvus as a store of rows.

Searches are at the level "Strong": they see every row that was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, final

import torch
from torch import Tensor

from align.search.finder import Stale
from align.search.remote.mark import METRIC, Mark
from align.search.remote.milvus_connection import MilvusConnection, list_errors
from align.search.remote.milvus_schema import make_index, make_schema, read_property, write_property
from align.search.remote.store import Collection, Passing

PATIENCE = 20.0  # seconds for one request
BYTES = 16 << 20  # of rows in one request; a server takes 64 MB
RELEASED = 101  # code of the server: a collection that is not in memory
LEAST, MOST = 256, 32768  # candidates that a search in HNSW keeps


@final
class MilvusStore:
    """A Milvus server, see ``Store`` and ``MilvusConnection``.

    kind: how new collections are searched. FLAT compares every row.
    """

    most = 16384

    def __init__(
        self, url: str, *, kind: Literal["HNSW", "FLAT"] = "HNSW", effort: float = 1.0, patience: float = PATIENCE
    ):
        self.url, self.effort, self.patience = url, effort, patience
        self.kind: Literal["HNSW", "FLAT"] = kind
        self.connection = MilvusConnection(url, patience)
        self.where = self.connection.where

    @property
    def failed(self) -> bool:
        """True where the last request met a server that did not answer."""
        return self.connection.pause.failed

    def say_effort(self) -> str:
        """Return the effort of a search in words."""
        return f"ef {min(MOST, max(1, round(LEAST * self.effort)))}"

    def block(self, dim: int) -> int:
        """Return the number of rows that one request may bring."""
        return max(1, BYTES // (4 * dim + 32))

    def describe(self, name: str) -> Collection | None:
        """Return a collection's facts, or None where there is none of this name."""
        try:
            with self.connection.asking() as client:
                found = client.describe_collection(name, timeout=self.patience)
                rows = [field for field in found["fields"] if field["name"] == "row"]
                dim = rows[0]["params"].get("dim") if rows else None
                metric = None
                with suppress(*list_errors()):  # a killed making leaves a collection without an index
                    metric = (client.describe_index(name, "row", timeout=self.patience) or {}).get("metric_type")
        except Stale:
            return None
        return Collection(read_property(found), None if dim is None else int(dim), metric)

    def read_mark(self, name: str) -> Mark | None:
        """Return a collection's mark, in one short request."""
        with self.connection.asking() as client:
            return read_property(client.describe_collection(name, timeout=self.patience))

    def list_names(self) -> list[str]:
        """Return the names of all collections."""
        with self.connection.asking() as client:
            return list(client.list_collections(timeout=self.patience))

    def create(self, mark: Mark) -> None:
        """Make an empty collection with its mark."""
        with self.connection.asking() as client:
            client.create_collection(
                mark.name,
                schema=make_schema(client, mark.dim),
                properties=write_property(mark),
                consistency_level="Strong",
                timeout=self.patience,
            )

    def prepare(self, name: str) -> None:
        """Make a collection ready to be searched, also one whose making was stopped in the middle."""
        with self.connection.asking() as client:
            if not client.list_indexes(name, timeout=self.patience):
                client.create_index(name, make_index(client, self.kind), timeout=self.patience)
            client.load_collection(name, timeout=self.patience)

    def note(self, mark: Mark) -> None:
        """Put a mark in the place of a collection's mark."""
        with self.connection.asking() as client:
            client.alter_collection_properties(mark.name, properties=write_property(mark), timeout=self.patience)

    def keys(self, name: str, low: int, high: int) -> dict[int, int]:
        """Return key -> digest of the rows of samples from low to below high."""
        found = self._ask_loaded(
            name,
            lambda client: client.query(
                name,
                filter=f"number >= {low} and number < {high}",
                output_fields=["key", "digest"],
                limit=self.most,
                consistency_level="Strong",
                timeout=self.patience,
            ),
        )
        if len(found) >= self.most and high - low > 1:  # as many as one answer may have: there can be more
            middle = (low + high) // 2
            return self.keys(name, low, middle) | self.keys(name, middle, high)
        return {int(one["key"]): int(one["digest"]) for one in found}

    def put(self, name: str, keys: Tensor, digests: Sequence[int], rows: Tensor) -> None:
        """Store rows (n, D) under keys (n,), over the rows that have these keys."""
        from align.search.remote.keys import read_numbers

        values, numbers = rows.float().numpy(), read_numbers(keys).tolist()
        data = [
            {"key": key, "number": number, "digest": digest, "row": row}
            for key, number, digest, row in zip(keys.tolist(), numbers, digests, values, strict=True)
        ]
        with self.connection.asking() as client:
            client.upsert(name, data, timeout=self.patience)

    def remove(self, name: str, keys: Sequence[int]) -> None:
        """Remove the rows with these keys."""
        for start in range(0, len(keys), self.most):
            with self.connection.asking() as client:
                client.delete(name, ids=list(keys[start : start + self.most]), timeout=self.patience)

    def settle(self, name: str) -> None:
        """Bring all changes to the disk, and into what a search sees."""
        with self.connection.asking() as client:
            client.flush(name, timeout=max(self.patience, 120.0))

    def search(self, name: str, query: Tensor, limit: int, passing: Passing) -> tuple[Tensor, Tensor]:
        """Return the keys (q, limit) and the products (q, limit) of the best rows, -1 and -inf for want of rows."""
        found = self._ask_loaded(
            name,
            lambda client: client.search(
                name,
                data=list(query.numpy()),
                limit=limit,
                filter=write_filter(passing),
                output_fields=["key"],
                search_params={
                    "metric_type": METRIC,
                    "params": {"ef": min(MOST, max(limit, round(LEAST * self.effort)))},
                },
                consistency_level="Strong",
                timeout=self.patience,
            ),
        )
        keys = torch.full((len(query), limit), -1, dtype=torch.long)
        products = torch.full((len(query), limit), -torch.inf)
        for i, hits in enumerate(found):
            keys[i, : len(hits)] = torch.tensor([int(hit["key"]) for hit in hits], dtype=torch.long)
            products[i, : len(hits)] = torch.tensor([float(hit["distance"]) for hit in hits])
        return keys, products

    def drop(self, name: str) -> None:
        """Remove a collection. One that is not there is no error."""
        with suppress(Stale), self.connection.asking() as client:
            client.drop_collection(name, timeout=self.patience)

    def _ask_loaded(self, name: str, ask: Any) -> Any:
        """Ask a collection, which a server that was started anew has to load first."""
        from pymilvus.exceptions import MilvusException

        with self.connection.asking() as client:
            try:
                return ask(client)
            except MilvusException as error:
                if error.code != RELEASED:
                    raise
                client.load_collection(name, timeout=self.patience)
                return ask(client)


def write_filter(passing: Passing) -> str:
    """Return samples that may be found as a filter of Milvus, "" for all.

    >>> write_filter(Passing(0, 9)), write_filter(Passing(4, 9, [5, 7]))
    ('number >= 0 and number < 9', 'number in [5, 7]')
    """
    if passing.only is not None:
        return f"number in [{', '.join(map(str, passing.only))}]"
    return "" if passing.whole else f"number >= {passing.low} and number < {passing.high}"
