"""Kinds of approximate search by faiss: what is built of the rows, and the effort of a search.

- hnsw: a graph of neighbours over the float32 rows (Malkov and Yashunin 2018, arXiv 1603.09320).
- int8: the same graph over 8 bits a number.
- ivfpq: rows in cells, each as product codes of D / 4 bytes (Jégou et al. 2011, "Product quantization for nearest
  neighbor search"), after a random rotation. A learnt one (OPQ) took most of a build's time.
- binary: rows in cells, each as one bit a number with two factors, and a query of 8 bits a number: RaBitQ (Gao and Long
  2024, arXiv 2405.12497). It scores a query that lies away from the rows, as another modality's do, where comparing
  signs with signs loses a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

LINKS = 32  # neighbours of a row in a graph, twice as many on its ground floor
CONSTRUCTION = 100  # candidates that are looked at to place a row
BEAM = 100  # candidates of a search in a graph
SHARE = 1 / 16  # of the cells that a search reads
TRAINING = 64  # rows for each cell, from which the cells are learnt
RANGE = 20_000  # rows from which the range of each number is learnt
PROBES = 32  # cells that a search reads at least


class Kind(NamedTuple):
    """A kind of approximate search.

    least: rows below which it cannot be made. rerank: samples that are scored exactly. make: (dim, rows) -> an empty
    index of faiss. training: rows that it learns from, by the number of rows. params: (facts, n, effort, selector) ->
    the parameters of a search for n rows.
    """

    name: str
    least: int
    rerank: int
    make: Callable[[int, int], Any]
    training: Callable[[int], int]
    params: Callable[[Mapping[str, Any], int, float, Any], Any]
    effort: Callable[[Mapping[str, Any], int, float], str]


def load_faiss() -> Any:
    """Return the module faiss, whose wrappers add arguments that its type stubs do not know."""
    return import_module("faiss")


def count_cells(rows: int) -> int:
    """Return the number of cells, 2 √rows."""
    return max(1, min(int(2 * math.sqrt(rows)), rows // 4))


def _graph(dim: int, rows: int) -> Any:
    faiss = load_faiss()

    made = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
    made.hnsw.efConstruction = CONSTRUCTION
    return made


def _graph_of_bytes(dim: int, rows: int) -> Any:
    faiss = load_faiss()

    made = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
    made.hnsw.efConstruction = CONSTRUCTION
    return made


def _product_codes(dim: int, rows: int) -> Any:
    faiss = load_faiss()

    parts = next(m for m in range(max(1, dim // 4), 0, -1) if dim % m == 0)
    cells = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, count_cells(rows), parts, 8, faiss.METRIC_INNER_PRODUCT)
    cells.cp.spherical = True
    _learn_quickly(cells)
    codes = cells.pq.cp
    codes.niter, codes.min_points_per_centroid, codes.max_points_per_centroid = 5, 1, TRAINING // 2
    return faiss.IndexPreTransform(faiss.RandomRotationMatrix(dim, dim), cells)


def _bits(dim: int, rows: int) -> Any:
    faiss = load_faiss()

    made = faiss.index_factory(dim, f"IVF{count_cells(rows)},RaBitQ", faiss.METRIC_INNER_PRODUCT)
    _learn_quickly(made)
    return made


def _learn_quickly(cells: Any) -> None:
    cells.cp.niter, cells.cp.min_points_per_centroid, cells.cp.max_points_per_centroid = 10, 1, TRAINING


def _beam(n: int, effort: float) -> int:
    return max(n, round(BEAM * effort))


def _probes(facts: Mapping[str, Any], effort: float) -> int:
    cells = int(facts["cells"])
    return min(cells, round(max(PROBES, cells * SHARE) * effort) or 1)


def _search_graph(facts: Mapping[str, Any], n: int, effort: float, selector: Any) -> Any:
    faiss = load_faiss()

    return faiss.SearchParametersHNSW(efSearch=_beam(n, effort), sel=selector)


def _search_codes(facts: Mapping[str, Any], n: int, effort: float, selector: Any) -> Any:
    faiss = load_faiss()

    inner = faiss.SearchParametersIVF(nprobe=_probes(facts, effort), sel=selector)
    return faiss.SearchParametersPreTransform(index_params=inner)


def _search_bits(facts: Mapping[str, Any], n: int, effort: float, selector: Any) -> Any:
    faiss = load_faiss()

    return faiss.IVFRaBitQSearchParameters(nprobe=_probes(facts, effort), qb=8, sel=selector)


def _say_beam(facts: Mapping[str, Any], n: int, effort: float) -> str:
    return f"efSearch {_beam(n, effort)}"


def _say_probes(facts: Mapping[str, Any], n: int, effort: float) -> str:
    return f"{_probes(facts, effort)} of {facts['cells']} cells"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("hnsw", 1, 100, _graph, lambda rows: 0, _search_graph, _say_beam),
        Kind("ivfpq", 256, 400, _product_codes, lambda rows: TRAINING * count_cells(rows), _search_codes, _say_probes),
        Kind("int8", 1, 100, _graph_of_bytes, lambda rows: RANGE, _search_graph, _say_beam),
        Kind("binary", 4, 400, _bits, lambda rows: TRAINING * count_cells(rows), _search_bits, _say_probes),
    )
}
