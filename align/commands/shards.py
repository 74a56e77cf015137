"""``align shards build`` makes shards from a table or a folder; ``align shards show`` looks inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def build(
    source: str,
    out: str,
    /,
    *,
    split: str = "train",
    per_shard: int = 1000,
    modalities: str = "image,audio,points,text",
    columns: str = "",
    literal: str = "text",
    template: str = "{}",
    points: int = 4096,
    seed: int = 0,
    licence: str | None = None,
    members: str = "",
    shard_mb: float | None = None,
    image_size: int | None = None,
    image_format: Literal["jpeg", "png", "webp"] | None = None,
    image_quality: int | None = None,
    audio_format: Literal["flac", "ogg", "opus"] | None = None,
    sample_rate: int | None = None,
    points_dtype: Literal["float16", "float32"] | None = None,
    workers: int = 0,
    anew: bool = False,
    max_bad: float = 0.001,
) -> None:
    """Make shards from a table, a folder of your own files, or other shards

    A table (.csv, .tsv, .jsonl, .parquet) has a column per modality: names of files relative to the table, or the text
    itself; an empty cell is a missing modality. Further columns: label (or label.shape, label.colour, ... for several
    attributes), group (equal ones are never each other's negatives), weight and key; image.0, image.1 for several of
    a kind; text.neg for hard negatives. A folder holds CLASS/file, or train/CLASS/file and test/CLASS/file: the name of
    the class is the label and the caption; files with one stem are one sample. A folder of plain files (1.jpg, 1.txt)
    has no labels.

    A .tar, a pattern such as 'cc3m/{00000..00331}.tar' or a folder of them is an existing WebDataset, img2dataset's
    for one: jpg, flac, txt, cls become image.jpg, audio.flac, text.txt and the label; --members says other names.

    Files are stored as they are unless one of --image-..., --audio-format, --sample-rate, --points-dtype is given;
    meshes (ply, obj, off, glb, stl) are sampled to points. The shards OUT/SPLIT-000000.tar, ... are alike in size and
    appear whole, with OUT/manifest.json beside them; those of an earlier run for the same split are replaced. A build
    that was stopped or killed goes on where it was when the same command is given again; the bytes of the result depend
    neither on that nor on --workers. What cannot be read is left out and listed in OUT/SPLIT-bad.jsonl; exit code 3
    when that is more than --max-bad.

    Args:
        source: the table, the folder, or the shards
        out: the folder for the shards
        split: what the shards are called, unless the folder has train and test folders
        per_shard: samples in a shard
        modalities: the columns that are modalities, separated by commas
        columns: other column names, as in caption=text,file=image; notes= leaves the column notes out
        literal: modalities whose cells are the text itself and not a file, separated by commas
        template: captions from class names, {} stands for the name; several separated by |; empty for none
        points: how many points are sampled on a mesh
        seed: of that sampling
        licence: of the content, for the manifest
        members: names in an existing WebDataset, the first that is there counts: text=json:caption|txt,image=jpg
        shard_mb: megabytes that a shard holds at most
        image_size: scale larger images down to so many pixels on the short side; 8-bit RGB, upright
        image_format: write images as this
        image_quality: of jpeg and webp, 1 to 100 (90 where an image is written anew)
        audio_format: write sound as this, mono
        sample_rate: of sound in Hz; as flac where no format is given
        points_dtype: of point clouds
        workers: processes that read and re-encode
        anew: do not continue a build that was stopped
        max_bad: the share of samples with something unreadable above which the build stops; 1 never
    """
    from align.commands.progress import progress
    from align.data import Recode
    from align.data import build as make

    recode = Recode(image_size, image_format, image_quality, audio_format, sample_rate, points_dtype)

    with progress("shards") as say:
        written = make(
            source,
            out,
            split=split,
            per_shard=per_shard,
            modalities=_list(modalities, "--modalities"),
            columns=pairs(columns, "--columns"),
            literal=_list(literal, "--literal") if literal else (),
            template=template.split("|"),
            points=points,
            seed=seed,
            licence=licence,
            progress=say,
            shard_mb=shard_mb,
            members=mapping(members),
            recode=recode,
            workers=workers,
            resume=not anew,
            max_bad=max_bad,
        )
    left, bad = written.pop("left out"), written.pop("bad", 0)
    for name, n in written.items():
        print(f"{out}/{name}-*.tar: {n} samples")
    if left:
        print(f"left out: {left} (rows without any modality, files of unknown suffix)")
    if bad:
        print(f"unreadable: {bad} members, left out; see {out}/*-bad.jsonl")


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
    allow_pipe: bool = False,
) -> None:
    """Print what shards hold: counts, and a sample of each modality

    A sound is drawn as its wave, a cloud as it looks from the front, and on a terminal with colours a picture as a
    thumbnail. --html writes a page as well: pictures, players, clouds to turn and captions side by side.

    Args:
        shards: shard files, patterns such as 'shards/test-*.tar', or folders: all shards in them
        each: samples of each modality
        json: print JSON
        save: a folder to write the members of these samples to, as files
        html: a page to write, with --samples samples
        samples: how many samples the page shows
        seed: show random samples on the page, drawn with this seed; otherwise the first
        up: the axis of point clouds that stands upright on the page, y or z
        allow_pipe: run shards named pipe:COMMAND in a shell; refused otherwise
    """
    from json import dumps

    from align.data import Shards
    from align.data.look import look
    from align.data.look import save as write

    if each < 1:
        raise ValueError(f"--each {each}: show at least one sample of each modality")
    if samples < 1:
        raise ValueError(f"--samples {samples}: show at least one sample")
    opened = Shards(
        [f"{name}/*.tar" if Path(name).is_dir() else name for name in shards], shuffle=False, allow_pipe=allow_pipe
    )
    found = look(opened, each)
    files = [str(path) for path in write(opened, found["examples"], save)] if save is not None else []
    if html is not None:
        from align.commands.shown import chosen, upright
        from align.report import write_look

        facts = {"set": ", ".join(shards), "samples": f"{len(opened):,}", "shards": f"{len(opened.urls):,}"}
        facts["licence"] = found["licence"] or "not stated"
        write_look(html, opened, chosen(len(opened), samples, seed), facts=facts, up=upright(up))
    if json:
        print(dumps({**found, "saved": files}, indent=2, ensure_ascii=False, default=str))
        return
    _print(found, opened)
    if files:
        print(f"{len(files)} files in {save}")
    if html is not None:
        print(f"{html}: {min(samples, len(opened))} samples")


def _print(found: dict[str, Any], shards: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.commands.shown import console as wide
    from align.commands.shown import drawn, plain

    console = wide()
    console.print(
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
            table.add_row(*map(plain, [*first, *rest]), drawn(shards, example, console))
            first = ["", "", ""]
    console.print(table)
    for attribute, names in found["classes"].items():
        shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        console.print(Text(f"{attribute}: {len(names)} classes: {plain(shown)}"))
    for title in ("ignored", "bad"):
        if found[title]:
            console.print(Text(f"{title}: " + ", ".join(f"{n} {plain(name)}" for name, n in found[title].items())))


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


EXAMPLES = {
    "--columns": "NAME=COLUMN, as in caption=text",
    "--members": "MODALITY=NAME, as in text=json:caption|txt",
    "--parts": "NAME=SHARE, as in train=0.8,val=0.1,test=0.1",
}


def _list(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"{option} names nothing; separate names by commas")
    return names


def mapping(members: str) -> dict[str, list[str]]:
    """What --members says: modality -> names in the shards."""
    return {name: value.split("|") for name, value in pairs(members, "--members").items()}


def pairs(text: str, option: str) -> dict[str, str]:
    """ "a=x, b=y" -> {a: x, b: y}. Raises ValueError where a part is not of that form."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        if not name or not equals:
            raise ValueError(f"{option} {part!r}: write {EXAMPLES[option]}")
        found[name.strip()] = column.strip()
    return found
