"""A server of vectors behind an index: it mirrors the rows of the folder, which stays the truth."""

from align.search.remote.address import Address, is_address, read_address
from align.search.remote.backend import Remote, connect

__all__ = ["Address", "Remote", "connect", "is_address", "read_address"]

FLOORS = (
    ("address", "keys", "mark", "pause"),
    ("milvus_connection", "milvus_schema", "qdrant_connection", "store"),
    ("milvus", "proposals", "push", "qdrant"),
    ("backend",),
)
