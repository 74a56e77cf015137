"""Blocks of embedded samples beside an index that is being made. A killed build goes on from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from align.data.meta import is_text
from align.embedding.tables import tensor_of
from align.files import atomic_write, json_text, read_json, write_json
from align.files.lock import hold_lock
from align.search.building.entry import read_entry
from align.search.item import Item
from align.values import Rows

PLAN = "plan.json"


class Segment(NamedTuple):
    """Samples of a portion that a block has seen: the portion's ``tell``, and the places start..stop-1 in it."""

    portion: str
    start: int
    stop: int


@dataclass
class Block:
    """Rows and entries of consecutive samples.

    rows: modality -> rows, ``sample`` counts the entries. entries: texts of ``write_entry``, without those of samples
    that have no row. places: the portion of each entry, as ``tell`` names it. budget: the state of the budget of bad
    samples after this block.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    budget: Mapping[str, Any] = field(default_factory=dict)

    def items(self) -> list[tuple[Item, Any]]:
        """Return the item of each entry, and its mark."""
        return [read_entry(text) for text in self.entries]


@final
class Staging:
    """A folder of blocks, tied to a model and its preprocessing.

    Args:
        folder: made with the first block.
        key: plain data. Blocks that another key made are removed.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self.folder, self.key = folder, dict(key)
        self.dropped = False
        if folder.is_dir() and _read_key(folder) != self.key:
            self.dropped = any(folder.glob("*.block"))
            shutil.rmtree(folder)
        self.seen: set[Segment] = set()
        self.budget: Mapping[str, Any] = {}
        self._next = 0
        for path in self._paths():
            about = _about(path)
            self.seen.update(Segment(*segment) for segment in about["segments"])
            self.budget, self._next = about["budget"], int(path.stem) + 1

    @property
    def samples(self) -> int:
        """The number of samples that the blocks have seen."""
        return sum(segment.stop - segment.start for segment in self.seen)

    def write(self, block: Block) -> None:
        """Add a block, whole or not at all. Raises OSError on a full disk."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            write_json(self.folder / PLAN, self.key)
        from safetensors.torch import save

        about = {
            "entries": block.entries,
            "places": block.places,
            "segments": block.segments,
            "budget": block.budget,
        }
        tensors: dict[str, Tensor] = {
            "about": torch.frombuffer(bytearray(json_text(about).encode()), dtype=torch.uint8)
        }
        for m, rows in block.rows.items():
            tensors[f"{m}.values"], tensors[f"{m}.sample"] = tensor_of(rows).contiguous(), rows.sample.contiguous()
        with atomic_write(self.folder / f"{self._next:08d}.block") as file:
            file.write(save(tensors))
        self._next += 1
        self.seen.update(block.segments)
        self.budget = block.budget

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in the order in which they were written."""
        for path in self._paths():
            tensors, about = _read(path)
            names = [name.removesuffix(".values") for name in tensors if name.endswith(".values")]
            rows = {m: Rows(tensors[f"{m}.values"], tensors[f"{m}.sample"]) for m in names}
            segments = [Segment(*segment) for segment in about["segments"]]
            yield Block(rows, about["entries"], about["places"], segments, about["budget"])

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> Sequence[Path]:
        return sorted(self.folder.glob("*.block"))


def staging_place(out: Path) -> Path:
    """Return the folder of the blocks of an index."""
    return out.with_name(f".{out.name}.staged")


def count_staged(out: Path) -> int:
    """Return the number of samples that are embedded for an index and are not in it yet."""
    paths = sorted(staging_place(out).glob("*.block"))
    return sum(stop - start for path in paths for _, start, stop in _about(path)["segments"])


class Busy(ValueError):
    """An index that another process is changing."""


@contextmanager
def hold_index(out: Path) -> Iterator[None]:
    """Keep other builds of the same index out. Raises Busy where one is running."""
    place = out.resolve()
    with hold_lock(place.with_name(f".{place.name}.lock"), wait=False) as ours:
        if not ours:
            raise Busy(f"another process is changing {out}; wait until it is done")
        yield


def _read_key(folder: Path) -> Any:
    try:
        return read_json(folder / PLAN)
    except (OSError, ValueError):
        return None


def _about(path: Path) -> dict[str, Any]:
    """Return the facts of a block, without reading its rows."""
    from safetensors import safe_open

    if not is_text(str(path)):  # safetensors opens paths in UTF-8 alone
        return _read(path)[1]
    with safe_open(path, "pt") as file:
        return json.loads(file.get_tensor("about").numpy().tobytes())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors.torch import load

    tensors = load(path.read_bytes())
    return tensors, json.loads(tensors.pop("about").numpy().tobytes())
