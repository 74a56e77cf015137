"""A worker's piece on its way to the main process: all of its tensors in one block of shared memory.

Torch sends each tensor through a file descriptor and a connection of its own, which costs both processes a third of a
millisecond a tensor.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, NamedTuple

import torch
from torch import Tensor

ALIGNMENT = 64


class Packed(NamedTuple):
    """An object without its tensors, and their bytes."""

    rest: bytes
    block: Tensor  # uint8, in shared memory


def pack(thing: Any) -> Packed | Exception:
    """Return an object in two parts, to be sent to another process. An exception goes as it is."""
    if isinstance(thing, Exception):
        return thing
    head = io.BytesIO()
    packer = _Packer(head, protocol=5)
    packer.dump(thing)
    block = torch.empty(packer.size, dtype=torch.uint8).share_memory_()
    for start, x in (found for found in packer.found if found[1].nbytes):  # numpy's empty arrays have odd strides
        block[start : start + x.nbytes].copy_(x.reshape(-1).view(torch.uint8))
    return Packed(head.getvalue(), block)


def unpack(packed: Packed | Exception) -> Any:
    """Return the object of ``pack``. Its tensors are views of the one block."""
    return packed if isinstance(packed, Exception) else _Unpacker(packed).load()


class _Packer(pickle.Pickler):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.found: list[tuple[int, Tensor]] = []  # first byte, tensor
        self.size = 0

    def persistent_id(self, obj: Any) -> Any:
        plain = type(obj) is Tensor and obj.layout is torch.strided and obj.device.type == "cpu"
        if not plain or obj.requires_grad or obj.is_quantized:
            return None
        start, self.size = self.size, self.size + -(-obj.nbytes // ALIGNMENT) * ALIGNMENT
        self.found.append((start, obj.contiguous()))
        return start, obj.dtype, tuple(obj.shape)


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: Packed):
        super().__init__(io.BytesIO(packed.rest))
        self.block = packed.block

    def persistent_load(self, pid: Any) -> Tensor:
        start, dtype, shape = pid
        size = torch.Size(shape).numel() * dtype.itemsize
        return self.block[start : start + size].view(dtype).view(shape)
