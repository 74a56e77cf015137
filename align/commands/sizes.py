"""Sizes in bytes, and counts, as text."""

from __future__ import annotations


def size(n: float) -> str:
    """Return bytes as a text, with one digit after the point.

    >>> size(12), size(1536), size(3 * 2**30)
    ('12 B', '1.5 KiB', '3.0 GiB')
    """
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if n < 1024:
            break
        n, unit = n / 1024, larger
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"


def count_text(n: int, noun: str) -> str:
    """Return a number with its noun, which has an s in the plural.

    >>> count_text(1, "shard"), count_text(1200, "sample")
    ('1 shard', '1,200 samples')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
