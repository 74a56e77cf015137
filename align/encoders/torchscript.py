"""Tensors of a TorchScript archive, the layout of OpenAI's own CLIP files, read without running the code in it."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Types of storages by the names that pickles have for them."""


class Stored(NamedTuple):
    """Place of a tensor in an archive. Nothing of it is read yet."""

    dtype: torch.dtype
    record: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Node:
    """A module of the archive: its attributes are its tensors, its modules and its numbers."""


def is_script(path: Path) -> bool:
    """Return True for a TorchScript archive, which ``torch.load(weights_only=True)`` refuses."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist())


def read_script(path: Path, keep: Callable[[str], bool]) -> dict[str, Tensor]:
    """Return the tensors of an archive whose dotted names are kept. Others are not read.

    Raises UnpicklingError for a pickle that names anything but modules, tensors and plain data.
    """
    with zipfile.ZipFile(path) as archive:
        (root,) = {name.partition("/")[0] for name in archive.namelist()}
        with archive.open(f"{root}/data.pkl") as file:
            tree = Reader(file).load()
        return {name: _read(archive.read(f"{root}/data/{x.record}"), x) for name, x in _walk(tree, "") if keep(name)}


class Reader(pickle.Unpickler):
    """An unpickler that knows tensors, plain data and modules without behaviour, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Node
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _place
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> tuple[torch.dtype, str]:
        _, dtype, record, _, _ = pid  # "storage", type, record, device, count
        return dtype, record


def _place(storage: tuple[torch.dtype, str], offset: int, size: Any, stride: Any, *_: Any) -> Stored:
    return Stored(*storage, offset, tuple(size), tuple(stride))


def _read(content: bytes, x: Stored) -> Tensor:
    if math.prod(x.size) * x.dtype.itemsize > len(content):  # strides of 0 would state a tensor of any size
        raise pickle.UnpicklingError(f"{len(content)} bytes are too few for a tensor of {x.size}")
    flat = torch.frombuffer(bytearray(content), dtype=x.dtype)
    return flat.as_strided(x.size, x.stride, x.offset).clone()


def _walk(node: Node, prefix: str) -> Iterator[tuple[str, Stored]]:
    for name, value in vars(node).items():
        if isinstance(value, Stored):
            yield prefix + name, value
        elif isinstance(value, Node):
            yield from _walk(value, f"{prefix}{name}.")
