"""Tensor subclasses of optimisers, such as 8-bit states, as plain tensors and JSON, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor


def pack_subclass(value: Any, name: str, pack: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return a tensor subclass as JSON: its class, its inner tensors, and the constants that join them.

    The subclass takes itself apart by ``__tensor_flatten__``, torch's protocol for torch.compile.

    pack: value, name -> the JSON of a value, which keeps its tensors elsewhere.
    """
    inner, context = value.__tensor_flatten__()
    kind = type(value)
    return {
        "$subclass": f"{kind.__module__}:{kind.__qualname__}",
        "inner": {key: pack(getattr(value, key), f"{name}/{key}") for key in inner},
        "context": pack(context, f"{name}/context"),
        "shape": list(value.shape),
        "stride": list(value.stride()),
    }


def unpack_subclass(packed: dict[str, Any], unpack: Callable[[Any], Any]) -> Tensor:
    """Return the tensor that `pack_subclass` was given.

    Nothing is imported: the optimiser that a config names has brought the class with it. Raises ValueError for a class
    that is not there, or that is no subclass of tensors.
    """
    module, _, name = packed["$subclass"].partition(":")
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Tensor) and hasattr(kind, "__tensor_unflatten__")):
        raise ValueError(
            f"the state of the optimiser holds {name} of {module}, which this config's optimiser does not bring; take "
            "the optimiser that wrote the checkpoint"
        )
    inner = {key: unpack(value) for key, value in packed["inner"].items()}
    made: Any = kind
    return made.__tensor_unflatten__(inner, unpack(packed["context"]), packed["shape"], packed["stride"])
