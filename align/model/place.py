"""Devices and precisions of a model: their names, and those that this machine has."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Name -> precision of a model's weights and activations."""

DEVICES = ("cpu", "cuda", "mps")


def list_devices() -> list[str]:
    """Return the names of this machine's devices: cpu, then cuda:0, cuda:1, …, then mps."""
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0))]
    return [*found, *(["mps"] if torch.backends.mps.is_available() else [])]


def find_device(name: str | torch.device | None) -> torch.device:
    """Return the device of a name: cpu, cuda, cuda:1 or mps. None: the first GPU (cuda, then mps), else the CPU.

    Raises ValueError, with the names of this machine's devices, for one that it does not have.
    """
    known = list_devices()
    if name is None:
        first = next((one for kind in DEVICES[1:] for one in known if one.startswith(kind)), "cpu")
        return torch.device(first.partition(":")[0])
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:  # no word of torch's
        raise ValueError(f"there is no device {str(name)!r}; this machine has {', '.join(known)}") from error
    index = device.index or 0
    if device.type not in DEVICES or (f"{device.type}:{index}" if device.type == "cuda" else device.type) not in known:
        raise ValueError(f"this machine has no device {str(name)!r}; it has {', '.join(known)}")
    if device.type != "cuda" and index:
        raise ValueError(f"this machine has no device {str(name)!r}; it has {', '.join(known)}")
    return device if device.type == "cuda" else torch.device(device.type)


def find_dtype(name: str | torch.dtype) -> torch.dtype:
    """Return the precision of a name. Raises ValueError, with the names, for any but float32, bfloat16 and float16."""
    for word, dtype in DTYPES.items():
        if name in (word, dtype):
            return dtype
    said = str(name).removeprefix("torch.")
    raise ValueError(f"a model runs in {', '.join(DTYPES)}; {said!r} is none of them")


def move(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device. float64 becomes float32 on mps, which has no float64."""
    return (x.float() if device.type == "mps" and x.dtype == torch.float64 else x).to(device)


def name_dtype(model: torch.nn.Module) -> str:
    """Return the name of a model's precision, that of its first floating weight: float32, bfloat16, …"""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return str(dtype).removeprefix("torch.")
