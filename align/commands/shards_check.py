"""``align shards check`` finds errors in shards before a training run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def check(
    shards: list[str],
    /,
    *,
    against: str = "",
    max_bad: float = 0.001,
    modalities: str = "",
    members: str = "",
    rate: int | None = None,
    examples: int = 12,
    workers: int = 0,
    json: bool = False,
    html: str | None = None,
    up: Literal["y", "z"] = "z",
    allow_pipe: bool = False,
    media: str = "",
) -> int:
    """Read every member of every sample once, and report errors, warnings and notes

    An error cannot be used: a tar with gaps, a member that does not decode, NaN, a label outside its classes, a key
    that names two samples, bytes that are in --against too. A warning can be read but is hardly intended: silence,
    clipping, clouds of few or equal points, exact and near duplicates of media, odd sample rates. A note is good to
    know: holes, repeated captions, rare classes. Each finding has a count, and examples with shard, key and
    member.

    Near duplicates are pictures or sounds whose perceptual hashes differ in at most 10 of 128 bits. They may differ in
    size, format or quality (pictures), or in format, rate or loudness (sounds). Crops, mirrors, and another beginning
    or end of a sound are not recognised. Videos are compared by four frames of each, as pictures are. Pictures under
    32 pixels a side are not compared. Clouds are near duplicates where they have the same points in another order or
    precision, or in other colours.

    The exit code is 3 when the samples with an error (and errors of whole shards) are more than --max-bad of all
    samples. The shards are not changed, but a shard without an index gets one.

    Args:
        shards: shard files, patterns such as 'shards/train-*.tar', or folders: all shards in them
        against: another set, such as the test set: files, patterns or folders, separated by commas. Bytes, near
            duplicates, keys and groups that both sets have are leaks
        max_bad: the share of samples that may have an error. 0: none, 1: any number
        modalities: check these modalities only, separated by commas
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        rate: the sample rate in Hz that sounds should have. Default: the rate of most sounds
        examples: how many examples of each finding are kept
        workers: processes that read and decode. 0: this one alone
        json: print JSON instead of a table
        html: a page to write, with examples to see, hear and turn
        up: the axis of point clouds that stands upright on the page
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.named import split
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation.check import diagnose
    from align.files import json_text

    if examples < 1:
        raise ValueError(f"--examples {examples}: keep at least one of each finding")
    known = named_media(media)
    with progress("samples") as say:
        found = diagnose(
            expand_folders(shards),
            expand_folders([against] if Path(against).exists() else split(against)) if against else None,
            modalities=split(modalities) or None,
            members=mapping(members),
            max_bad=max_bad,
            rate=rate,
            most=examples,
            workers=workers,
            allow_pipe=allow_pipe,
            progress=say,
            media=known,
        )
    if html is not None:
        from align.report import write_diagnosis

        facts = {"set": ", ".join(shards), "samples": f"{found.samples:,}", "shards": f"{len(found.shards):,}"}
        write_diagnosis(html, found, facts=facts | ({"against": against} if against else {}), up=up)
    if json:
        print(json_text(found.json(), 2))
    else:
        _print(found, html)
    return 3 if found.failed else 0


def _print(found: Any, html: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console, plain, quote
    from align.commands.sizes import count_text, size

    out = console()
    coverage = ", ".join(f"{m} {n / max(1, found.samples):.0%}" for m, n in found.modalities.items())
    held = f"{count_text(found.samples, 'sample')} in {count_text(len(found.shards), 'shard')}"
    out.print(Text(f"{held}, {size(found.bytes)}: {coverage or '-'}"))
    if not found.findings:
        out.print(Text("nothing found: every member could be read, and nothing stands out"))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        table.add_column("finding", no_wrap=True)
        table.add_column("count", justify="right")
        table.add_column("for example")
        table.add_column("what it means")
        colours = {"error": "red", "warning": "yellow", "note": "dim"}
        for finding in found.findings:
            first = finding.examples[0]
            table.add_row(
                Text(finding.severity, style=colours[finding.severity]),
                plain(finding.reason),
                f"{finding.count:,}",
                plain(_place(first.place) + (f": {first.detail}" if first.detail else ""), most=100),
                Text(finding.meaning, style="dim"),
            )
        out.print(table)
    for attribute, counts in found.labels.items():
        ranked = list(counts.items())
        shown = ", ".join(f"{quote(name)} {n:,}" for name, n in ranked[:8]) + (", …" if len(ranked) > 8 else "")
        out.print(plain(f"{attribute}: {len(ranked)} classes: {shown}"))
    errors = f"{found.errors:,} error" + ("" if found.errors == 1 else "s")
    verdict = f"{errors}; --max-bad {found.max_bad:g} of {found.samples:,} samples allows {found.allowed:,}"
    out.print(Text(verdict, style="red" if found.failed else "green"))
    if html is not None:
        out.print(Text(f"{html}: examples of each finding"))


def _place(place: Any) -> str:
    key = f"{place.key}.{place.member}" if place.member else place.key
    return key or place.shard.rpartition("/")[2]
