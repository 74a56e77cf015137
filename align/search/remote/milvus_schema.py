"""Collections of rows as Milvus describes them.

A collection has the fields key (INT64, primary), number (INT64), digest (INT64) and row (FLOAT_VECTOR), and the index
HNSW or FLAT by inner product. Its mark is the property "align" of the collection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from align.search.remote.mark import METRIC, Mark, read_mark

PROPERTY = "align"


def make_schema(client: Any, dim: int) -> Any:
    """Return the fields of a collection. dim: numbers in a row."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.INT64, is_primary=True)
    schema.add_field("number", DataType.INT64)
    schema.add_field("digest", DataType.INT64)
    schema.add_field("row", DataType.FLOAT_VECTOR, dim=dim)
    return schema


def make_index(client: Any, kind: Literal["HNSW", "FLAT"]) -> Any:
    """Return the parameters of a collection's index."""
    index = client.prepare_index_params()
    how = {"M": 32, "efConstruction": 256} if kind == "HNSW" else {}
    index.add_index("row", index_type=kind, metric_type=METRIC, params=how)
    return index


def write_property(mark: Mark) -> dict[str, str]:
    """Return a mark as a property of a collection."""
    return {PROPERTY: json.dumps(mark.plain())}


def read_property(found: Mapping[str, Any]) -> Mark | None:
    """Return the mark of a collection from its description, None where it has none of ours."""
    try:
        return read_mark(json.loads((found.get("properties") or {}).get(PROPERTY, "")))
    except ValueError:
        return None
