"""The fingerprint of a model: the SHA-256 checksum of its weights, computed once while they do not change."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from align.model.inside import model_inside, weights
from align.model.origin import bit_sum

_known: WeakKeyDictionary[nn.Module, tuple[dict[str, tuple], str]] = WeakKeyDictionary()


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 that the model's model.safetensors has, or would have.

    The model's last one is remembered, and computed anew when a weight has changed.
    """
    from safetensors.torch import save

    inside = model_inside(model)
    tensors = weights(inside)
    state = _state(tensors)
    known = _known.get(inside)
    if known is None or known[0] != state:
        content = save({k: v.cpu().contiguous().clone() for k, v in tensors.items()})
        known = _known[inside] = (state, hashlib.sha256(content).hexdigest())
    return known[1]


def remember(model: nn.Module, checksum: str) -> None:
    """Keep the checksum of the file that the model's weights were just read from as its fingerprint."""
    _known[model] = (_state(weights(model)), checksum)


def _state(tensors: dict[str, Tensor]) -> dict[str, tuple]:
    """Return for each tensor the facts of which one differs after any change of its values.

    Torch counts writes (``_version``). Writes through ``.data`` or numpy are not counted: sums of the bits, much
    faster than SHA-256, tell these.
    """
    return {
        name: (x.data_ptr(), None if x.is_inference() else x._version, x.dtype, x.shape, x.device, bit_sum(x))
        for name, x in tensors.items()
    }
