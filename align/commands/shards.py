"""``align shards show`` looks inside shards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def show(shards: list[str], /, *, each: int = 1, json: bool = False, save: str | None = None) -> None:
    """Print what shards hold: counts, and a sample of each modality

    Args:
        shards: shard files, patterns such as 'shards/test-*.tar', or folders: all shards in them
        each: samples of each modality
        json: print JSON
        save: a folder to write the members of these samples to, as files
    """
    from json import dumps

    from align.data import Shards
    from align.data.look import look
    from align.data.look import save as write

    if each < 1:
        raise ValueError(f"--each {each}: show at least one sample of each modality")
    opened = Shards([f"{name}/*.tar" if Path(name).is_dir() else name for name in shards], shuffle=False)
    found = look(opened, each)
    files = [str(path) for path in write(opened, found["examples"], save)] if save is not None else []
    if json:
        print(dumps({**found, "saved": files}, indent=2, ensure_ascii=False, default=str))
        return
    _print(found)
    if files:
        print(f"{len(files)} files in {save}")


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(
        Text(f"{found['samples']} samples in {found['shards']} shards, licence: {found['licence'] or 'not stated'}")
    )
    table = Table("modality", "samples", "share", "key", "label", "member", "what it is")
    for modality, n in found["modalities"].items():
        first = [modality, str(n), f"{n / max(1, found['samples']):.0%}"]
        for example in found["examples"].get(modality) or [None]:
            rest = (
                ["", "", "", ""]
                if example is None
                else [example["key"], _label(example), example["member"], _words(example)]
            )
            table.add_row(*map(_plain, [*first, *rest]))
            first = ["", "", ""]
    console.print(table)
    for attribute, names in found["classes"].items():
        shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        console.print(Text(f"{attribute}: {len(names)} classes: {_plain(shown)}"))
    for title in ("ignored", "bad"):
        if found[title]:
            console.print(Text(f"{title}: " + ", ".join(f"{n} {_plain(name)}" for name, n in found[title].items())))


def _plain(text: str) -> Any:
    """Text from a shard for a terminal: no markup, no control characters."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))


def _label(example: dict[str, Any]) -> str:
    label = example["label"]
    if isinstance(label, dict):
        return ", ".join(f"{k}={v}" for k, v in label.items())
    return "" if label is None else str(label)


def _words(example: dict[str, Any]) -> str:
    if "error" in example:
        return f"unreadable: {example['error']}"
    if "width" in example:
        return f"{example['width']}×{example['height']} {example['mode']}, {example['bytes']} bytes"
    if "rate" in example:
        channels = "mono" if example["channels"] == 1 else f"{example['channels']} channels"
        return f"{example['seconds']:g} s at {example['rate']} Hz, {channels}"
    if "shape" in example:
        points = f"{example['shape'][0]} points, " if len(example["shape"]) == 2 else ""
        return f"{points}{'×'.join(map(str, example['shape']))} {example['dtype']}"
    if "text" in example:
        return " | ".join(example["text"])[:200]
    return f"{example['bytes']} bytes"
