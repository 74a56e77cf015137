"""Milvus as a store of rows: over gRPC, by pymilvus.

A collection has the fields key (INT64, primary), number (INT64), digest (INT64) and row (FLOAT_VECTOR), and the index
HNSW or FLAT by inner product. Its mark is the property "align" of the collection. Searches are at the level "Strong":
they see every row that was sent.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, final

import torch
from torch import Tensor

from align.extras import has_part, pip_install
from align.search.finder import Stale, Unavailable
from align.search.remote.mark import METRIC, Mark, read_mark
from align.search.remote.store import Collection, Passing

PROPERTY = "align"
PATIENCE = 20.0  # seconds for one request
BYTES = 16 << 20  # of rows in one request; a server takes 64 MB
GONE, RELEASED = 100, 101  # codes of the server: no such collection, and one that is not in memory
FORBIDDEN = ("UNAUTHENTICATED", "PERMISSION_DENIED", "auth check failure", "permission deny")
OPTIONS = {
    "grpc.use_local_subchannel_pool": 1,  # a new client does not wait for the pause of one that failed
    "grpc.keepalive_time_ms": 600_000,  # servers refuse clients that ping more often than every 5 minutes
}
LEAST, MOST = 256, 32768  # candidates that a search in HNSW keeps


@final
class MilvusStore:
    """A Milvus server, see ``Store``. The token is that of the environment: ALIGN_MILVUS_TOKEN.

    kind: how new collections are searched. FLAT compares every row.
    """

    most = 16384

    def __init__(
        self, url: str, *, kind: Literal["HNSW", "FLAT"] = "HNSW", effort: float = 1.0, patience: float = PATIENCE
    ):
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC, which reads it at import, writes to stderr by itself
        if not has_part("pymilvus", "MilvusClient"):
            raise ImportError(f"Milvus needs pymilvus: {pip_install('milvus')}")
        self.url, self.kind, self.effort, self.patience = url, kind, effort, patience
        self.where = f"Milvus at {url}"
        self.failed = False
        self._client: Any = None
        self._lock = threading.Lock()

    def say_effort(self) -> str:
        """Return the effort of a search in words."""
        return f"ef {min(MOST, max(1, round(LEAST * self.effort)))}"

    def block(self, dim: int) -> int:
        """Return the number of rows that one request may bring."""
        return max(1, BYTES // (4 * dim + 32))

    def describe(self, name: str) -> Collection | None:
        """Return a collection's facts, or None where there is none of this name."""
        try:
            with self._asking() as client:
                found = client.describe_collection(name, timeout=self.patience)
                rows = [field for field in found["fields"] if field["name"] == "row"]
                dim = rows[0]["params"].get("dim") if rows else None
                metric = None
                with suppress(*self._errors()):  # a killed making leaves a collection without an index
                    metric = (client.describe_index(name, "row", timeout=self.patience) or {}).get("metric_type")
        except Stale:
            return None
        return Collection(_read(found), None if dim is None else int(dim), metric)

    def read_mark(self, name: str) -> Mark | None:
        """Return a collection's mark, in one short request."""
        with self._asking() as client:
            return _read(client.describe_collection(name, timeout=self.patience))

    def list_names(self) -> list[str]:
        """Return the names of all collections."""
        with self._asking() as client:
            return list(client.list_collections(timeout=self.patience))

    def create(self, mark: Mark) -> None:
        """Make an empty collection with its mark."""
        from pymilvus import DataType

        with self._asking() as client:
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", DataType.INT64, is_primary=True)
            schema.add_field("number", DataType.INT64)
            schema.add_field("digest", DataType.INT64)
            schema.add_field("row", DataType.FLOAT_VECTOR, dim=mark.dim)
            client.create_collection(
                mark.name,
                schema=schema,
                properties={PROPERTY: json.dumps(mark.plain())},
                consistency_level="Strong",
                timeout=self.patience,
            )

    def prepare(self, name: str) -> None:
        """Make a collection ready to be searched, also one whose making was stopped in the middle."""
        with self._asking() as client:
            if not client.list_indexes(name, timeout=self.patience):
                index = client.prepare_index_params()
                how = {"M": 32, "efConstruction": 256} if self.kind == "HNSW" else {}
                index.add_index("row", index_type=self.kind, metric_type=METRIC, params=how)
                client.create_index(name, index, timeout=self.patience)
            client.load_collection(name, timeout=self.patience)

    def note(self, mark: Mark) -> None:
        """Put a mark in the place of a collection's mark."""
        with self._asking() as client:
            properties = {PROPERTY: json.dumps(mark.plain())}
            client.alter_collection_properties(mark.name, properties=properties, timeout=self.patience)

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
        with self._asking() as client:
            client.upsert(name, data, timeout=self.patience)

    def remove(self, name: str, keys: Sequence[int]) -> None:
        """Remove the rows with these keys."""
        for start in range(0, len(keys), self.most):
            with self._asking() as client:
                client.delete(name, ids=list(keys[start : start + self.most]), timeout=self.patience)

    def settle(self, name: str) -> None:
        """Bring all changes to the disk, and into what a search sees."""
        with self._asking() as client:
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
        with suppress(Stale), self._asking() as client:
            client.drop_collection(name, timeout=self.patience)

    def _ask_loaded(self, name: str, ask: Any) -> Any:
        """Ask a collection, which a server that was started anew has to load first."""
        from pymilvus.exceptions import MilvusException

        with self._asking() as client:
            try:
                return ask(client)
            except MilvusException as error:
                if error.code != RELEASED:
                    raise
                client.load_collection(name, timeout=self.patience)
                return ask(client)

    def _connect(self) -> Any:
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # its errors are raised and logged; one is enough
        with self._lock:
            if self._client is None:
                token = os.environ.get("ALIGN_MILVUS_TOKEN", "")
                self._client = MilvusClient(
                    uri=self.url, token=token, timeout=self.patience, dedicated=True, grpc_options=OPTIONS
                )
            return self._client

    def _errors(self) -> tuple[type[Exception], ...]:
        import grpc
        from pymilvus.exceptions import MilvusException

        return MilvusException, grpc.RpcError, grpc.FutureTimeoutError

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """Yield a connection. An error of it becomes one line, and the next request makes a new one."""
        try:
            yield self._connect()
            self.failed = False
        except self._errors() as error:
            if getattr(error, "code", None) == GONE:
                raise Stale(f"{self.where}: a mirror is gone") from None
            self._client = None
            text = _say(error)
            if any(word in text for word in FORBIDDEN):
                raise PermissionError(f"{self.where} refuses the token; set ALIGN_MILVUS_TOKEN") from None
            self.failed = True
            raise Unavailable(f"{self.where} does not answer: {text}") from None


def write_filter(passing: Passing) -> str:
    """Return samples that may be found as a filter of Milvus, "" for all.

    >>> write_filter(Passing(0, 9)), write_filter(Passing(4, 9, [5, 7]))
    ('number >= 0 and number < 9', 'number in [5, 7]')
    """
    if passing.only is not None:
        return f"number in [{', '.join(map(str, passing.only))}]"
    return "" if passing.whole else f"number >= {passing.low} and number < {passing.high}"


def _read(found: dict[str, Any]) -> Mark | None:
    try:
        return read_mark(json.loads((found.get("properties") or {}).get(PROPERTY, "")))
    except ValueError:
        return None


def _say(error: Exception) -> str:
    """Return an error of the client in a few words."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else getattr(error, "message", "") or error)
    return " ".join(text.split())[:200] or type(error).__name__
