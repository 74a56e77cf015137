"""Nested values as JSON and tensors, and back: without pickle, and with every type as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from align.checkpoint.subclasses import pack_subclass, unpack_subclass
from align.model.inside import in_shards


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON, in which a tensor is ``{"$tensor": its name}``, and put the tensors into `tensors`.

    A tensor in another layout, as the eigenvectors of SOAP by columns, has its ``stride`` there too: the last bit of a
    product depends on it. One that FSDP2 has sharded stays in shards. Another subclass of tensors that can be taken
    apart, as torchao's 8-bit states, is ``{"$subclass": its class, "inner": its tensors, "context": its constants}``.

    name: of the value, under which its tensors are named ``name/key/key``. Raises ValueError for anything but tensors,
    numbers, strings, None, lists, tuples and dicts of them.
    """
    if type(value) in (Tensor, nn.Parameter) or in_shards(value):
        while name in tensors:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        if in_shards(value):
            tensors[name] = value.detach()
            return {"$tensor": name}
        tensors[name] = value.detach().cpu().contiguous().clone()  # safetensors refuses memory that two share
        if value.is_contiguous() or 0 in value.stride():  # 0: an expanded tensor, whose rows share their memory
            return {"$tensor": name}
        return {"$tensor": name, "stride": list(value.stride())}
    if isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__"):
        return pack_subclass(value, name, lambda inner, at: pack(inner, at, tensors))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        values = [pack(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
        return values if isinstance(value, list) else {"$tuple": values}
    if isinstance(value, dict):
        values = {k: pack(v, f"{name}/{k}".removeprefix("/"), tensors) for k, v in value.items()}
        if all(isinstance(k, str) and not k.startswith("$") for k in values):
            return values
        return {"$dict": [[pack(k, name, tensors), v] for k, v in values.items()]}
    raise ValueError(
        f"an optimiser's {name} is a {type(value).__name__}; a checkpoint holds tensors, numbers, text, lists and dicts"
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value that `pack` was given."""
    if isinstance(packed, list):
        return [unpack(v, tensors) for v in packed]
    if not isinstance(packed, dict):
        return packed
    if "$tensor" in packed:
        tensor = tensors[packed["$tensor"]]
        if "stride" not in packed:
            return tensor
        return torch.empty_strided(tensor.shape, packed["stride"], dtype=tensor.dtype).copy_(tensor)
    if "$subclass" in packed:
        return unpack_subclass(packed, lambda inner: unpack(inner, tensors))
    if "$dtype" in packed:
        return getattr(torch, packed["$dtype"])
    if "$tuple" in packed:
        return tuple(unpack(v, tensors) for v in packed["$tuple"])
    if "$dict" in packed:
        return {unpack(k, tensors): unpack(v, tensors) for k, v in packed["$dict"]}
    return {k: unpack(v, tensors) for k, v in packed.items()}
