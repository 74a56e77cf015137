"""Counts of the samples and members that a command left out when it copied shards."""

from __future__ import annotations

from collections.abc import Mapping


def print_dropped(dropped: Mapping[str, int]) -> None:
    """Print how many samples and members were dropped, by reason, the most frequent first."""
    if dropped:
        print("dropped:")
    for reason, n in sorted(dropped.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {n:>7}  {''.join(c if c.isprintable() else ' ' for c in reason)}")
