"""``align shards build`` makes shards from a table, a folder or other shards."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from align.commands.sizes import count_text

if TYPE_CHECKING:
    from align.media import Media

EQUAL = (
    "have the same caption as another sample of their shard, and no group joins the two: in training each is the "
    "other's negative; --group caption ends that (or --group label, where there are labels)"
)


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
    image_levels: str = "",
    anew: bool = False,
    max_bad: float = 0.001,
    group: str | None = None,
    separator: str | None = None,
    media: str = "",
) -> None:
    """Make shards from a table, a folder of your own files, or other shards

    A table (.csv, .tsv, .jsonl, .parquet) has a column per modality: names of files relative to the table, or the text
    itself; an empty cell is a missing modality. A caption is a string, several are a list of strings. Further columns:
    label (or label.shape, label.colour, ... for several attributes), group (equal ones are never each other's
    negatives), weight and key; image.0, image.1 for several of a kind; text.neg for hard negatives.

    A folder holds CLASS/file, or train/CLASS/file and test/CLASS/file: the name of the class is the label, and the
    caption and the group of files without a caption of their own; files with one stem are one sample. A folder of plain
    files (1.jpg, 1.txt) has no labels, nor have images/1.jpg beside captions/1.txt and img2dataset's
    00000/000000000.jpg.

    A .tar, a pattern such as 'cc3m/{00000..00331}.tar' or a folder of them is an existing WebDataset, img2dataset's
    for one: jpg, flac, txt, cls become image.jpg, audio.flac, text.txt and the label; --members says other names. A
    sample's key ends at the first dot of its file's name, what follows is the member: '2.0 (Clean).png' is the member
    '0 (clean).png' of the sample '2'. Names with more than lower case letters, digits, _ and - are left out and listed.

    Files are stored as they are unless one of --image-..., --audio-format, --sample-rate, --points-dtype is given;
    meshes (ply, obj, off, glb, gltf, stl) are sampled to points, scans (ply, pcd) keep theirs. What is made, and any
    array, is judged as `align shards check` does: points of a scan that are not finite are left out and counted, a
    mesh whose texture is missing has no colour, which is said. Pictures and sounds are not decoded unless written anew.

    The shards OUT/SPLIT-000000.tar, ... are alike in size and appear whole, with OUT/manifest.json beside them; those
    of an earlier run for the same split are replaced. A build that was stopped or killed goes on where it was when the
    same command is given again; the bytes of the result depend neither on that nor on --workers. What cannot be read is
    left out and listed in OUT/SPLIT-bad.jsonl; exit code 3 when that is more than --max-bad. A blank caption is a hole:
    left out and listed too, but it does not count.

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
        image_levels: black and white in images of more than 8 bits, as 0,4095 for 12 bits; they are written with 8
        audio_format: write sound as this, mono
        sample_rate: of sound in Hz; as flac where no format is given
        points_dtype: of point clouds
        workers: processes that read and re-encode
        anew: do not continue a build that was stopped
        max_bad: the share of samples with something unreadable above which the build stops; 1 never
        group: which samples are never each other's negatives: label, caption (those with equal ones), or a column
        separator: of the cells of a .csv or .tsv, where it is another than comma or tab: ';', '|', tab
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.classes import read_captions
    from align.commands.named import media as named_media
    from align.commands.named import split as names
    from align.commands.pairs import mapping, pairs, two_numbers
    from align.commands.progress import progress
    from align.curation import Recode
    from align.curation import build as make

    known = named_media(media)
    levels = two_numbers(image_levels, "--image-levels")
    recode = Recode(image_size, image_format, image_quality, audio_format, sample_rate, points_dtype, levels)

    with progress("shards") as say:
        written = make(
            source,
            out,
            split=split,
            per_shard=per_shard,
            modalities=names(modalities),
            columns=pairs(columns, "--columns"),
            literal=names(literal),
            template=read_captions(template),
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
            group=group,
            separator=separator,
            media=known,
        )
    _print(written, source, out, known)


def _print(written: dict[str, int], source: str, out: str, media: Media) -> None:
    from align.data.names import FIRST_DOT
    from align.data.places.patterns import typeable
    from align.files import read_json

    counts = {name: written.pop(name, 0) for name in ("left out", "bad", "ignored", "blank", "misnamed", "noted")}
    for name, n in written.items():
        print(f"{typeable(out, f'{name}-*.tar')}: {count_text(n, 'sample')}")
    lists = " and ".join(shlex.quote(f"{out}/{name}-bad.jsonl") for name in written if _has_list(out, name))
    if n := counts["left out"]:
        print(f"left out: {n} (rows without any modality, files of unknown suffix)")
        _print_unread(source, media)
    if n := counts["ignored"]:
        print(f"ignored: {n} members that name no modality; `align shards show {shlex.quote(source)}` says which")
    if n := counts["misnamed"]:
        print(f"left out: {count_text(n, 'member')} whose name no shard may hold: {FIRST_DOT}; see {lists}")
    if n := counts["blank"]:
        print(f"blank captions: {n}, left out as holes; see {lists}")
    if n := counts["bad"]:
        print(f"unreadable: {count_text(n, 'member')}, left out; see {lists}")
    if n := counts["noted"]:
        print(f"noted: {count_text(n, 'member')}, written; see {lists}, and `align shards check` for what to do")
    for name, about in read_json(Path(out) / "manifest.json")["splits"].items():
        if name in written and (n := about.get("repeated")):
            print(f"equal captions: {n} of the {about['samples']} {name} samples {EQUAL}")


def _print_unread(source: str, media: Media) -> None:
    """Print the suffixes of a folder's files that no modality reads, and how a related one among them is converted."""
    from align.commands.shown import plain
    from align.curation.sources.folder import find_unread
    from align.media.choice import advise

    found = find_unread(Path(source), media) if Path(source).is_dir() else {}
    if not found:
        return
    said = ", ".join(f"{suffix or 'none'} {len(paths)}" for suffix, paths in sorted(found.items()))
    print(plain(f"suffixes that are not read: {said}"))
    for suffix, paths in sorted(found.items()):
        if advice := advise(media, paths[0]):
            print(plain(f"a {suffix} file is not stored as it is; {advice}"))


def _has_list(out: str, split: str) -> bool:
    return (Path(out) / f"{split}-bad.jsonl").is_file()
