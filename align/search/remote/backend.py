"""Milvus and Qdrant as backends of an index."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, final
from urllib.parse import urlsplit

from torch import Tensor

from align.search.finder import Stale
from align.search.remote.address import Address, read_address
from align.search.remote.keys import TOP
from align.search.remote.mark import Mark, name_collection, name_prefix, read_mark
from align.search.remote.milvus import MilvusStore
from align.search.remote.proposals import Mirror
from align.search.remote.push import check_place, push
from align.search.remote.qdrant import QdrantStore
from align.search.remote.store import Store

PORTS = {MilvusStore: 19530, QdrantStore: 6333}
PATIENCE = 1.0  # seconds for an answer, where only the server's health is asked for


@final
class Remote:
    """Rows of an index on a server, see ``align.search.finder.Backend``.

    name: the address by which the index finds the server again. index: the index's id, for ``drop``.
    """

    rerank = 100
    """Samples of an answer that are scored exactly."""

    def __init__(self, store: Store, name: str, index: str = ""):
        self.store, self.name, self.index = store, name, index

    @property
    def effort(self) -> float:
        """The factor of the effort of searches."""
        return self.store.effort

    def check_place(self, of: str, facts: Mapping[str, Any]) -> None:
        """Raise ValueError where the server has something else under the mirror's name. Nothing is written."""
        check_place(self.store, self._mark(of, facts))

    def check(self, of: str, facts: Mapping[str, Any]) -> None:
        """Raise ValueError where a mirror is not the one that was made whole, or has another number of rows."""
        try:
            found, stated = len(self.store.keys(self.open(of, facts).mark.name, 0, TOP)), int(facts["rows"])
        except Stale as error:
            raise ValueError(str(error)) from None
        if found != stated:
            raise ValueError(f"{self.store.where}: the mirror of {of} has {found} rows, the index {stated}")

    def is_whole(self, of: str, facts: Mapping[str, Any]) -> bool:
        """Return True where a mirror is the one that was made whole."""
        try:
            self.open(of, facts)
        except Stale:
            return False
        return True

    def say_effort(self, facts: Mapping[str, Any]) -> str:
        """Return the effort of a search in words."""
        return f"{self.store.say_effort()}, best {self.rerank} re-scored exactly"

    def make(self, of: str, rows: Iterator[tuple[Tensor, Tensor]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Bring a mirror in step with the rows, see ``push``, and return the facts by which it is opened.

        Raises ValueError where another program removes the mirror meanwhile.
        """
        mark = self._mark(of, facts)
        try:
            done = push(self.store, mark, rows)
        except Stale as error:
            raise ValueError(f"{error}: another program removed it while rows were sent; try again") from None
        return {
            "mirror": mark.with_push(done.push).plain(),
            "sent": done.sent,
            "removed": done.removed,
            "top": done.top,
        }

    def open(self, of: str, facts: Mapping[str, Any]) -> Mirror:
        """Return the finder of a mirror that was made whole. Raises Stale where it is not that one any more."""
        mark = read_mark(facts.get("mirror"))
        if mark is None:
            raise Stale(f"{self.store.where}: the mirror of {of} was never made whole")
        self.index = mark.index
        finder = Mirror(self.store, mark, int(facts.get("top", 0)))
        finder.check()
        return finder

    def trouble(self) -> str:
        """Return a line for a server that cannot be reached now, "" where it answers. It takes a second or so."""
        parts = urlsplit(self.store.url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else PORTS[type(self.store)])
            socket.create_connection((parts.hostname or "", port), PATIENCE).close()
        except OSError as error:
            return f"{self.store.where} does not answer: {error.strerror or error}"
        return self._ask_shortly() if self.store.failed else ""  # it takes connections: does it answer too?

    def _ask_shortly(self) -> str:
        """Return a line where the server does not answer within ``PATIENCE``, which is less than a request has."""
        said: list[str] = []

        def ask() -> None:
            try:
                self.store.list_names()
                said.append("")
            except OSError as error:
                said.append(str(error))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return said[0] if said else f"{self.store.where} does not answer within {PATIENCE:g} s"

    def drop(self) -> None:
        """Remove the index's mirrors. Collections of others stay, also where they have a mirror's name."""
        self.sweep({})

    def sweep(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove the index's mirrors of other modalities than these."""
        names = {name_collection(self.index, of) for of in kept}
        for name in self.store.list_names():
            if self.index and name.startswith(name_prefix(self.index)) and name not in names:
                with suppress(Stale):  # another program has removed it since it was listed
                    mark = self.store.read_mark(name)
                    if mark is not None and mark.index == self.index:
                        self.store.drop(name)

    def _mark(self, of: str, facts: Mapping[str, Any]) -> Mark:
        self.index = str(facts["index"])
        return Mark(self.index, of, int(facts["dim"]), str(facts.get("model", "")), int(facts["generation"]))


def connect(
    address: str | Address, *, index: str = "", effort: float = 1.0, kind: Literal["HNSW", "FLAT"] = "HNSW"
) -> Remote:
    """Return the backend at an address, see ``read_address``.

    index: the index's id, for ``drop``. effort: the factor of the effort of searches. kind: how Milvus searches new
        mirrors.

    Raises ImportError, with the command that installs it, where the server's client is missing.
    """
    found = read_address(address) if isinstance(address, str) else address
    store = (
        MilvusStore(found.url, kind=kind, effort=effort)
        if found.kind == "milvus"
        else QdrantStore(found.url, effort=effort)
    )
    return Remote(store, str(found), index)
