"""``align shards show`` looks inside shards: on the terminal, or as a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal


def show(
    shards: list[str],
    /,
    *,
    each: int = 1,
    json: bool = False,
    save: str | None = None,
    html: str | None = None,
    samples: int = 24,
    seed: int | None = None,
    up: str = "z",
) -> None:
    """Print what shards hold: counts, and a sample of each modality

    A sound is drawn as its wave, a cloud as it looks from the front, and on a terminal with colours a picture as a
    thumbnail. --html writes a page instead of drawings: pictures, players, clouds to turn and captions side by side.

    Args:
        shards: shard files, patterns such as 'shards/test-*.tar', or folders: all shards in them
        each: samples of each modality
        json: print JSON
        save: a folder to write the members of these samples to, as files
        html: a page to write, with --samples samples
        samples: how many samples the page shows
        seed: show random samples on the page, drawn with this seed; otherwise the first
        up: the axis of point clouds that stands upright on the page, y or z
    """
    from json import dumps

    from align.data import Shards
    from align.data.look import look
    from align.data.look import save as write

    if each < 1:
        raise ValueError(f"--each {each}: show at least one sample of each modality")
    if samples < 1:
        raise ValueError(f"--samples {samples}: show at least one sample")
    opened = Shards(within(shards), shuffle=False)
    found = look(opened, each)
    files = [str(path) for path in write(opened, found["examples"], save)] if save is not None else []
    if html is not None:
        from align.report import write_look

        facts = {"set": ", ".join(shards), "samples": f"{len(opened):,}", "shards": f"{len(opened.urls):,}"}
        facts["licence"] = found["licence"] or "not stated"
        write_look(html, opened, _chosen(len(opened), samples, seed), facts=facts, up=upright(up))
    if json:
        print(dumps({**found, "saved": files}, indent=2, ensure_ascii=False, default=str))
        return
    _print(found, opened)
    if files:
        print(f"{len(files)} files in {save}")
    if html is not None:
        print(f"{html}: {min(samples, len(opened))} samples")


def within(names: Sequence[str]) -> list[str]:
    """Patterns of shards; a folder stands for all shards in it."""
    return [f"{name}/*.tar" if Path(name).is_dir() else name for name in names]


def upright(up: str) -> Literal["y", "z"]:
    """--up, checked."""
    if up not in ("y", "z"):
        raise ValueError(f"--up {up}: point clouds stand upright along y or z")
    return "y" if up == "y" else "z"


def console() -> Any:
    """rich's console; where stdout is no terminal, lines may be 200 characters long."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)


def plain(text: str, most: int = 0) -> Any:
    """Text from a shard for a terminal: no markup, no control characters; cut after ``most``, if that is given."""
    from rich.text import Text

    text = text if not most or len(text) <= most else text[: most - 1] + "…"
    return Text("".join(c if c.isprintable() else " " for c in text))


def _chosen(total: int, samples: int, seed: int | None) -> list[int]:
    """Positions: the first, or as many drawn with a seed, in order."""
    if seed is None or samples >= total:
        return list(range(min(samples, total)))
    from random import Random

    return sorted(Random(seed).sample(range(total), samples))


def _print(found: dict[str, Any], shards: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print(
        Text(f"{found['samples']} samples in {found['shards']} shards, licence: {found['licence'] or 'not stated'}")
    )
    table = Table("modality", "samples", "share", "key", "label", "member", "what it is", "")
    for modality, n in found["modalities"].items():
        first = [modality, str(n), f"{n / max(1, found['samples']):.0%}"]
        for example in found["examples"].get(modality) or [None]:
            rest = (
                ["", "", "", ""]
                if example is None
                else [example["key"], _label(example), example["member"], _words(example)]
            )
            drawn = Text() if example is None else _drawn(shards, example, out)
            table.add_row(*map(plain, [*first, *rest]), drawn)
            first = ["", "", ""]
    out.print(table)
    for attribute, names in found["classes"].items():
        shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        out.print(Text(f"{attribute}: {len(names)} classes: ") + plain(shown))
    for title in ("ignored", "bad"):
        if found[title]:
            out.print(Text(f"{title}: ") + plain(", ".join(f"{n} {name}" for name, n in found[title].items())))


def _drawn(shards: Any, example: dict[str, Any], console: Any) -> Any:
    """A member as a few characters; a picture only where there are colours."""
    from rich.text import Text

    from align.data.sketch import sketch

    name = example["member"].partition(":")[0]
    picture = "width" in example
    if picture and not (console.is_terminal and console.color_system in ("256", "truecolor")):
        return Text()
    drawn = sketch(name, shards.read(example["position"])[0].get(name, b"")) if "error" not in example else None
    if not isinstance(drawn, list):
        return Text(drawn or "")
    out = Text()
    for number, line in enumerate(drawn):
        out.append("\n" if number else "")
        for upper, lower in line:
            out.append("▀", style=f"rgb({','.join(map(str, upper))}) on rgb({','.join(map(str, lower))})")
    return out


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
