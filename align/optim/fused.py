"""AdamW as torch computes it fastest on the device of its parameters."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch


def fused_adamw(groups: list[dict], **options: Any) -> torch.optim.AdamW:
    """Return AdamW in one kernel, or in a loop where a device or a dtype has no such kernel, with a line that says so.

    The state is the same, so a run may go on elsewhere. The two round differently.
    """
    kinds = sorted({(p.device.type, str(p.dtype).removeprefix("torch.")) for g in groups for p in g["params"]})
    lacking = [f"{dtype} on {device}" for device, dtype in kinds if not has_kernel(device, dtype)]
    if lacking:
        print(f"torch has no fused AdamW for {', '.join(lacking)}; it takes its steps in a loop", file=sys.stderr)
    return torch.optim.AdamW(groups, fused=not lacking, **options)


@functools.cache
def has_kernel(device: str, dtype: str) -> bool:
    """Return True where a fused step of one number works."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=getattr(torch, dtype), device=device), requires_grad=False)
    p.grad = torch.zeros_like(p)
    try:
        torch.optim.AdamW([p], lr=0.0, fused=True).step()
    except (RuntimeError, TypeError):  # torch names the lack of a kernel by one or the other
        return False
    return True
