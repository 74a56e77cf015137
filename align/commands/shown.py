"""Shards on a terminal: safe text, drawings in characters, and the samples to show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def expand_folders(names: Sequence[str]) -> list[str]:
    """Return patterns of shards, with one for the shards of each folder. A folder without any is kept, as it is."""
    from align.data.places.patterns import inside

    return [inside(name) if any(Path(name).glob("*.tar")) else name for name in names]


def choose_positions(total: int, samples: int, seed: int | None) -> list[int]:
    """Return the first positions, or as many that are drawn with a seed, in order."""
    if seed is None or samples >= total:
        return list(range(min(samples, total)))
    from random import Random

    return sorted(Random(seed).sample(range(total), samples))


def console() -> Any:
    """Return rich's console. Where stdout is no terminal, lines are not folded at 80 characters."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 240)


def plain(text: str, most: int = 0) -> Any:
    """Return text from a shard for a terminal: no markup, no control characters, at most ``most`` characters."""
    from rich.text import Text

    text = text if not most or len(text) <= most else text[: most - 1] + "…"
    return Text("".join(c if c.isprintable() else " " for c in text))


def quote(name: str) -> str:
    """Return a class's name, in quotes where its ends would not be seen.

    >>> quote("cat"), quote("cat "), quote("")
    ('cat', "'cat '", "''")
    """
    return name if name and name == name.strip() else repr(name)


def draw(shards: Any, example: dict[str, Any], console: Any, media: Any) -> Any:
    """Return a member as a few characters. A picture is drawn only where there are colours."""
    from rich.text import Text

    from align.curation.look import sketch

    name = example["member"].partition(":")[0]
    colours = console.is_terminal and console.color_system in ("256", "truecolor")
    data = shards.read(example["position"])[0].get(name, b"")
    found = None if "error" in example else sketch(name, data, media, colours=colours)
    if not isinstance(found, list):
        return Text(found or "")
    out = Text()
    for number, line in enumerate(found):
        out.append("\n" if number else "")
        for upper, lower in line:
            out.append("▀", style=f"rgb({','.join(map(str, upper))}) on rgb({','.join(map(str, lower))})")
    return out
