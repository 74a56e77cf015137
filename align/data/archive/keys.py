"""Hash of a shard's keys: two shards with one hash hold the same samples in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def hash_keys(keys: Iterable[str]) -> str:
    """Return the SHA-256 of a shard's keys, joined by newlines."""
    return hashlib.sha256("\n".join(keys).encode("utf-8", "surrogateescape")).hexdigest()
