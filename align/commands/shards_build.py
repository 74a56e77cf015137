"""``align shards build`` makes shards from a table, a folder or other shards."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from align.commands.groups import Limits, Reencoding, Tables
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
    template: str = "{}",
    group: str | None = None,
    members: str = "",
    points: int = 4096,
    seed: int = 0,
    licence: str | None = None,
    workers: int = 0,
    anew: bool = False,
    media: str = "",
    tables: Tables,
    recode: Reencoding,
    limits: Limits,
) -> None:
    """Make shards from a table, a folder of your own files, or other shards

    A table (.csv, .tsv, .jsonl, .parquet) has a column per modality. A cell is the name of a file relative to the
    table, or the text itself. An empty cell is a missing modality. A caption is a string, and several captions are a
    list of strings. Further columns are label (or label.shape, label.colour, ... for several attributes), group
    (samples of one group are never each other's negatives), weight and key. The columns image.0, image.1, ... are
    several images of one sample, and text.neg is a hard negative.

    A folder holds CLASS/file, or train/CLASS/file and test/CLASS/file. The name of the class is the label. It also
    gives the caption and the group of files without a caption of their own. Files with one stem are one sample. A
    folder of plain files (1.jpg, 1.txt) has no labels. The same holds for images/1.jpg beside captions/1.txt, and for
    img2dataset's 00000/000000000.jpg.

    A .tar, a pattern such as 'cc3m/{00000..00331}.tar', or a folder of them is an existing WebDataset, such as
    img2dataset's. Its jpg, flac, txt and cls become image.jpg, audio.flac, text.txt and the label. --members states
    other names. The key of a sample ends at the first dot of a file's name, and the rest names the member: '2.0
    (Clean).png' is the member '0 (clean).png' of the sample '2'. A member whose name has other characters than lower
    case letters, digits, _ and - is left out and listed.

    A column regions holds the regions of a picture as a list, or its JSON: {text, box} with the box as fractions
    [left, top, right, bottom], {text, pixels} with pixels, or {text, mask} with the number of the region's pixels in
    the column mask (then one of --modalities). Without a caption a sample gets one of its regions: "three planes and a
    car". Both end in the json, from which --members region=json:regions/box reads them.

    Points are sampled from meshes (ply, obj, off, glb, gltf, stl). Scans (ply, pcd) keep their points, but points that
    are not finite are left out and counted. A mesh whose texture is missing gets no colour, and the build says so.
    Clouds and arrays are judged as `align shards check` judges them.

    The shards OUT/SPLIT-000000.tar, ... are alike in size. Each appears when it is complete, and OUT/manifest.json
    describes them. They replace the shards of an earlier build of the same split. A build that was stopped or killed
    resumes when the same command is given again. The bytes of the result depend neither on that nor on --workers.

    A member that cannot be read is left out and listed in OUT/SPLIT-bad.jsonl. The exit code is 3 when more than
    --max-bad of the samples have one. A blank caption is a hole: it is left out and listed too, but does not count.

    Args:
        source: the table, the folder, or the shards
        out: the folder for the shards
        split: the name of the shards, unless the folder has train and test folders
        template: captions from class names, where {} stands for the name. Several have | between them. Empty: none
        group: label, caption, or a column: samples with the same label, caption or cell are one group, and never each
            other's negatives
        members: members of an existing WebDataset under other names, of which the first that is there counts:
            text=json:caption|txt,image=jpg
        points: how many points are sampled on a mesh
        seed: the seed of that sampling
        licence: the licence of the content, for the manifest
        workers: processes that read and re-encode
        anew: start over where a stopped build could be resumed
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.classes import read_captions
    from align.commands.named import media as named_media
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.curation import build as make

    known = named_media(media)
    with progress("shards") as say:
        written = make(
            source,
            out,
            split=split,
            template=read_captions(template),
            group=group,
            members=mapping(members),
            points=points,
            seed=seed,
            licence=licence,
            workers=workers,
            resume=not anew,
            media=known,
            progress=say,
            recode=recode.recode(),
            **tables.settings(),
            **asdict(limits),
        )
    _print(written, source, out, known)


def _print(written: dict[str, int], source: str, out: str, media: Media) -> None:
    from align.data.names import FIRST_DOT
    from align.data.places.patterns import typeable
    from align.files import read_json

    kinds = ("left out", "bad", "ignored", "blank", "regions", "misnamed", "noted")
    counts = {name: written.pop(name, 0) for name in kinds}
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
    if n := counts["regions"]:
        print(f"regions without a good box or a text: {count_text(n, 'fault')}, written as they came; see {lists}")
    if n := counts["noted"]:
        print(f"noted: {count_text(n, 'member')}, written; see {lists}, and `align shards check` for what to do")
    for name, about in read_json(Path(out) / "manifest.json")["splits"].items():
        if name in written and (n := about.get("repeated")):
            print(f"equal captions: {n} of the {about['samples']} {name} samples {EQUAL}")


def _print_unread(source: str, media: Media) -> None:
    """Print the suffixes of a folder's files that no modality reads, and how one with a related suffix is converted."""
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
