"""Graphs with weights of 8 bits, by onnxruntime's own quantiser, and the recall that they lose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from align.convert.graphs.graph import Traced
from align.convert.graphs.quiet import hush
from align.convert.graphs.rows import name_inputs
from align.convert.graphs.session import open_graph, run_graph
from align.data import Shards
from align.embedding.embed import embed_shards
from align.evaluation.hits import by_sample
from align.evaluation.retrieval import retrieval_shards
from align.model import JointModel
from align.values import Batch, Embeddings, Rows

KS = (1, 10)
FRONT_END = "front_end/"
"""Beginning of the names of a graph's nodes whose constants are no weights: they stay float32."""


class Sizes(NamedTuple):
    """An int8 graph beside its float one. size: in bytes. difference: the largest of an embedding from the tower's."""

    name: str
    size: int
    difference: float

    def line(self, modality: str) -> str:
        size = f"{self.size / 1e6:8.1f} MB"
        return f"{modality:10}  {self.name:18}  {size}  differs from the tower by {self.difference:.1e}  8-bit weights"


def write_int8(traced: Traced, path: Path) -> Sizes:
    """Write MODALITY.int8.onnx beside a graph: weights of matrices and convolutions of 8 bits, activations measured in
    each run (onnxruntime's ``quantize_dynamic``). The front end stays float32: in 8 bits a spectrum's quiet bands
    would be zero."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = path.with_name(f"{traced.modality}.int8.onnx")
    nodes = onnx.load(path, load_external_data=False).graph.node
    stay = [node.name for node in nodes if node.name.startswith(FRONT_END)]
    with hush():  # it recommends a preparation that changes nothing here
        quantize_dynamic(path, out, weight_type=QuantType.QInt8, nodes_to_exclude=stay)
    session = open_graph(out)
    differences = [
        float(np.abs(run_graph(session, {k: x.numpy() for k, x in rows.items()}) - wanted.numpy()).max())
        for rows, wanted in traced.checks
    ]
    return Sizes(out.name, out.stat().st_size, max(differences))


def check_shards(shards: str | Sequence[str], towers: Sequence[str]) -> None:
    """Raise as ``Shards`` does, and ValueError where the shards have no two of the towers: before any graph is made."""
    there = [m for m in towers if m in Shards(shards, shuffle=False).modalities]
    if len(there) < 2:
        have = f"the shards have {there[0]} alone" if there else "the shards have none"
        raise ValueError(f"--check measures recall between two modalities; of {', '.join(towers)}, {have}")


def check_graphs(
    model: JointModel, folder: Path, towers: Sequence[str], shards: str | Sequence[str], int8: bool
) -> list[str]:
    """Return a table of recall@1 and @10 of each pair of modalities, of the model, of its graphs and of int8's, and
    the milliseconds that each takes for a row.

    A hit is a row of the same sample.
    """
    kinds = ["model", "onnx", *(["int8"] if int8 else [])]
    found: dict[str, dict[str, float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    for kind in kinds:
        run = Runner(model, folder, towers, kind)
        source = Shards(shards, shuffle=False)
        table = embed_shards(model, source, make=run)
        found[kind] = dict(retrieval_shards(table, by_sample(), terms=model.terms, ks=KS, precision=False))
        seconds[kind] = {m: 1000 * run.seconds[m] / run.rows[m] for m in towers if run.rows[m]}
    names = [x for x in found["model"] if x.endswith(tuple(f"recall@{k}" for k in KS))]
    lines = [f"{'':34}" + "".join(f"{kind:>9}" for kind in kinds) + ("     lost" if int8 else "")]
    for name in sorted(names):
        row = [found[kind][name] for kind in kinds]
        lost = f"{row[0] - row[-1]:9.4f}" if int8 else ""
        lines.append(f"{name:34}" + "".join(f"{x:9.4f}" for x in row) + lost)
    for m in seconds["model"]:
        lines.append(f"{m + ', ms a row':34}" + "".join(f"{seconds[kind][m]:9.2f}" for kind in kinds))
    return lines


class Runner:
    """Embeddings of batches by the model or by graphs, with the rows and seconds of each modality. kind: "model",
    "onnx" or "int8"."""

    def __init__(self, model: JointModel, folder: Path, towers: Sequence[str], kind: str):
        suffix = ".int8.onnx" if kind == "int8" else ".onnx"
        self.graphs: dict[str, Any] = {
            m: None if kind == "model" else open_graph(folder / f"{m}{suffix}") for m in towers
        }
        self.seconds, self.rows = dict.fromkeys(towers, 0.0), dict.fromkeys(towers, 0)

    @torch.no_grad()
    def __call__(self, model: JointModel, batch: Batch) -> Embeddings:
        made: dict[str, Rows] = {}
        for m, graph in self.graphs.items():
            rows = batch.get(m)
            if rows is None or not len(rows.sample):
                continue
            begun = time.perf_counter()
            if graph is None:
                values = model.embed_values(m, rows.values)
            else:
                given = {name: x.numpy() for name, x in name_inputs(rows.values).items()}
                values = torch.from_numpy(run_graph(graph, given))
            self.seconds[m] += time.perf_counter() - begun
            self.rows[m] += len(rows.sample)
            made[m] = rows._replace(values=values)
        return Embeddings(**{**vars(batch), "rows": made})
