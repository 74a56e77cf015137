"""Seeds of the random draws: each follows from one seed, a step or position, and the name of its use."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import torch


def derive(*parts: int | str) -> int:
    """Return a 63-bit seed from integers and names, the same on every machine.

    >>> derive(0, 7, "image") == derive(0, 7, "image"), derive(0, 7, "image") == derive(0, 7, "audio")
    (True, False)
    """
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded with ``derive(*parts)``."""
    return torch.Generator(device=device).manual_seed(derive(*parts))


def seed_default(*parts: int | str) -> None:
    """Seed the generator that torch draws from by default, and an accelerator's, with ``derive(*parts)``.

    Without an accelerator ``torch.manual_seed`` notes the stack for each kind of device that may come, and takes forty
    times as long.
    """
    seed = derive(*parts)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
