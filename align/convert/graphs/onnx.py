"""Towers as ONNX graphs: ``align export MODEL OUT --to onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from align.convert.graphs.graph import OUTPUT, Traced, choose_towers, explain, prepare, trace
from align.convert.graphs.int8 import FRONT_END, check_graphs, check_shards, write_int8
from align.convert.graphs.layout import LARGEST, check_difference, describe_export, write_preprocess
from align.convert.graphs.operators import mend_program, translations
from align.convert.graphs.quiet import hush
from align.convert.graphs.session import open_graph, run_graph
from align.extras import has_part, pip_install
from align.files import write_json
from align.files.fresh import fresh_folder
from align.model import JointModel

OPSET = 20
WHOLE = 2 << 30
"""Bytes of weights that one file of ONNX may hold. Above it they stand in a second file."""


def write_onnx(
    model: JointModel,
    folder: Path,
    *,
    towers: Sequence[str] | None = None,
    int8: bool = False,
    check: str | Sequence[str] | None = None,
) -> list[str]:
    """Write MODALITY.onnx and MODALITY.json of each tower, tokenizer.json and export.json. Return the lines to print.

    A graph takes what the preprocess's ``collate`` gives, of any number of rows, and returns the embeddings (n, D). It
    is run by onnxruntime on several numbers of rows, and compared with the tower. The folder appears whole.

    int8: write MODALITY.int8.onnx too, with weights of 8 bits. check: shards on whose samples the recall of both is
    measured, of two towers at least.

    Raises ValueError for a tower that is no graph, with the module that is none, and for a graph that differs from its
    tower by more than 1e-4. Raises ImportError where the extra onnx is absent.
    """
    check_installed()
    chosen, lines = choose_towers(model, towers)
    if check is not None:
        check_shards(check, chosen)
    with fresh_folder(folder) as work:
        ready, facts = prepare(model), {}
        for m in chosen:
            traced = trace(ready, m)
            path = work / f"{m}.onnx"
            convert(traced, path)
            difference = compare(traced, path)
            check_difference(m, difference)
            write_preprocess(work, traced, ready, chosen)
            facts[m] = {"graph": path.name, "preprocess": f"{m}.json", "difference": difference}
            any_length = any("length" in shape for _, shape in traced.shapes.values())
            says = "any number of rows of any length" if any_length else "any number of rows"
            size = f"{path.stat().st_size / 1e6:8.1f} MB"
            lines.append(f"{m:10}  {path.name:18}  {size}  differs from the tower by {difference:.1e}  {says}")
            if int8:
                small = write_int8(traced, path)
                facts[m] |= {"int8": small.name, "int8_difference": small.difference}
                lines.append(small.line(m))
        if check is not None:
            lines += check_graphs(ready, work, chosen, check, int8)
        write_json(work / "export.json", describe_export(model, "onnx", facts, opset=OPSET))
    graphs = f"{len(facts)} graph{'s' * (len(facts) != 1)}"
    return [*lines, f"{graphs} in {folder}, each run by onnxruntime and within {LARGEST:g} of its tower"]


def check_installed() -> None:
    """Raise ImportError, with the extra, where a package of the export is absent."""
    for name, part in (("onnx", "load"), ("onnxruntime", "InferenceSession"), ("onnxscript", "script")):
        if not has_part(name, part):
            raise ImportError(f"--to onnx needs {name}: {pip_install('onnx')}")


def convert(traced: Traced, path: Path) -> None:
    """Write a traced tower as a graph. Raises ValueError for an operator that ONNX lacks, with its module."""
    mend_program(traced.program)
    try:
        with hush():
            made: Any = torch.onnx.export(
                traced.program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(traced.shapes),
                output_names=[OUTPUT],
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as error:  # of many kinds, each with pages of advice
        raise ValueError(explain(error, traced.graph, traced.modality, traced.program)) from error
    _name_sizes(made.model, traced)
    _mark_front_end(made.model)
    _forget_sources(made.model)
    weights = sum(x.numel() * x.element_size() for x in traced.program.state_dict.values())
    made.save(str(path), external_data=weights > WHOLE)


def compare(traced: Traced, path: Path) -> float:
    """Return the largest difference of a graph's embeddings from the tower's, over the rows of its checks.

    Raises ValueError for a graph that onnxruntime does not run.
    """
    try:
        session = open_graph(path)
        found = [run_graph(session, {k: x.numpy() for k, x in rows.items()}) for rows, _ in traced.checks]
    except Exception as error:  # onnxruntime's own kinds
        reason = " ".join(str(error).split()).rpartition(" failed:")[2][:200]
        raise ValueError(
            f"tower {traced.modality!r} cannot be a graph: onnxruntime does not run it: {reason}"
        ) from error
    pairs = zip(found, traced.checks, strict=True)
    return max(float(np.abs(a - wanted.numpy()).max()) for a, (_, wanted) in pairs)


def _name_sizes(model: Any, traced: Traced) -> None:
    """Give the sizes that may be any their names, batch and length."""
    import onnx_ir

    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(traced.shapes[value.name][1])
    for value in model.graph.outputs:
        value.shape = onnx_ir.Shape(["batch", traced.checks[0][1].shape[1]])


def _mark_front_end(model: Any) -> None:
    """Begin the names of the nodes that stand for no module's work with ``FRONT_END``: int8 leaves them as they are."""
    for node in model.graph:
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")  # "['', 'tower', 'tower.encoder', …]"
        if scopes and "'tower." not in scopes:
            node.name = f"{FRONT_END}{node.name}"


def _forget_sources(model: Any) -> None:
    """Leave out the lines of source code that each node came from: they hold paths of this machine."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            node.metadata_props.clear()
