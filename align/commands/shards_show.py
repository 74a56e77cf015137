"""``align shards show`` looks inside shards."""

from __future__ import annotations

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
    up: Literal["y", "z"] = "z",
    members: str = "",
    allow_pipe: bool = False,
    media: str = "",
) -> None:
    """Print counts of shards, and a sample of each modality

    A sound is drawn as its wave, and a cloud as it looks from the front. A picture is drawn as a thumbnail, on a
    terminal with colours. --html also writes a page with pictures, players, clouds to turn and captions side by side.

    Args:
        shards: shard files, patterns such as 'shards/test-*.tar', or folders: all shards in them
        each: how many samples of each modality are printed
        json: print JSON instead of tables
        save: a folder to write the members of these samples to, as files
        html: a page to write, with --samples samples
        samples: how many samples the page shows
        seed: show random samples on the page, drawn with this seed. Default: the first samples
        up: the axis of point clouds that stands upright on the page
        members: members under other names: text=json:caption|txt reads text from caption in the json, else from .txt
        allow_pipe: run shards named pipe:COMMAND in a shell. Without this option they are refused
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.pairs import mapping
    from align.commands.shown import expand_folders
    from align.curation.look import look
    from align.curation.look import save as write
    from align.data import Shards
    from align.files import json_text

    known = named_media(media)
    if each < 1:
        raise ValueError(f"--each {each}: show at least one sample of each modality")
    if samples < 1:
        raise ValueError(f"--samples {samples}: show at least one sample")
    opened = Shards(expand_folders(shards), shuffle=False, members=mapping(members), allow_pipe=allow_pipe)
    found = look(opened, each, known)
    files = [str(path) for path in write(opened, found["examples"], save)] if save is not None else []
    if html is not None:
        from align.commands.shown import choose_positions
        from align.report import write_look

        facts = {"set": ", ".join(shards), "samples": f"{len(opened):,}", "shards": f"{len(opened.urls):,}"}
        facts["licence"] = found["licence"] or "not stated"
        write_look(html, opened, choose_positions(len(opened), samples, seed), facts=facts, up=up, media=known)
    if json:
        print(json_text({**found, "saved": files}, 2, str))
        return
    _print(found, opened, known)
    if files:
        print(f"{len(files)} files in {save}")
    if html is not None:
        print(f"{html}: {min(samples, len(opened))} samples")


def _print(found: dict[str, Any], shards: Any, media: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console as wide
    from align.commands.shown import plain, quote
    from align.commands.sizes import count_text

    console = wide()
    held = f"{count_text(found['samples'], 'sample')} in {count_text(found['shards'], 'shard')}"
    console.print(Text(f"{held}, licence: {found['licence'] or 'not stated'}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("modality", "samples", "share", "for example"):
        table.add_column(name, justify="right" if name in ("samples", "share") else "left")
    for modality, n in found["modalities"].items():
        first = [modality, f"{n:,}", f"{n / max(1, found['samples']):.0%}"]
        for example in found["examples"].get(modality) or [None]:
            table.add_row(*map(plain, first), Text() if example is None else _describe(example, shards, console, media))
            first = ["", "", ""]
    console.print(table)
    for attribute, names in found["classes"].items():
        shown = ", ".join(map(quote, names[:12])) + (", …" if len(names) > 12 else "")
        console.print(Text(f"{attribute}: {len(names)} classes: {plain(shown)}"))
    for title in ("ignored", "bad"):
        if found[title]:
            console.print(Text(f"{title}: " + ", ".join(f"{n} {plain(name)}" for name, n in found[title].items())))


def _describe(example: dict[str, Any], shards: Any, console: Any, media: Any) -> Any:
    """Return the place, the label, the description and a drawing of an example."""
    from rich.text import Text

    from align.commands.shown import draw, plain
    from align.data.labels import in_words

    label = in_words(example["label"], "=")
    out = plain(f"{example['key']}.{example['member']}" + (f" ({label})" if label else ""))
    out.stylize("dim")
    out = Text.assemble(out, "\n", plain(_words(example, media)))
    drawing = draw(shards, example, console, media)
    return Text.assemble(out, "\n", drawing, "\n") if drawing else out


def _words(example: dict[str, Any], media: Any) -> str:
    from align.curation.look import say

    return f"unreadable: {example['error']}" if "error" in example else say(example, media)
