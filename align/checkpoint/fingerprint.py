"""The fingerprint of a model: the SHA-256 checksum of its weights, computed once while they do not change."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from align.model.inside import model_inside, weights
from align.model.origin import bit_sum


class _Known(NamedTuple):
    """Facts of a model's tensors, and the checksum. cast: the checksum is of the tensors in another precision."""

    state: dict[str, tuple]
    checksum: str
    cast: bool = False


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 that the model's model.safetensors has, or would have.

    The model's last one is remembered, and computed anew when a weight has changed. A model that ``align.load`` has
    cast to another precision has that of its stored weights.
    """
    from safetensors.torch import save

    inside = model_inside(model)
    tensors = weights(inside)
    state = _state(tensors)
    known = _known.get(inside)
    if known is not None and known.cast and _bits(known.state) == _bits(state):
        return known.checksum  # moved to another device meanwhile: no file has these weights to compute it from
    if known is None or known.state != state:
        content = save({k: v.cpu().contiguous().clone() for k, v in tensors.items()})
        known = _known[inside] = _Known(state, hashlib.sha256(content).hexdigest())
    return known.checksum


def remember(model: nn.Module, checksum: str, *, cast: bool = False) -> None:
    """Keep the checksum of the file that the model's weights were just read from as its fingerprint.

    cast: the weights have another precision now than those with this checksum.
    """
    _known[model] = _Known(_state(weights(model)), checksum, cast)


def is_cast(model: nn.Module) -> bool:
    """Return True where the model's weights are a cast of those in its file."""
    inside = model_inside(model)
    known = _known.get(inside)
    return known is not None and known.cast and _bits(known.state) == _bits(_state(weights(inside)))


def _bits(state: dict[str, tuple]) -> dict[str, tuple]:
    """Return the facts that do not depend on the device."""
    return {name: (dtype, shape, bits) for name, (_, _, dtype, shape, _, bits) in state.items()}


def _state(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    """Return for each tensor the facts of which one differs after any change of its values.

    Torch counts writes (``_version``). Writes through ``.data`` or numpy are not counted: sums of the bits, much
    faster than SHA-256, tell these.
    """
    return {
        name: (x.data_ptr(), None if x.is_inference() else x._version, x.dtype, x.shape, x.device, bit_sum(x))
        for name, x in tensors.items()
    }
