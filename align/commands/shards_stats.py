"""``align shards stats`` counts the content of shards."""

from __future__ import annotations

from typing import Any


def stats(
    shards: list[str], /, *, members: str = "", json: bool = False, allow_pipe: bool = False, media: str = ""
) -> None:
    """Count the samples, bytes, lengths, sizes and labels of shards

    For each modality it prints the number of samples and rows, their bytes, and minimum, median, maximum and sum of its
    quantities: pixels of pictures, seconds of sounds, points of clouds, characters and words of captions. For each
    attribute of the labels it prints the number of samples in each class. Headers are read, and nothing is decoded.
    `align shards check` does that.

    Args:
        shards: shard files, patterns such as 'shards/test-*.tar', or folders: all shards in them
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        json: print JSON instead of tables
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation.stats import measure
    from align.data import Shards
    from align.files import json_text

    known = named_media(media)
    with progress("samples") as say:
        opened = Shards(expand_folders(shards), shuffle=False, members=mapping(members), allow_pipe=allow_pipe)
        found = measure(opened, say, known)
    if json:
        print(json_text(found, 2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console, plain, quote
    from align.commands.sizes import count_text, size

    out = console()
    licence = found["licence"] or "not stated"
    held = f"{count_text(found['samples'], 'sample')} in {count_text(found['shards'], 'shard')}"
    out.print(plain(f"{held}, {size(found['bytes'])} of content, licence: {licence}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("modality", "samples", "share", "rows", "bytes"):
        table.add_column(name, justify="left" if name == "modality" else "right")
    for name in ("of each", "min", "median", "max", "in all"):
        table.add_column(name, justify="left" if name == "of each" else "right")
    for modality, of in found["modalities"].items():
        share = f"{of['samples'] / max(1, found['samples']):.0%}"
        first = [plain(modality), f"{of['samples']:,}", share, f"{of['rows']:,}", size(of["bytes"])]
        for name, q in of["quantities"].items():
            if name == "rows" and q["max"] == 1:
                continue
            words = size if name == "bytes" else "{:,.10g}".format
            total = "" if name in ("width", "height") else words(q["sum"])
            table.add_row(*first, name, *(words(q[k]) for k in ("min", "median", "max")), total)
            first = [""] * 5
    out.print(table)
    for modality, of in found["modalities"].items():
        for kind, counts in of["kinds"].items():
            out.print(plain(f"{modality} {kind}: " + ", ".join(f"{value} ({n:,})" for value, n in counts.items())))
        if of["unreadable"]:
            out.print(plain(f"{modality}: {of['unreadable']:,} rows have no header that can be read"))
    for attribute, of in found["labels"].items():
        ranked = list(of["classes"].items())
        counts = f"{ranked[-1][1]:,} to {ranked[0][1]:,} samples each" if ranked else ""
        shown = ", ".join(f"{quote(name)} {n:,}" for name, n in ranked[:12]) + (", …" if len(ranked) > 12 else "")
        out.print(plain(f"{attribute}: {of['samples']:,} samples, {len(ranked)} classes, {counts}: {shown}"))
    for pair, counts in found.get("grades", {}).items():
        out.print(plain(f"{pair}: " + ", ".join(f"{n:,} {word}" for word, n in counts.items())))
    for title in ("ignored", "bad"):
        if found[title]:
            out.print(Text(f"{title}: ") + plain(", ".join(f"{n:,} {name}" for name, n in found[title].items())))
