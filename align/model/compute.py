"""How towers are computed: compiled, with activations made anew in the backward pass, in channels-last order."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import final

from torch import nn

from align.model.channels_last import has_pictures, put_channels_last
from align.model.checkpointed import checkpoint_blocks, has_blocks
from align.model.compiled import check_backend, compile_encoder
from align.model.inside import unwrap
from align.model.joint import JointModel


@final
@dataclass(frozen=True)
class Compute:
    """Ways to compute the towers of a run. None of them changes the model that is saved.

    Each of the first three is False, True for all modalities, or a list of modalities.

    Args:
        compile: ``torch.compile`` of each encoder, with one graph for any number of rows.
        checkpointing: the blocks of an encoder keep no activations; the backward pass computes them anew.
        channels_last: weights and pictures of encoders with convolutions in the memory order NHWC.
        backend: of ``torch.compile``. Default: inductor, which needs a C++ compiler, on a GPU Triton.
    """

    compile: bool | list[str] = False
    checkpointing: bool | list[str] = False
    channels_last: bool | list[str] = False
    backend: str = "inductor"

    def check(self, model: JointModel) -> None:
        """Raise ValueError for a modality without a tower, a backend that torch does not have, and for an encoder that
        cannot be computed so."""
        for way, can in _CAN.items():
            for name, encoder in _choose(model, self, way).items():
                if not can(encoder):
                    kind = type(encoder).__name__
                    raise ValueError(f"compute.{way} names {name!r}, whose {kind} is no encoder that {_LACK[way]}")
        if both := _choose(model, self, "compile").keys() & _choose(model, self, "checkpointing").keys():
            raise ValueError(
                f"compute.compile and compute.checkpointing of {min(both)!r}: a compiled graph chooses the activations "
                "that it keeps by itself; take one of the two for a tower"
            )
        if self.compile:
            check_backend(self.backend)


_CAN: dict[str, Callable[[nn.Module], bool]] = {
    "compile": lambda encoder: any(True for _ in encoder.parameters()),
    "checkpointing": has_blocks,
    "channels_last": has_pictures,
}
_LACK = {
    "compile": "has a parameter",
    "checkpointing": "has blocks, which are two or more parts of one class in a list",
    "channels_last": "has a convolution over pictures",
}


@contextmanager
def computing(model: JointModel, compute: Compute) -> Iterator[None]:
    """Compute the towers of a model so, inside the block.

    Raises ValueError as ``Compute.check`` does.
    """
    with ExitStack() as stack:
        for encoder in _choose(model, compute, "channels_last").values():
            stack.callback(put_channels_last(encoder))
        for encoder in _choose(model, compute, "checkpointing").values():
            stack.callback(checkpoint_blocks(encoder))
        for encoder in _choose(model, compute, "compile").values():
            stack.callback(compile_encoder(encoder, compute.backend))
        yield


def _choose(model: JointModel, compute: Compute, way: str) -> dict[str, nn.Module]:
    """Return modality -> encoder, each encoder one time, of those that are computed in a way.

    True leaves out the encoders that cannot: those without pictures, without blocks, without a parameter.
    """
    wanted, share = getattr(compute, way), model.share or {}
    everyone = wanted is True
    chosen: dict[str, nn.Module] = {}
    for name in model.modalities if everyone else wanted or ():
        if name not in model.modalities:
            near = difflib.get_close_matches(name, model.modalities, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"compute.{way} names {name!r}, the model has towers of {', '.join(model.modalities)}{hint}"
            )
        owner = share.get(name, name)
        encoder = unwrap(model.towers[owner]).encoder
        if not everyone or _CAN[way](encoder):
            chosen[owner] = encoder
    if everyone and not chosen:
        raise ValueError(f"compute.{way}: no encoder of {', '.join(model.modalities)} {_LACK[way]}")
    return chosen
