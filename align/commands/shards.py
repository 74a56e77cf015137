"""``align shards build`` makes shards from a table or a folder."""

from __future__ import annotations


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
) -> None:
    """Make shards from a table or a folder of your own files

    A table (.csv, .tsv, .jsonl, .parquet) has a column per modality: names of files relative to the table, or the text
    itself; an empty cell is a missing modality. Further columns: label (or label.shape, label.colour, ... for several
    attributes), group (equal ones are never each other's negatives), weight and key; image.0, image.1 for several of
    a kind; text.neg for hard negatives. A folder holds CLASS/file, or train/CLASS/file and test/CLASS/file: the name of
    the class is the label and the caption.

    Files are stored as they are; meshes (ply, obj, off, glb, stl) are sampled to points. The shards
    OUT/SPLIT-000000.tar, ... appear whole, with OUT/manifest.json beside them; those of an earlier run for the same
    split are replaced.

    Args:
        source: the table or the folder
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
    """
    from align.commands.progress import progress
    from align.data import build as make

    with progress("shards") as say:
        written = make(
            source,
            out,
            split=split,
            per_shard=per_shard,
            modalities=_list(modalities, "--modalities"),
            columns=_pairs(columns),
            literal=_list(literal, "--literal") if literal else (),
            template=template.split("|"),
            points=points,
            seed=seed,
            licence=licence,
            progress=say,
        )
    left = written.pop("left out")
    for name, n in written.items():
        print(f"{out}/{name}-*.tar: {n} samples")
    if left:
        print(f"left out: {left} (rows without any modality, files of unknown suffix)")


def _list(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"{option} names nothing; separate names by commas")
    return names


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        if not name or not equals:
            raise ValueError(f"--columns {part!r}: write NAME=COLUMN, as in caption=text")
        pairs[name] = column
    return pairs
