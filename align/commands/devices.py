"""The options of every command that runs a model: its device and its precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    import torch

    from align.commands.groups import Weights
    from align.model import JointModel


@final
@dataclass(frozen=True)
class Placing:
    """device and precision

    Args:
        device: where the model runs: cpu, cuda, cuda:1 or mps. Default: the first GPU (cuda, then mps), else the CPU
        dtype: precision of the model's weights and activations. Preprocessing, unit vectors and scores stay in float32
    """

    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def find_device(self) -> torch.device:
        """Return the device. Ends the command, with the names of those that there are, for one that is not there."""
        from align.commands.errors import Refused

        try:
            return choose_device(self.device)
        except ValueError as error:
            raise Refused(f"--device: {error}", code=2) from None

    def load(self, weights: Weights, model: str) -> JointModel:
        """Load a model onto the device, in the precision."""
        return weights.load(model, device=self.find_device(), dtype=self.dtype)


@final
@dataclass(frozen=True)
class Computing:
    """device and precision

    Args:
        device: where the model runs: cpu, cuda, cuda:1 or mps. Default: the first GPU (cuda, then mps), else the CPU
        dtype: precision of the model's weights and activations. Default: float32. See --stored for that of the rows
    """

    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    def load(self, weights: Weights, model: str) -> JointModel:
        """Load a model onto the device, in the precision."""
        return Placing(self.device, self.dtype or "float32").load(weights, model)


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of a name, by default the first GPU, else the CPU.

    Of several processes of torchrun or srun each has the CUDA GPU of its LOCAL_RANK. Raises ValueError for a device
    that this machine has not.
    """
    import torch

    from align.model.place import find_device

    device, local = find_device(name), os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and local is not None:
        return torch.device("cuda", int(local) % torch.cuda.device_count())
    return device
