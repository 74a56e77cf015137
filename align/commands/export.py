"""``align export MODEL OUT --to FORMAT`` writes a model as files of other programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, final

from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.named import split

Format = Literal["onnx", "torch-export", "sentence-transformers", "open_clip", "hub"]

WRITERS = {
    "onnx": "onnx:write_onnx",
    "torch-export": "programs:write_programs",
    "sentence-transformers": "sentence_transformers:write_sentence_transformers",
    "open_clip": "open_clip:write_open_clip",
    "hub": "hub:write_hub",
}


@final
@dataclass(frozen=True)
class Graphs:
    """onnx

    Args:
        int8: write a graph with weights of 8 bits beside each
        check: shards on whose samples the recall and the time of the graphs are measured, beside the model's
    """

    int8: bool = False
    check: str | None = None

    def settings(self, to: Format) -> dict[str, Any]:
        """Return the arguments of ``write_onnx``. Ends the command for options of it beside another format."""
        if to != "onnx":
            if self.int8 or self.check is not None:
                raise Refused("--int8 and --check are for --to onnx", code=2)
            return {}
        return {"int8": self.int8, "check": self.check}


def export(
    model: str,
    out: str,
    /,
    *,
    to: Format,
    towers: str | None = None,
    weights: Weights,
    graphs: Graphs,
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
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{out} is there and is not empty; name a new folder")
    loaded = weights.load(model)
    options: dict[str, Any] = {"towers": None if towers is None else split(towers)}
    options |= graphs.settings(to)
    for line in find_writer(to)(loaded, folder, **options):
        print(line)


def find_writer(to: Format) -> Callable[..., list[str]]:
    """Return the function that writes a format. It takes a model and a folder, and returns the lines to print."""
    module, name = WRITERS[to].split(":")
    return getattr(import_module(f"align.convert.{module}"), name)
