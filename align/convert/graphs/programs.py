"""Towers as programs of torch.export: ``align export MODEL OUT --to torch-export``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from align.convert.graphs.graph import choose_towers, pack, prepare, trace
from align.convert.graphs.layout import LARGEST, check_difference, describe_export, write_preprocess
from align.files import write_json
from align.files.fresh import fresh_folder
from align.model import JointModel


def write_programs(model: JointModel, folder: Path, *, towers: Sequence[str] | None = None) -> list[str]:
    """Write MODALITY.pt2 and MODALITY.json of each tower, and export.json. Return the lines to print.

    ``torch.export.load("image.pt2").module()(values)`` gives (n, D) for n rows, without align. The folder appears
    whole. Raises ValueError for a tower that is no graph, with the module that is none, and for a program that differs
    from its tower.
    """
    chosen, lines = choose_towers(model, towers)
    with fresh_folder(folder) as work:
        ready, facts = prepare(model), {}
        for m in chosen:
            traced = trace(ready, m)
            forget_sources(traced.program)
            path = work / f"{m}.pt2"
            save_program(traced.program, path)
            run = torch.export.load(path).module()
            with torch.no_grad():
                found = [(run(pack(rows)), wanted) for rows, wanted in traced.checks]
            difference = max(float((a - b).abs().max()) for a, b in found)
            check_difference(m, difference)
            write_preprocess(work, traced, ready, chosen)
            facts[m] = {"program": path.name, "preprocess": f"{m}.json", "difference": difference}
            size = f"{path.stat().st_size / 1e6:8.1f} MB"
            lines.append(f"{m:10}  {path.name:18}  {size}  differs from the tower by {difference:.1e}")
        write_json(work / "export.json", describe_export(model, "torch-export", facts))
    programs = f"{len(facts)} program{'s' * (len(facts) != 1)}"
    return [*lines, f"{programs} in {folder}, each run and within {LARGEST:g} of its tower"]


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program. Raises OSError for a full disk, where torch's own writer of files would end the process."""
    program.example_inputs = None  # which would stand in the file as a pickle
    content = io.BytesIO()
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def forget_sources(program: torch.export.ExportedProgram) -> None:
    """Leave out the lines of source code that each node came from: they hold paths of this machine."""
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
