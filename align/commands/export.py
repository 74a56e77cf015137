"""``align export MODEL OUT --to FORMAT`` writes a model as files of other programs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from align.commands.errors import Refused
from align.commands.export_graphs import Graphs
from align.commands.export_hub import Hub
from align.commands.export_sentences import Sentences
from align.commands.groups import Weights
from align.commands.named import split
from align.commands.stopping import ending

Format = Literal["onnx", "torch-export", "sentence-transformers", "open_clip", "hub"]

WRITERS = {
    "onnx": "graphs.onnx:write_onnx",
    "torch-export": "graphs.programs:write_programs",
    "sentence-transformers": "sentences:write_sentence_transformers",
    "open_clip": "open_clip:write_open_clip",
    "hub": "hub:write_hub",
}


def export(
    model: str,
    out: str,
    /,
    *,
    to: Format,
    towers: str | None = None,
    graphs: Graphs,
    sentences: Sentences,
    hub: Hub,
    weights: Weights,
) -> None:
    """Write a model as files of other programs

    onnx: a graph of each tower, which needs neither torch nor align. torch-export: the same as programs of torch.
    sentence-transformers: a folder for SentenceTransformer(OUT). open_clip: a folder for open_clip, of a model that
    has its towers. hub: a model folder with a card.

    Args:
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import)
        out: the folder to write, which appears whole or not at all
        to: the format
        towers: the modalities to write, separated by commas. Default: all that the format can hold
    """
    from align.files.fresh import check_fresh

    folder = Path(out)
    check_fresh(folder)
    chosen = None if towers is None else split(towers)
    if chosen == []:
        raise Refused("--towers names none; write --towers image,text")
    options: dict[str, Any] = {"towers": chosen}
    options |= {**graphs.settings(to), **sentences.settings(to), **hub.settings(to, model, weights.checkpoint)}
    with ending(lambda: f"{out} is not written"):
        loaded = weights.load(model)
        lines = find_writer(to)(loaded, folder, **options)
    for line in lines:
        print(line)


def find_writer(to: Format) -> Callable[..., list[str]]:
    """Return the function that writes a format. It takes a model and a folder, and returns the lines to print."""
    module, name = WRITERS[to].split(":")
    return getattr(import_module(f"align.convert.{module}"), name)
