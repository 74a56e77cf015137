"""A tower as a program of torch, with any number of rows, and the rows that it is traced and compared with."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.convert.graphs.quiet import hush
from align.convert.graphs.rows import INPUT, Shorter, make_rows, shorten_rows
from align.encoders.follower import Follower
from align.model import JointModel
from align.model.eval_view import view_in_eval
from align.values import Values

OUTPUT = "embeddings"
ALIKE = 1e-5
"""Most that padding may move a number of an embedding, where rows of any length are accepted."""


@final
class TowerGraph(nn.Module):
    """Embeddings (n, D) of n collated rows: the front end on the device, the encoder, the head, unit length."""

    def __init__(self, model: JointModel, modality: str):
        super().__init__()
        self.tower, self.normalize = model.towers[modality], model.normalize

    def forward(self, values: Values) -> Tensor:
        x = self.tower(values)
        return F.normalize(x, dim=-1, eps=1e-6) if self.normalize else x


class Traced(NamedTuple):
    """A tower's program, and its facts.

    shapes: input -> its dtype and shape, with "batch" and "length" for sizes that may be any. checks: rows that a
    written graph is compared with, and their embeddings.
    """

    modality: str
    graph: TowerGraph
    program: torch.export.ExportedProgram
    shapes: dict[str, tuple[str, list[int | str]]]
    checks: list[tuple[dict[str, Tensor], Tensor]]


def choose_towers(model: JointModel, towers: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the modalities to write, and lines about those that are left out.

    towers: None takes all that are no followers. Raises ValueError for a name that the model does not have, for a
    follower that is named, and where none is left.
    """
    follows = {m: tower.encoder.of for m, tower in model.towers.items() if isinstance(tower.encoder, Follower)}
    if towers is None:
        lines = [f"{m} is left out: its rows are made of the tokens of {of}" for m, of in follows.items()]
        chosen = [m for m in model.modalities if m not in follows]
        return chosen, lines
    for m in towers:
        if m not in model.towers:
            raise ValueError(f"no tower for {m!r}, the model has {', '.join(model.modalities)}")
        if m in follows:
            raise ValueError(f"tower {m!r} reads the tokens of {follows[m]!r}, so it has no graph of its own")
    if not towers:
        raise ValueError(f"no tower is named; the model has {', '.join(model.modalities)}")
    return list(dict.fromkeys(towers)), []


def prepare(model: JointModel) -> JointModel:
    """Return the model in evaluation mode, on the CPU and in float32. The model itself does not change."""
    if any(x.is_floating_point() and (x.dtype != torch.float32 or x.device.type != "cpu") for x in _tensors(model)):
        model = copy.deepcopy(model).float().cpu()
    return view_in_eval(model)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


@torch.no_grad()
def trace(model: JointModel, modality: str, rows: dict[str, Tensor] | None = None) -> Traced:
    """Return a tower's program for any number of rows, and any length where the tower reads any.

    rows: collated rows to trace and to check it with, 5 at least, of one length. None makes some.

    Raises ValueError, with the module, for a tower that is no graph.
    """
    graph = TowerGraph(model, modality).eval()
    preprocess = model.towers[modality].preprocess
    shorter = shorten_rows(preprocess) if rows is None else None
    rows = make_rows(preprocess, 5) if rows is None else rows
    checks = [(part, graph(pack(part))) for part in ({k: x[:1] for k, x in rows.items()}, rows)]
    three = {name: x[:3] for name, x in rows.items()}
    program, axis = None, None
    if shorter is not None and (embedded := _embed_short(graph, shorter)) is not None:
        with suppress(Exception):  # where any length is no graph, the preset's may be one
            program, axis = _export(graph, three, shorter.axis), shorter.axis
            checks.append((shorter.rows, embedded))
    if program is None:
        try:
            program = _export(graph, three, None)
        except Exception as error:  # of many kinds, each with pages of advice
            raise ValueError(explain(error, graph, modality)) from error
    shapes = {name: (str(x.dtype).removeprefix("torch."), _shape(x, axis)) for name, x in rows.items()}
    return Traced(modality, graph, program, shapes, checks)


def pack(rows: Mapping[str, Tensor]) -> Values:
    """Return rows as the tower takes them: a tensor where there is one input, else a dict."""
    return rows[INPUT] if list(rows) == [INPUT] else dict(rows)


def _embed_short(graph: TowerGraph, shorter: Shorter) -> Tensor | None:
    """Return the embeddings of shorter rows, None where the tower refuses them, or where padding counts."""
    with hush():
        try:
            found = graph(pack(shorter.rows))
        except (ValueError, RuntimeError, IndexError):
            return None
        if shorter.whole is not None and (graph(pack(shorter.whole)) - found).abs().max() > ALIKE:
            return None
    return found


def _export(graph: TowerGraph, rows: Mapping[str, Tensor], axis: int | None) -> torch.export.ExportedProgram:
    sizes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if axis is not None:
        sizes[axis] = torch.export.Dim.DYNAMIC
    given = pack(rows)
    with hush():
        shapes = dict.fromkeys(given, sizes) if isinstance(given, dict) else sizes
        return torch.export.export(graph, (given,), dynamic_shapes=(shapes,), strict=False)


def _shape(x: Tensor, axis: int | None) -> list[int | str]:
    return ["batch" if i == 0 else "length" if i == axis else size for i, size in enumerate(x.shape)]


def explain(error: BaseException, graph: TowerGraph, modality: str, program: Any = None) -> str:
    """Return one line about a tower that is no graph, with the module where it fails."""
    place = _place_of_node(error, program) or _place_in_stack(error, graph)
    said = re.sub(r"\x1b\[\d*m", "", f"{error}")
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'(?:, overload='(\w+)')?", said)
    if operator:
        reason = f"ONNX has no operator {operator[1]}"
    else:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        inner = re.search(r"<class '[\w.]+'>: (.+)", said)
        reason = (inner[1] if inner else lines[0] if lines else type(error).__name__)[:200]
    return f"tower {modality!r} cannot be a graph: {place or 'the tower'}: {reason}"


def _place_of_node(error: BaseException, program: Any) -> str | None:
    """Return the module of the node that an exporter names in its message."""
    found = re.search(r"translating node %(\w+)", str(error))
    if program is None or found is None:
        return None
    for form in (lambda: program, program.run_decompositions):  # the exporter takes operators apart first
        for node in form().graph.nodes:
            if node.name == found[1] and (stack := node.meta.get("nn_module_stack")):
                path, kind = list(stack.values())[-1]
                name = kind if isinstance(kind, str) else kind.__name__
                return f"{_strip(path)} ({name.rpartition('.')[2]})"
    return None


def _place_in_stack(error: BaseException, graph: nn.Module) -> str | None:
    """Return the innermost module that ran when the error rose."""
    names = {id(module): name for name, module in graph.named_modules()}
    place, seen = None, error
    while seen is not None:
        at = seen.__traceback__
        while at is not None:
            module = at.tb_frame.f_locals.get("self")
            if isinstance(module, nn.Module) and names.get(id(module)):
                place = f"{_strip(names[id(module)])} ({type(module).__name__})"
            at = at.tb_next
        if place:
            return place
        seen = seen.__cause__ or seen.__context__
    return None


def _strip(path: str) -> str:
    """Return a module's path below its tower."""
    path = re.sub(r"^L\['self'\]\.", "", path)
    return path.removeprefix("tower.")
