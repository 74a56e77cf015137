"""AdamW as torch computes it fastest on the device of its parameters."""

from __future__ import annotations

import sys
from typing import Any

import torch


def fused_adamw(groups: list[dict], **options: Any) -> torch.optim.AdamW:
    """Return AdamW in one kernel, or in a loop where a device or a dtype has no such kernel, with a line that says so.

    The state is the same, so a run may go on elsewhere. The two round differently.
    """
    try:
        return torch.optim.AdamW([{**group} for group in groups], fused=True, **options)
    except RuntimeError as error:
        if "fused" not in str(error):
            raise
        places = sorted({f"{p.dtype} on {p.device.type}".removeprefix("torch.") for g in groups for p in g["params"]})
        print(f"torch has no fused AdamW for {', '.join(places)}; it takes its steps in a loop", file=sys.stderr)
    return torch.optim.AdamW(groups, foreach=None, **options)
