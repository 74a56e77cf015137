"""``align shards check`` says what is wrong with shards, before a training run does."""

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
    """Read every member of every sample once and say what is wrong

    Errors are what cannot be used: tars with gaps, members that do not decode, NaN, labels outside their classes, keys
    that name two samples, bytes that are in --against too. Warnings can be read but are hardly meant so: silence,
    clipping, clouds of few or equal points, exact and near duplicates of media, odd sample rates. Notes are good to
    know: holes, repeated captions, rare classes. Each finding comes with its count and with examples of shard, key and
    member.

    Near duplicates are pictures and sounds of which at most 10 of 128 bits of a perceptual hash differ: another size,
    format or quality of a picture is seen through, crops and mirrors are not, and pictures of less than 32 pixels are
    not compared; another format, rate or loudness of a sound is seen through, another beginning or end is not. Clouds
    are near duplicates where they have the same points in another order or precision, or in other colours.

    The exit code is 3 when the samples with an error (and errors of whole shards) are more than --max-bad of all
    samples. Nothing is changed; a shard without an index gets one.

    Args:
        shards: shard files, patterns such as 'shards/train-*.tar', or folders: all shards in them
        against: another set, separated by commas: what of it is in this one (the same bytes, near
            duplicates, keys, groups) is a leak
        max_bad: the share of samples that may have an error; 0 for none, 1 for any number
        modalities: look at these only, separated by commas
        members: names in shards that name no modality, as in text=json:caption|txt
        rate: the sample rate in Hz that sounds should have; otherwise what most have
        examples: how many are kept of each finding
        workers: processes that read and decode; 0: only this one
        json: print JSON
        html: a page to write, with examples to see, hear and turn
        up: the axis of point clouds that stands upright on the page
        allow_pipe: run shards named pipe:COMMAND in a shell; refused otherwise
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.named import split
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import within
    from align.curation.check import diagnose
    from align.files import json_text

    if examples < 1:
        raise ValueError(f"--examples {examples}: keep at least one of each finding")
    known = named_media(media)
    with progress("samples") as say:
        found = diagnose(
            within(shards),
            within([against] if Path(against).exists() else split(against)) if against else None,
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
