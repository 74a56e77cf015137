"""The origin of a tower's weights, and the sums that tell whether they have been trained since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from align.values import Origin

WIDTH = 512  # words of 8 bytes in a row of the table whose sums are taken


def bit_sum(x: Tensor) -> int:
    """Return a number of the bits and of their places, much faster than a checksum of all bytes.

    The words of 8 bytes are a table. Other bits in up to three words change the sum of a row or of a column, and so do
    two values that change places. The sums are hashed: in a weighted total a top bit would vanish modulo 2^64.
    """
    bits = x.contiguous().view(-1).view(torch.uint8)
    words = bits[: len(bits) // (8 * WIDTH) * 8 * WIDTH].view(torch.int64).view(-1, WIDTH)
    sums = torch.cat([words.sum(0), words.sum(1), bits[8 * words.numel() :].long()])
    return int.from_bytes(hashlib.blake2b(sums.cpu().numpy().tobytes(), digest_size=8).digest(), "little")


def bit_sums(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, int]:
    """Return the ``bit_sum`` of each tensor whose name begins with ``prefix``, under its name without it."""
    return {name[len(prefix) :]: bit_sum(x.detach()) for name, x in tensors.items() if name.startswith(prefix)}


def current_origin(encoder: Any, published: Mapping[str, int] | None, now: Mapping[str, int]) -> Origin | None:
    """Return the origin of an encoder with ``changed`` as it is now, None where it has no published weights.

    published, now: ``bit_sums`` of the published weights and of the present ones. published=None: they had changed
    before they were read.
    """
    origin: Origin | None = getattr(encoder, "origin", None)
    if origin is None:
        return None
    return origin._replace(changed=origin.changed or published is None or dict(published) != dict(now))


def describe_parts(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each part of published weights: its origin, licence and checksum.

    >>> about = {"source": "owner/name", "sha256": 64 * "a", "licence": "mit", "changed": True}
    >>> describe_parts({"image.encoder": about})
    ['image.encoder: weights of owner/name, trained since (licence mit, sha256 aaaaaaaaaaaa)']
    """
    return [
        f"{part}: weights of {about['source']}{', trained since' if about['changed'] else ''} "
        f"(licence {about['licence']}, sha256 {about['sha256'][:12]})"
        for part, about in parts.items()
    ]
